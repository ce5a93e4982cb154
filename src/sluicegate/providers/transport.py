"""An httpx2 transport on Trio sockets for the official SDKs: HTTP/1.1, keep-alive, one body item for each socket read.

Use it as `httpx2.AsyncClient(transport=TrioTransport())`, the `http_client` of an SDK. Proxies and HTTP/2 are not
spoken here: for them, and for anything else that this page does not offer, select httpx2's stock transport.

Why not the stock transport: for each chunk of a paced stream it pays for a lock, a cancel scope and h11, several times
the cost of the wake-up itself. Here a read is one wait and one parse; a single task watches the timeouts of all
connections. That task is a Trio system task: it starts with the first connection, ends with the last one, and Trio
cancels it at the end of the run, when it closes what was left open.
"""

import math
import re
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from typing import NamedTuple, Self

import httpx2
import trio

from .base import BODY
from .connection import Connection, ResponseParser, Stage, open_connection

MAX_CONNECTIONS = 1000  # per origin, the SDKs' own default
KEEPALIVE_SECONDS = 30.0  # less than the idle timeouts of the providers' load balancers

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_ILLEGAL_IN_VALUE = re.compile(rb"[\x00\r\n]")


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


class _Timeouts(NamedTuple):
    connect: float
    read: float
    write: float
    pool: float


class _Pool:
    """The connections to one origin: a slot for each request under way, and the idle ones, oldest first."""

    def __init__(self, max_connections: int) -> None:
        self.slots = trio.Semaphore(max_connections)
        self.idle: deque[tuple[float, Connection]] = deque()


class TrioTransport(httpx2.AsyncBaseTransport):
    """Sends each request over a pooled connection of its own.

    `ssl_context` defaults to httpx2's, which verifies; HTTP/1.1 is set as its only ALPN protocol. `max_connections`
    caps the connections to one origin, those in use and the idle ones together; a request beyond it waits for the pool
    timeout. An idle connection is closed after `keepalive_seconds`.

    Timeouts come from the request (`extensions["timeout"]`, seconds or None): connect covers DNS, TCP and TLS; read and
    write are the longest wait for one piece of progress; pool the wait for a slot. Errors are httpx2's. Cancelled at
    any await, or closed before its response is complete on the wire, a request's connection is closed at once and
    synchronously, so the provider sees the end; a complete response gives its connection back, read or not.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
    ) -> None:
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._keepalive_seconds = keepalive_seconds
        self._pools: dict[_Origin, _Pool] = {}
        self._in_use: dict[Connection, None] = {}  # a dict keeps its order, a set does not
        self._alarm: trio.CancelScope | None = None  # None while the watch is not running
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Connections in use and idle ones."""
        return len(self._in_use) + self.idle_connections

    @property
    def idle_connections(self) -> int:
        """Connections that wait in the pool for the next request."""
        return sum(len(pool.idle) for pool in self._pools.values())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Returns the response once its head is here; its stream must be read to the end or closed.

        Raises httpx2.TransportError of all kinds; RuntimeError if the transport is closed.
        """
        origin = _origin(request.url)
        timeouts = _timeouts(request)
        head = _head(request)
        pool = self._pools.setdefault(origin, _Pool(self._max_connections))
        await _take_slot(pool, timeouts.pool)
        try:
            connection = self._reuse(pool) or await self._connect(origin, timeouts.connect)
        except BaseException:
            pool.slots.release()
            self._stop_watch_if_unused()
            raise
        connection.read_timeout = timeouts.read
        connection.write_timeout = timeouts.write
        self._in_use[connection] = None
        self._watch(trio.current_time() + timeouts.read)
        body = _Body(self, pool, connection, ResponseParser(request.method))
        try:
            await body.open(connection, request, head)
        except BaseException:
            body.close()
            raise
        parser = body.parser
        extensions = {"http_version": parser.http_version, BODY: body}
        return httpx2.Response(parser.status, headers=parser.headers, stream=body, extensions=extensions)

    async def aclose(self) -> None:
        """Closes every connection; requests under way fail with httpx2.ReadError. Final. Not a checkpoint."""
        self._closed = True
        self._close_all("the transport was closed")

    def _release(self, pool: _Pool, connection: Connection, *, reusable: bool) -> None:
        """Takes back the connection and the slot of a request; called once for each, by its body."""
        # Absent if the transport was closed meanwhile.
        if reusable and connection in self._in_use:
            now = trio.current_time()
            pool.idle.append((now, connection))
            self._watch(now + self._keepalive_seconds)
        else:
            connection.close()
        self._in_use.pop(connection, None)
        pool.slots.release()
        self._stop_watch_if_unused()

    def _reuse(self, pool: _Pool) -> Connection | None:
        if self._closed:
            raise RuntimeError("cannot send a request, the transport is closed")
        while pool.idle:
            since, connection = pool.idle.pop()
            if trio.current_time() < since + self._keepalive_seconds and not connection.is_stale():
                return connection
            connection.close()
        return None

    async def _connect(self, origin: _Origin, seconds: float) -> Connection:
        tls = None
        if origin.scheme == "https":
            if self._ssl_context is None:
                self._ssl_context = httpx2.create_ssl_context()
            tls = self._ssl_context
            tls.set_alpn_protocols(["http/1.1"])
        try:
            with trio.fail_after(seconds):
                connection = await open_connection(origin.host, origin.port, tls)
        except trio.TooSlowError as exc:
            raise httpx2.ConnectTimeout(f"no connection to {origin.host} within {seconds:g} s") from exc
        if self._closed:
            connection.close()
            raise RuntimeError("cannot send a request, the transport is closed")
        return connection

    def _close_all(self, why: str) -> None:
        for pool in self._pools.values():
            for _, connection in pool.idle:
                connection.close()
            pool.idle.clear()
        for connection in self._in_use:
            connection.close(httpx2.ReadError(why))
        self._in_use.clear()
        self._stop_watch_if_unused()

    def _watch(self, due: float) -> None:
        """Has the watch look at the connections at `due`, on Trio's clock, or before."""
        if self._alarm is None:
            self._alarm = trio.CancelScope(deadline=due)
            trio.lowlevel.spawn_system_task(self._keep_watch)
        elif due < self._alarm.deadline:
            self._alarm.deadline = due

    def _stop_watch_if_unused(self) -> None:
        if self._alarm is not None and not self.open_connections:
            self._alarm.cancel()

    async def _keep_watch(self) -> None:
        try:
            while self._alarm is not None:
                with self._alarm:
                    await trio.sleep_forever()
                due = self._close_overdue()
                self._alarm = trio.CancelScope(deadline=due) if self.open_connections else None
        finally:
            self._alarm = None
            self._close_all("the Trio run has ended")

    def _close_overdue(self) -> float:
        """Closes what has waited too long; returns when to look again."""
        now = trio.current_time()
        look_again = math.inf
        for connection in self._in_use:
            due = connection.waiting_since + connection.read_timeout
            if due <= now:
                connection.close(httpx2.ReadTimeout(f"the peer sent no bytes for {connection.read_timeout:g} s"))
            else:
                look_again = min(look_again, due, now + connection.read_timeout)
        for pool in self._pools.values():
            while pool.idle and pool.idle[0][0] + self._keepalive_seconds <= now:
                pool.idle.popleft()[1].close()
            if pool.idle:
                look_again = min(look_again, pool.idle[0][0] + self._keepalive_seconds)
        return look_again


