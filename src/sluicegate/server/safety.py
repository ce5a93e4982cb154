"""Hypercorn's Trio worker made safe: its connections, and HTTP/1.1. Each override names the fault that it mends.

The faults of the release, by the names that the tests use (HTTP/2's own are in `safety_h2`):

H1  `protocol_send` waits for the client under a shield without a deadline: nothing ends a client that stops reading.
H2  An exception in one connection ends the worker.
H5  The timer of an idle connection is armed by the task of the application, which may be cancelled just then: the
    connection never times out, and holds up a shutdown.
H6  A pipelined request behind a running response stops the reading: the client's leave is not seen.
H7  A request with a length and chunks is taken by its chunks, and its connection goes on: what a proxy in front passed
    on as a part of its body is run as a request of its own (RFC 9112, section 6.3).
H8  An answer that comes before the end of its request's body ends the connection without saying so, and at once: the
    next request on it is lost, or the answer itself by the reset that unread bytes cause (RFC 9112, section 9.6).

Beside these: the head of a first request has no deadline, connections have no cap, TLS is closed without
close_notify, and a connection that the application's task closes stays open when that task is cancelled.
"""

import importlib.metadata
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Literal

import h11
import hypercorn.protocol
import hypercorn.protocol.h2
import hypercorn.trio.run
import hypercorn.trio.tcp_server
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.typing import AppWrapper, LifespanState

from ..machine.errors import SluicegateError
from .messages import SafeTaskGroup
from .options import ServerOptions, note_eviction, options_of
from .safety_h2 import SHIELD_SECONDS, SafeH2Protocol, SafeStreamBuffer
from .writer import GONE, Transport, Writer

HYPERCORN: Final = "0.18.0"  # the release that the overrides are made for
_LENGTHS: Final = {b"content-length", b"transfer-encoding"}


class UnknownHypercorn(SluicegateError):
    """The overrides are made for another release of Hypercorn; the message names both."""


class SafeContext(WorkerContext):
    """What the connections of a worker share: who idles, and how many there are."""

    def __init__(self, max_requests: int | None) -> None:
        super().__init__(max_requests)
        self.idle: set[SafeTCPServer] = set()
        self.terminated = _Terminated(self.idle)
        self._addresses: Counter[str] = Counter()

    @contextmanager
    def counted(self, stream: trio.SocketStream, options: ServerOptions) -> Iterator[Literal["taken", "refused"]]:
        """Count a connection while it lasts; say whether the caps let it in. Raises OSError where it is gone."""
        address = str(stream.socket.getpeername()[0])
        self._addresses[address] += 1
        counts = (self._addresses.total(), self._addresses[address])
        caps = (options.max_connections, options.max_connections_per_address)
        try:
            yield "refused" if any(0 < cap < count for cap, count in zip(caps, counts, strict=True)) else "taken"
        finally:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]


class _Terminated(EventWrapper):
    """Closes idle connections when it is set (H5: not by a task for each of them)."""

    def __init__(self, idle: set["SafeTCPServer"]) -> None:
        super().__init__()
        self._idle = idle

    async def set(self) -> None:
        await super().set()
        for server in self._idle:
            server.close_soon()


class _Timer:
    """Stands in for the task that closes idle connections (H5): no checkpoint, so no cancellation comes between."""

    def __init__(self, server: "SafeTCPServer") -> None:
        self._server = server

    async def restart(self, _task_group: object, _action: Callable[[], Awaitable[None]]) -> None:
        self._server.idle()

    async def stop(self) -> None:
        self._server.busy()


