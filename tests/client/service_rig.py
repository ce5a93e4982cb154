"""Ways to the real service on connections that are cut by plan: in memory, and through a proxy on real sockets."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain, repeat
from typing import Any, Self

import httpx2
import trio

from sluicegate.client import Client

from ..service.harness import Exchange, Stack
from .rig import PATIENT, Cut, How


class _Body(httpx2.AsyncByteStream):
    def __init__(
        self, transport: "StackTransport", exchange: Exchange, left: int | None, how: How, timeout: float
    ) -> None:
        self._transport = transport
        self._exchange = exchange
        self._left = left
        self._how = how
        self._timeout = timeout
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            with trio.fail_after(self._timeout):
                data = None if self._left == 0 else await self._exchange.next()
        except trio.TooSlowError as error:
            await self.aclose()
            raise httpx2.ReadTimeout("silent") from error
        except BaseException:
            await self.aclose()
            raise
        cut = self._left is not None and (self._left == 0 or len(data or b"") > self._left)
        if data is not None and self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if not data:
            await self.aclose()
            if cut and self._how is How.RESET:
                raise httpx2.ReadError("reset")
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.open -= 1
            await self._exchange.leave()


class StackTransport(httpx2.AsyncBaseTransport):
    """The application called directly. A cut counts the bytes of the body."""

    def __init__(self, up: Stack, cuts: Iterable[Cut | None] = ()) -> None:
        self.open = 0
        self.methods: list[str] = []
        self.up = up
        self.on_request: Callable[[], None] = lambda: None
        self._cuts: Iterator[Cut | None] = chain(cuts, repeat(None))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        self.methods.append(request.method)
        self.on_request()
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        sent = b"".join([piece async for piece in request.stream])
        exchange = await self.up.open(request.method, request.url.path, sent, dict(request.headers))
        cut = next(self._cuts)
        self.open += 1
        left, how = (None, How.CLOSED) if cut is None else cut
        body = _Body(self, exchange, left, how, request.extensions["timeout"]["read"])
        try:
            await exchange.head()
        except BaseException:
            await body.aclose()
            raise
        return httpx2.Response(exchange.status, headers=exchange.headers, stream=body)


@asynccontextmanager
async def proxied(url: str, cuts: Iterable[Cut | None]) -> AsyncIterator[str]:
    """A proxy on a real socket in front of `url`; each of its connections is cut by plan. Gives its URL."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    plan = chain(cuts, repeat(None))

    async def up(client: trio.SocketStream, server: trio.SocketStream) -> None:
        async for data in client:
            await server.send_all(data)
        await server.send_eof()

    async def down(server: trio.SocketStream, client: trio.SocketStream, cut: Cut | None) -> None:
        left = 1 << 60 if cut is None else cut.at
        async for data in server:
            await client.send_all(data[:left])
            left -= len(data)
            if left <= 0:
                return

    async def connect(client: trio.SocketStream) -> None:
        cut = next(plan)
        try:
            async with await trio.open_tcp_stream(host, int(port)) as server, trio.open_nursery() as nursery:
                nursery.start_soon(up, client, server)
                await down(server, client, cut)
                nursery.cancel_scope.cancel()
        except* trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, connect, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def asking(up: Stack, cuts: Sequence[Cut | None] = (), **options: Any) -> AsyncIterator[Client]:
    """A client of `up` whose connections are cut by plan, over what `up` has: sockets or none."""
    options = {"jitter": lambda: 0.0, "resume": PATIENT, **options}
    if up.url:
        async with proxied(up.url, cuts) as url, Client(url, timeout=5, **options) as client:
            yield client
        return
    transport = StackTransport(up, cuts)
    async with Client("http://service", transport=transport, **options) as client:
        yield client
    assert transport.open == 0
