"""httpcore2, which the stock transport of httpx2 is made of, under the official SDKs: for proxies and HTTP/2.

One exchange at a time on each connection, over HTTP/2 too: every connection has a pool of its own. Where httpcore2
shares one among streams, a stream that is left early is not reset: the provider went on sending, and each one left
counts for ever against the server's limit (of 120 requests at once, with a limit of 100 and one left early, 21 failed);
and a cancel in the middle of a write ends TLS for all. Here who leaves closes a connection that is nobody else's.
"""

import math
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from ssl import SSLContext
from typing import Final, Self, cast

import h2.exceptions
import httpcore2
import httpx2
import trio

from .proxies import Proxies
from .transport import KEEPALIVE_SECONDS, MAX_CONNECTIONS

_NAMES: Final[dict[type[Exception], type[httpx2.TransportError]]] = {
    httpcore2.ConnectTimeout: httpx2.ConnectTimeout,
    httpcore2.ReadTimeout: httpx2.ReadTimeout,
    httpcore2.WriteTimeout: httpx2.WriteTimeout,
    httpcore2.ConnectError: httpx2.ConnectError,
    httpcore2.ReadError: httpx2.ReadError,
    httpcore2.WriteError: httpx2.WriteError,
    httpcore2.ProxyError: httpx2.ProxyError,
    httpcore2.UnsupportedProtocol: httpx2.UnsupportedProtocol,
    httpcore2.LocalProtocolError: httpx2.LocalProtocolError,
    httpcore2.RemoteProtocolError: httpx2.RemoteProtocolError,
    trio.ClosedResourceError: httpx2.ReadError,  # closed in the middle of a handshake
}
# httpcore2 lets h2's own errors through where a body is read.
_ERRORS: Final[tuple[type[Exception], ...]] = (*_NAMES, h2.exceptions.H2Error)

_Origin = tuple[str, bytes, int | None]


class _Lane(httpcore2.TrioBackend):
    """A pool of one connection. It opens that connection's socket itself, so it can close it at any time, at once, and
    in whatever state a cancel left the layers above: httpcore2 forgets sockets that are cancelled in the handshake.
    """

    def __init__(self, origin: _Origin, context: SSLContext, proxy: httpx2.Proxy | None, http2: bool) -> None:
        self.origin = origin
        self.idle_since = -math.inf
        self.pool = httpcore2.AsyncConnectionPool(
            context, _core_proxy(proxy, context), max_connections=1, http2=http2, network_backend=self
        )
        self._socket: trio.socket.SocketType | None = None
        self._closed = False

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # as in the base class
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        stream = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        self._socket = stream.get_extra_info("socket")
        if self._closed:
            self.close()
        return stream

    @property
    def is_kept(self) -> bool:
        """Whether the connection is open and carries no exchange."""
        return not self._closed and any(connection.is_idle() for connection in self.pool.connections)

    @property
    def is_stale(self) -> bool:
        """Whether the server has said something since: a close, GOAWAY, or what nobody asked for."""
        return self._socket is None or self._socket.is_readable()

    def close(self) -> None:
        """Close the socket now, without a goodbye; who waits for it gets httpcore2's ReadError. Idempotent."""
        self._closed = True
        if self._socket is not None:
            self._socket.close()