class SafeTCPServer(TCPServer):
    """One connection. Its own task alone reads, times out and closes; any task may write."""

    context: SafeContext

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream,
    ) -> None:
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]  # Hypercorn means both
        self._options = options_of(config)
        self._plain = stream if isinstance(stream, trio.SocketStream) else stream.transport_stream
        self.writer = Writer(self._plain, self._options, partial(note_eviction, config))
        self._tls: trio.SSLStream[trio.SocketStream] | None = None
        if not isinstance(stream, trio.SocketStream):
            stream.transport_stream = Transport(self._plain, self.writer)  # type: ignore[assignment]  # the same to TLS
            self._tls = stream
        self.idle_task = _Timer(self)  # type: ignore[assignment]
        self._open = trio.CancelScope()
        self._receiving = trio.CancelScope()

    async def run(self) -> None:
        """Serve the connection to its end.

        H2: what goes wrong here stays here. Connections above the caps are refused.
        """
        try:
            with self.context.counted(self._plain, self._options) as admission:
                if admission == "refused":
                    await self.writer.abort()
                else:
                    await super().run()
        except* GONE:
            pass
        except* Exception:
            await self.config.log.exception("a connection failed")
        finally:
            self.context.idle.discard(self)

    async def protocol_send(self, event: Event) -> None:
        """Send, close or arm the timer, as `event` says.

        H1: the writer waits, without a shield and for as long as its patience lasts; only the encryption is shielded
        (a part of it would spoil the connection), and that does not wait for the client. Closing is left to the
        connection's own task, because the application's may be cancelled in the midst of it.
        """
        if isinstance(event, RawData):
            try:
                if self._tls is None:
                    self.writer.write(event.data)
                else:
                    await self._encrypt(event.data, self._tls)
                await self.writer.drain()
            except GONE:
                await self.writer.abort()
                await self.protocol.handle(Closed())
                self.close_soon()
        elif isinstance(event, Closed):
            await self.protocol.handle(Closed())
            self.close_soon()
        else:
            await super().protocol_send(event)

    def idle(self) -> None:
        """The client has no request here: it has to make one in time. Synchronous (H5)."""
        protocol = self.protocol.protocol
        self.context.idle.add(self)
        asked = protocol.keep_alive_requests > 0
        wait = self._options.keep_alive_seconds if asked else self._options.header_seconds
        self._open.deadline = trio.current_time() + wait
        if self.context.terminated.is_set():
            self.close_soon()
        elif isinstance(protocol, SafeH11Protocol) and protocol.is_resumable:
            self._receiving.cancel()

    def busy(self) -> None:
        """A request has come. Synchronous."""
        self.context.idle.discard(self)
        self._open.deadline = float("inf")

    def close_soon(self) -> None:
        """Let the connection's own task close it. Synchronous."""
        self._open.cancel()

    async def _read_data(self) -> None:
        with self._open:
            while await self._read():
                pass
        self.context.idle.discard(self)
        await self.protocol.handle(Closed())
        await self._close()

    async def _read(self) -> bool:
        """Handle what the client sends next, or what it sent while the response before that was running (H6)."""
        protocol = self.protocol.protocol
        if isinstance(protocol, SafeH11Protocol) and protocol.is_resumable:
            self._begin_head()
            await protocol.resume()
            return True
        # A scope for this read alone: it may be cancelled when the bytes are here already, and must not reach further.
        with trio.CancelScope() as self._receiving:
            try:
                data = bytes(await self.stream.receive_some(MAX_RECV))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
        if self._receiving.cancelled_caught:
            return True
        if self in self.context.idle and isinstance(protocol, SafeH11Protocol):
            self._begin_head()
        await self.protocol.handle(RawData(data))
        return data != b""

    def _begin_head(self) -> None:
        self._open.deadline = min(self._open.deadline, trio.current_time() + self._options.header_seconds)

    async def _encrypt(self, data: bytes, tls: trio.SSLStream[trio.SocketStream]) -> None:
        with trio.move_on_after(SHIELD_SECONDS, shield=True) as scope:
            async with self.send_lock:
                await tls.send_all(data)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError

    async def _close(self) -> None:
        """Close in time, with close_notify under TLS. H8: what is still on its way is read first, and thrown away."""
        protocol = self.protocol.protocol
        lingers = isinstance(protocol, SafeH11Protocol) and protocol.is_ahead
        with trio.move_on_after(self._options.close_seconds):
            try:
                await self.writer.drain()
                if self._tls is None:
                    await self._plain.send_eof()
                while lingers and await self._plain.receive_some(MAX_RECV):
                    pass
                if self._tls is not None:
                    # As long as it may lack the other side's close_notify, Trio's TLS does not send its own.
                    self._tls._https_compatible = False
                    await self._tls.aclose()
            except GONE:
                pass
        await self.writer.abort()


