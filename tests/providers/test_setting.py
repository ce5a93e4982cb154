"""The setting and the environment, all the way to a provider: what it sees is what was chosen."""

from pathlib import Path

import pytest

from sluicegate.providers.environment import from_environment
from sluicegate.providers.sdk import Transport, UpstreamOptions
from tests.path import path
from tests.providers.origin import CA, replying, running_origin
from tests.providers.proxy import running_proxy
from tests.providers.ways import REQUEST

pytestmark = pytest.mark.sockets

VERSIONS = {Transport.DIRECT: "1.1", Transport.STOCK: "1.1", Transport.STOCK_HTTP2: "2"}


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@pytest.mark.parametrize("source", ["", "setting", "environment"])
@pytest.mark.parametrize("transport", Transport)
async def test_a_setting_is_what_the_provider_sees(
    transport: Transport, source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(CA.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    reply = path.FOLLOW_UPS["anthropic" if name == "anthropic" else "openai_chat"]
    async with running_origin(replying(reply), tmp_path, tls=True) as origin, running_proxy() as proxy:
        env = {f"{name.upper()}_API_KEY": "key", f"{name.upper()}_BASE_URL": origin.url}
        if source == "environment":
            env["HTTPS_PROXY"] = proxy.url
        set_proxy = proxy.url if source == "setting" and transport is not Transport.DIRECT else ""
        models = from_environment(env, UpstreamOptions(transport=transport, proxy=set_proxy))
        provider, _ = models.resolve("")
        async with provider.open(REQUEST) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == reply
        await models.aclose()
        assert [asked.http_version for asked in origin.asked] == [VERSIONS[transport]]
        assert len(proxy.asked) == (transport is not Transport.DIRECT and source != "")