class StockTransport(httpx2.AsyncBaseTransport):
    """Sends each request over a connection of its own, which is kept for the next one, through the proxy that `proxies`
    says.

    `http2`: speak HTTP/2 with servers that choose it in the TLS handshake; all others get HTTP/1.1. `ssl_context`
    defaults to httpx2's, which verifies; its ALPN protocols are set here. `max_connections` caps the requests under
    way; one beyond it waits for the pool timeout. A connection that was idle for `keepalive_seconds` is not used again,
    and closed when the next request starts or ends.

    Timeouts come from the request, as with TrioTransport, but TCP, the proxy's answer and TLS have one each. Errors are
    httpx2's. Cancelled at any await, or closed before its response is complete, a request's connection is closed at
    once. A server that announces its leave (GOAWAY) while it replies ends the reply with RemoteProtocolError. What a
    server sends behind its response is not noticed: h11 takes it for the next one.
    """

    def __init__(
        self,
        proxies: Proxies,
        *,
        http2: bool,
        ssl_context: SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
    ) -> None:
        self._proxies = proxies
        self._http2 = http2
        self._ssl_context = ssl_context or httpx2.create_ssl_context()
        self._keepalive_seconds = keepalive_seconds
        self._slots = trio.Semaphore(max_connections)
        self._idle: dict[_Origin, deque[_Lane]] = {}  # oldest first
        self._in_use: dict[_Lane, None] = {}  # a dict keeps its order, a set does not
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Connections in use, those being made included, and idle ones."""
        return len(self._in_use) + self.idle_connections

    @property
    def idle_connections(self) -> int:
        """Connections that wait for the next request."""
        return sum(map(len, self._idle.values()))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Returns the response once its head is here; its stream must be read to the end or closed.

        Raises httpx2.TransportError of all kinds; RuntimeError if the transport is closed.
        """
        await self._take_slot(request.extensions.get("timeout", {}).get("pool"))
        try:
            lane = self._enter(request.url)
        except BaseException:
            self._slots.release()
            raise
        try:
            response = await lane.pool.handle_async_request(_core_request(request))
        except BaseException as error:
            lane.close()
            self._leave(lane)
            if isinstance(error, _ERRORS):
                raise _renamed(error) from error
            raise
        # Not handed out as a Body (see base.BODY): that is closed without waiting, httpcore2's generators are not.
        body = _Body(self, lane, response)
        extensions = {"http_version": response.extensions["http_version"]}
        return httpx2.Response(response.status, headers=response.headers, stream=body, extensions=extensions)

    async def aclose(self) -> None:
        """Closes every connection; requests under way fail with httpx2.ReadError. Final. Not a checkpoint."""
        self._closed = True
        for lane in [*self._in_use, *(lane for idle in self._idle.values() for lane in idle)]:
            lane.close()
        self._idle.clear()

    async def _take_slot(self, seconds: float | None) -> None:
        try:
            with trio.fail_after(math.inf if seconds is None else seconds):
                await self._slots.acquire()
        except trio.TooSlowError as error:
            raise httpx2.PoolTimeout(f"no connection became free within {seconds:g} s") from error

    def _enter(self, url: httpx2.URL) -> _Lane:
        """Returns a lane for a request to `url`, kept or new."""
        if self._closed:
            raise RuntimeError("cannot send a request, the transport is closed")
        origin = (url.scheme, url.raw_host, url.port)
        self._close_expired()
        idle = self._idle.get(origin, ())
        while idle:
            lane = idle.pop()
            if not lane.is_stale:
                break
            lane.close()
        else:
            lane = _Lane(origin, self._ssl_context, self._proxies.of(url), self._http2)
        self._in_use[lane] = None
        return lane

    def _leave(self, lane: _Lane) -> None:
        """Takes back the lane and the slot of a request; called once for each. Keeps the lane if it is whole."""
        del self._in_use[lane]
        self._slots.release()
        if lane.is_kept and not self._closed:
            lane.idle_since = trio.current_time()
            self._idle.setdefault(lane.origin, deque()).append(lane)
        else:
            lane.close()
        self._close_expired()

    def _close_expired(self) -> None:
        last = trio.current_time() - self._keepalive_seconds
        for idle in self._idle.values():
            while idle and idle[0].idle_since <= last:
                idle.popleft().close()


class _Body(httpx2.AsyncByteStream):
    """The raw body of a response, in the pieces that httpcore2 makes of it."""

    def __init__(self, transport: StockTransport, lane: _Lane, response: httpcore2.Response) -> None:
        self._transport = transport
        self._lane: _Lane | None = lane
        self._response = response
        self._complete = False
        self._pieces = cast(AsyncGenerator[bytes, None], aiter(cast(httpx2.AsyncByteStream, response.stream)))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._lane is None and not self._complete:
            raise httpx2.StreamClosed
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            self._complete = True
            await self._response.aclose()  # gives the connection back to its pool
            if _has_an_end(self._response):
                self._leave()
            else:
                self.close()
            raise
        except BaseException as error:
            self.close()
            if isinstance(error, _ERRORS):
                raise _renamed(error) from error
            raise

    async def aclose(self) -> None:
        """Closes the connection first, so that it is closed even where the rest is cancelled."""
        self.close()
        await self._pieces.aclose()

    def close(self) -> None:
        """Closes the connection now, unless the response was read to its end."""
        if self._lane is not None:
            self._lane.close()
            self._leave()

    def _leave(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            self._transport._leave(lane)


def _has_an_end(response: httpcore2.Response) -> bool:
    """Whether the body ends in any way but with the connection. Where only TLS has ended httpcore2 would keep that."""
    if response.extensions["http_version"] == b"HTTP/2" or response.status in (204, 304):
        return True
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in response.headers)


def _core_request(request: httpx2.Request) -> httpcore2.Request:
    url = request.url
    return httpcore2.Request(
        request.method,
        httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=cast(httpx2.AsyncByteStream, request.stream),
        extensions=request.extensions,
    )


def _core_proxy(proxy: httpx2.Proxy | None, context: SSLContext) -> httpcore2.Proxy | None:
    if proxy is None:
        return None
    url = httpcore2.URL(scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=b"/")
    return httpcore2.Proxy(url, proxy.raw_auth, ssl_context=context if proxy.url.scheme == "https" else None)


def _renamed(error: Exception) -> httpx2.TransportError:
    return _NAMES.get(type(error), httpx2.RemoteProtocolError)(str(error))