class _Parked(Exception):
    """A request waits behind a running response."""


class _TwoLengths(Exception):
    """A request has a length and chunks (H7)."""


class _Pipeline(EventWrapper):
    """Stands in for the event on which a pipelined request waits (H6)."""

    def __init__(self) -> None:
        super().__init__()
        self.is_parked = False

    async def clear(self) -> None:
        self.is_parked = True
        raise _Parked


class SafeH11Protocol(H11Protocol):
    """HTTP/1.1 that goes on reading while a pipelined request waits for its turn."""

    can_read: _Pipeline

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # handed on as they are
        self.can_read = _Pipeline()

    @property
    def is_resumable(self) -> bool:
        """Whether the turn of a parked request has come."""
        return self.can_read.is_parked and self.connection.their_state is h11.IDLE

    @property
    def is_ahead(self) -> bool:
        """Whether the body of the request that is being answered, or was, has not come to its end."""
        return isinstance(self.connection, h11.Connection) and self.connection.their_state is h11.SEND_BODY

    async def stream_send(self, event: StreamEvent) -> None:
        """H8: say that the connection ends with this answer."""
        if isinstance(event, Response) and self.is_ahead:
            event = Response(event.stream_id, [*event.headers, (b"connection", b"close")], event.status_code)
        await super().stream_send(event)

    async def resume(self) -> None:
        """Handle the parked request."""
        self.can_read.is_parked = False
        await self._handle_events()

    async def handle(self, event: Event) -> None:
        """H6: what comes behind a parked request is kept, up to the size of a head; above that the connection ends."""
        if isinstance(event, RawData) and self.can_read.is_parked:
            self.connection.receive_data(event.data)
            if len(self.connection.trailing_data[0]) > self.config.h11_max_incomplete_size:
                await self.send(Closed())
        else:
            await super().handle(event)

    async def _handle_events(self) -> None:
        try:
            await super()._handle_events()
        except _Parked:
            return
        except _TwoLengths:
            await self._send_error_response(400)
            await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        """H2: no upgrade to HTTP/2 from within HTTP/1.1 (it is obsolete); its settings, unchecked, end the worker.

        H7: no two lengths.
        """
        if {name for name, _ in event.headers} >= _LENGTHS:
            raise _TwoLengths
        if event.method == b"PRI":
            await super()._check_protocol(event)


def check_version(version: str) -> None:
    """Raise UnknownHypercorn unless `version` is the one that the overrides are made for."""
    if version != HYPERCORN:
        raise UnknownHypercorn(
            f"hypercorn {version} is installed, but its overrides here are made for {HYPERCORN}: install that one"
        )


def install() -> None:
    """Let Hypercorn's Trio worker use these classes. Once for a process; a second time changes nothing.

    Raises UnknownHypercorn.
    """
    check_version(importlib.metadata.version("hypercorn"))
    hypercorn.protocol.H11Protocol = SafeH11Protocol  # type: ignore[attr-defined,assignment]  # not exported
    hypercorn.protocol.H2Protocol = SafeH2Protocol  # type: ignore[attr-defined,assignment]  # the same
    hypercorn.protocol.h2.StreamBuffer = SafeStreamBuffer  # type: ignore[misc]  # a class, not a name for one
    hypercorn.trio.run.WorkerContext = SafeContext  # type: ignore[attr-defined]  # the same
    hypercorn.trio.tcp_server.TaskGroup = SafeTaskGroup  # type: ignore[attr-defined]  # the same
    hypercorn.trio.run.TCPServer = SafeTCPServer  # type: ignore[attr-defined]  # the same
