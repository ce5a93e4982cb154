"""The setting and the environment, all the way to a provider: what it sees is what was chosen."""

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sluicegate.providers.sdk import Transport, UpstreamOptions
from sluicegate.providers.table import from_tables
from tests.path import path
from tests.providers.origin import CA, Send, replying, running_origin
from tests.providers.proxy import running_proxy
from tests.providers.ways import BOUND, REQUEST

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
        models = from_tables({}, {}, UpstreamOptions(transport=transport, proxy=set_proxy), env)
        async with models.resolve("").candidates[0].provider.open(REQUEST) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == reply
        await models.aclose()
        assert [asked.http_version for asked in origin.asked] == [VERSIONS[transport]]
        assert len(proxy.asked) == (transport is not Transport.DIRECT and source != "")


async def silence(_send: Send) -> None:
    """Not even a head."""
    await trio.sleep_forever()


@pytest.mark.parametrize("transport", Transport)
async def test_more_requests_than_max_upstreams_wait(transport: Transport, tmp_path: Path) -> None:
    async def ask() -> None:
        async with models.resolve("").candidates[0].provider.open(REQUEST) as chunks:
            async for _ in chunks:
                pass

    async with running_origin(silence, tmp_path, tls=False) as origin:
        env = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": origin.url}
        models = from_tables({}, {}, UpstreamOptions(transport=transport, max_upstreams=2), env)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
            with trio.fail_after(BOUND):
                while len(origin.asked) < 2:
                    await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked(0.02)
            assert len(origin.asked) == 2
            nursery.cancel_scope.cancel()
        await models.aclose()
