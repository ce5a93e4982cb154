"""A proxy that does not do what it should, and one that cannot be reached: told as the provider's failure, at once."""

from pathlib import Path

import msgspec
import pytest
import trio

from sluicegate.machine.errors import RunError
from sluicegate.providers.base import ProviderError, ProviderRejected, ProviderUnavailable
from sluicegate.providers.environment import provider_of
from sluicegate.providers.failures import PROXY, UNREACHABLE
from sluicegate.providers.proxies import Proxies
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.stock import StockTransport
from tests.providers.origin import client_tls, replying, running_origin
from tests.providers.proxy import Manner, running_proxy
from tests.providers.ways import DIALECTS, REQUEST

pytestmark = pytest.mark.sockets


async def refusal(url: str, transport: StockTransport, dialect: str) -> ProviderError:
    provider = provider_of(dialect, UpstreamOptions(max_retries=0), transport, "key", url)
    with pytest.raises(ProviderError) as caught:
        async with provider.open(REQUEST):
            pass
    assert transport.open_connections == 0
    return caught.value


TUNNELS = {
    Manner.ASK_PASSWORD: msgspec.structs.replace(PROXY, retryable=False),
    Manner.REFUSE: msgspec.structs.replace(PROXY, retryable=False),
    Manner.FAIL: PROXY,
    Manner.HANG_UP: UNREACHABLE,
    Manner.GIBBERISH: UNREACHABLE,
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize(("manner", "error"), TUNNELS.items(), ids=lambda value: getattr(value, "name", ""))
async def test_a_tunnel_that_is_not_made(manner: Manner, error: RunError, http2: bool, dialect: str) -> None:
    async with running_proxy(manner) as proxy:
        proxies = Proxies.of_setting(f"http://user:wrong@127.0.0.1:{proxy.port}")
        transport = StockTransport(proxies, http2=http2, ssl_context=client_tls())
        failure = await refusal("https://provider.invalid", transport, dialect)
        assert (type(failure), failure.error) == (ProviderUnavailable, error)
        assert [line.split()[0:2] for line in proxy.asked] == [["CONNECT", "provider.invalid:443"]]
        assert "wrong" not in repr(failure.__cause__) + str(failure)


FORWARDS = {
    Manner.ASK_PASSWORD: (ProviderRejected, False),
    Manner.REFUSE: (ProviderRejected, False),
    Manner.FAIL: (ProviderUnavailable, True),
    Manner.HANG_UP: (ProviderUnavailable, True),
    Manner.GIBBERISH: (ProviderUnavailable, True),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("manner", "expected"), FORWARDS.items(), ids=lambda value: getattr(value, "name", ""))
async def test_a_request_that_is_not_passed_on(
    manner: Manner, expected: tuple[type[ProviderError], bool], dialect: str
) -> None:
    """Without TLS a proxy's refusal is a response like any other."""
    async with running_proxy(manner) as proxy:
        transport = StockTransport(Proxies.of_setting(f"http://127.0.0.1:{proxy.port}"), http2=False)
        failure = await refusal("http://provider.invalid", transport, dialect)
        assert (type(failure), failure.error.retryable) == expected


@pytest.mark.parametrize("url", ["http://provider.invalid", "https://provider.invalid"])
async def test_a_proxy_that_is_not_there(url: str) -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can take the port
        proxies = Proxies.of_setting(f"http://127.0.0.1:{unused.getsockname()[1]}")
        failure = await refusal(url, StockTransport(proxies, http2=True, ssl_context=client_tls()), "openai_chat")
        assert (type(failure), failure.error) == (ProviderUnavailable, UNREACHABLE)


async def test_a_certificate_must_verify_behind_a_proxy_too(tmp_path: Path) -> None:
    async with running_origin(replying(), tmp_path, tls=True) as origin, running_proxy() as proxy:
        for context, url in (
            (None, origin.url),  # httpx2's own default does not know our authority
            (client_tls(), origin.url.replace("127.0.0.1", "localhost")),
        ):
            transport = StockTransport(Proxies.of_setting(proxy.url), http2=True, ssl_context=context)
            failure = await refusal(url, transport, "openai_chat")
            assert failure.error == UNREACHABLE
        assert origin.asked == []


async def test_a_host_that_needs_no_proxy_gets_none(tmp_path: Path) -> None:
    reply = b"data: [DONE]\n\n"
    async with running_origin(replying(reply), tmp_path, tls=False) as origin, running_proxy(Manner.REFUSE) as proxy:
        proxies = Proxies.of_environment({"HTTP_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"})
        transport = StockTransport(proxies, http2=False)
        provider = provider_of("openai_chat", UpstreamOptions(max_retries=0), transport, "key", origin.url)
        async with provider.open(REQUEST) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == reply
        assert proxy.asked == []
        await provider.aclose()
