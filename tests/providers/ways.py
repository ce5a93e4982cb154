"""Every way from an SDK to a provider: which transport, by which protocol, through which proxy."""

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import pytest
import trio

from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.providers.environment import provider_of
from sluicegate.providers.proxies import Proxies
from sluicegate.providers.sdk import SdkProvider, UpstreamOptions
from sluicegate.providers.stock import StockTransport
from sluicegate.providers.transport import TrioTransport
from tests.providers.origin import Answer, Origin, client_tls, running_origin
from tests.providers.proxy import Manner, Proxy, running_proxy

AnyTransport: TypeAlias = TrioTransport | StockTransport

BOUND: Final = 2.0  # seconds within which what is left by a request has to be gone
DIALECTS: Final = ("openai_chat", "openai_responses", "anthropic")
REQUEST: Final = Request("m", (UserMessage((TextPart("hello"),)),))


class Way(NamedTuple):
    """`manner` is that of the proxy, None where there is none."""

    name: str
    stock: bool
    tls: bool
    http2: bool = False
    manner: Manner | None = None


WAYS: Final = (
    Way("direct", stock=False, tls=False),
    Way("direct-tls", stock=False, tls=True),
    Way("stock", stock=True, tls=False),
    Way("stock-tls", stock=True, tls=True),
    Way("stock-proxy", stock=True, tls=False, manner=Manner.PASS),
    Way("stock-proxy-password", stock=True, tls=False, manner=Manner.ASK_PASSWORD),
    Way("stock-proxy-tls", stock=True, tls=True, manner=Manner.PASS),
    Way("stock-http2", stock=True, tls=True, http2=True),
    Way("stock-http2-without-tls", stock=True, tls=False, http2=True),
    Way("stock-http2-proxy-password", stock=True, tls=True, http2=True, manner=Manner.ASK_PASSWORD),
)
STOCK_WAYS: Final = tuple(way for way in WAYS if way.stock)
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
every_stock_way = pytest.mark.parametrize("way", STOCK_WAYS, ids=lambda way: way.name)


class Road:
    """A way under a running provider."""

    def __init__(self, way: Way, origin: Origin, proxy: Proxy | None) -> None:
        self.way = way
        self.origin = origin
        self.proxy = proxy
        self.transport = _transport(way, proxy)

    def provider(self, dialect: str) -> SdkProvider:
        """Return a provider that goes this way. Not retried, so that no failure is hidden."""
        base_url = self.origin.url if dialect == "anthropic" else f"{self.origin.url}/v1"
        return provider_of(dialect, UpstreamOptions(max_retries=0), self.transport, "key", base_url)

    async def renew(self) -> None:
        """Close the transport and take a new one, which has no connection yet."""
        await self.transport.aclose()
        self.transport = _transport(self.way, self.proxy)

    @property
    def sockets(self) -> int:
        """How many sockets this process has towards the provider, or towards the proxy where there is one."""
        url = self.origin.url if self.proxy is None else self.proxy.url
        return _peers()[int(url.rpartition(":")[2])]

    async def wait_gone(self) -> None:
        """Wait until the provider and the proxy have nothing of the requests that were left. Fails after BOUND."""
        await self.origin.wait_idle(BOUND)
        with trio.fail_after(BOUND):
            while self.proxy is not None and self.proxy.alive > self.transport.idle_connections:
                await trio.lowlevel.checkpoint()


def _peers() -> Counter[int]:
    """The ports that sockets of this process are connected to."""
    found: Counter[int] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile, or listening
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as found_socket:
                    if found_socket.family == socket.AF_INET:
                        found[found_socket.getpeername()[1]] += 1
    return found


@asynccontextmanager
async def running(way: Way, answer: Answer, folder: Path) -> AsyncIterator[Road]:
    """Run provider and proxy; at the end the transport is closed and must leave nothing."""
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(running_origin(answer, folder, tls=way.tls))
        proxy = await stack.enter_async_context(running_proxy(way.manner)) if way.manner else None
        road = Road(way, origin, proxy)
        yield road
        await road.transport.aclose()
        assert (road.transport.open_connections, road.sockets) == (0, 0)
        await road.wait_gone()


def _transport(way: Way, proxy: Proxy | None) -> AnyTransport:
    tls = client_tls() if way.tls else None
    if not way.stock:
        return TrioTransport(ssl_context=tls)
    return StockTransport(Proxies.of_setting(proxy.url) if proxy else Proxies({}), http2=way.http2, ssl_context=tls)