class _Body(httpx2.AsyncByteStream):
    """One exchange on a connection, and the raw body of its response: an item is all that one socket read brought."""

    def __init__(self, transport: TrioTransport, pool: _Pool, connection: Connection, parser: ResponseParser) -> None:
        self.parser = parser
        self._transport = transport
        self._pool = pool
        self._connection: Connection | None = connection

    async def open(self, connection: Connection, request: httpx2.Request, head: bytes) -> None:
        """Sends the request and reads up to the end of the head of its response."""
        try:
            await _send(connection, request, head)
        except httpx2.WriteError:
            # A server may refuse a request half-way (401, 413) and hang up: its answer says more than the broken pipe.
            self.parser.forbid_reuse()
        while self.parser.stage is Stage.HEAD:
            self._feed(await connection.receive())
            if self.parser.stage is Stage.HEAD:
                self.parser.take()  # there is no body yet, but perhaps a failure to raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        parser = self.parser
        try:
            while not parser.pending and parser.failure is None and parser.stage is not Stage.COMPLETE:
                if self._connection is None:
                    raise httpx2.StreamClosed  # noqa: TRY301 - a function more would cost every token
                self._feed(await self._connection.receive())
            data = parser.take()
        except BaseException:
            self.close()
            raise
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """Not a checkpoint: it cannot be cancelled half-way."""
        self.close()

    def close(self) -> None:
        """Ends the exchange: the connection goes back to the pool if the response is complete, and is closed if not."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.parser.close()
            self._transport._release(self._pool, connection, reusable=self.parser.reusable)

    def _feed(self, data: bytes) -> None:
        if data:
            self.parser.feed(data)
        else:
            self.parser.eof()
        if self.parser.stage is Stage.COMPLETE:
            self.close()


def _origin(url: httpx2.URL) -> _Origin:
    if url.scheme not in ("http", "https"):
        raise httpx2.UnsupportedProtocol(f"the scheme {url.scheme!r} is not http or https")
    return _Origin(url.scheme, url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80))


def _timeouts(request: httpx2.Request) -> _Timeouts:
    given = request.extensions.get("timeout", {})
    return _Timeouts(*(math.inf if given.get(name) is None else given[name] for name in _Timeouts._fields))


async def _take_slot(pool: _Pool, seconds: float) -> None:
    try:
        pool.slots.acquire_nowait()
    except trio.WouldBlock:
        try:
            with trio.fail_after(seconds):
                await pool.slots.acquire()
        except trio.TooSlowError as exc:
            raise httpx2.PoolTimeout(f"no connection became free within {seconds:g} s") from exc


def _head(request: httpx2.Request) -> bytes:
    """Encodes the request line and the headers; raises httpx2.LocalProtocolError where they could break the framing."""
    method, target = request.method.encode(), request.url.raw_path
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise httpx2.LocalProtocolError("the request has an illegal method or target")
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    for name, value in request.headers.raw:
        if not _TOKEN.fullmatch(name) or _ILLEGAL_IN_VALUE.search(value):
            raise httpx2.LocalProtocolError(f"the request has an illegal header {name!r}")  # its value may be a secret
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


async def _send(connection: Connection, request: httpx2.Request, head: bytes) -> None:
    """Sends head and body; the head travels with the first bytes of the body."""
    if not isinstance(request.stream, httpx2.AsyncByteStream):
        raise TypeError("the body of the request is not an async stream")
    chunked = request.headers.get("transfer-encoding", "").lower() == "chunked"
    left = math.inf if chunked else int(request.headers.get("content-length", "0"))
    pending = head
    parts = aiter(request.stream)
    try:
        async for part in parts:
            left -= len(part)
            if left < 0:
                break
            if part:
                await connection.send(pending + (b"%x\r\n%b\r\n" % (len(part), part) if chunked else part))
                pending = b""
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()
    if not chunked and left:
        raise httpx2.LocalProtocolError("the body of the request is not as long as its content-length says")
    if chunked:
        pending += b"0\r\n\r\n"
    if pending:
        await connection.send(pending)
