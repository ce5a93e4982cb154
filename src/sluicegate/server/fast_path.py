"""Hypercorn's send path shortened, for clear HTTP/1.1. Each override names its cost; TLS keeps the ordinary path.

CPU per token of the stock path, measured with a paced stream: lock and shielded scope of `protocol_send` 75 us, h11's
framing 18 us, the task hop to whoever sends 40 us. Here: one write of the system, framed by hand.

The application finds the way into its response's socket under SINK in the ASGI state (`runtime.ports.Sink`); it is
absent where there is none.
"""

import contextlib
from collections.abc import Callable
from typing import Final, Literal, cast

import h11
import hypercorn.protocol
import hypercorn.trio.run
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState

SINK: Final = "sluicegate.sink"
WRITE_SECONDS = 30.0  # that a client may take for what one write brought,
LEAST_RATE = 4096  # and one more for so many bytes of it
CLOSE_SECONDS = 1.0
_WRITER: Final = "sluicegate.writer"
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Writer:
    """The sending half of one connection. Synchronous and in order, so no lock guards a write."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._kept = bytearray()
        self._draining = trio.Lock()

    def write(self, data: bytes) -> Literal["accepted", "full"]:
        """Give the system what it takes now and keep the rest. Raises OSError where the connection is gone."""
        if not self._kept:
            try:
                # The plain socket below Trio's: its own send would be a checkpoint, and waits.
                sent = self._stream.socket._sock.send(data)  # type: ignore[attr-defined]  # trio is pinned
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return "accepted"
            self._kept += memoryview(data)[sent:]
        else:
            self._kept += data
        return "full"

    async def drain(self) -> None:
        """Wait until the system has all. A checkpoint; may be cancelled without loss.

        Raises BrokenResourceError where the client takes too little (then the connection is closed), OSError where it
        is gone.
        """
        if not self._kept:
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.fail_after(WRITE_SECONDS + len(self._kept) / LEAST_RATE):
                async with self._draining:
                    while self._kept:
                        if self._stream.socket.fileno() < 0:  # closed: Trio would raise ValueError
                            raise trio.ClosedResourceError
                        await trio.lowlevel.wait_writable(self._stream.socket)
                        self._flush()
        except trio.TooSlowError:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the client takes too little") from None

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            del self._kept[: self._stream.socket._sock.send(self._kept)]  # type: ignore[attr-defined]  # see write


class ResponseSink:
    """The body of one chunked response, written straight into its socket."""

    def __init__(self, writer: Writer) -> None:
        self.on_gone: Callable[[], None] | None = None
        self.ready = False
        self._writer = writer

    def try_write(self, data: bytes) -> Literal["accepted", "full", "gone"]:
        """Write one chunk without waiting (`runtime.ports.Sink`)."""
        if not self.ready:
            return "gone"
        try:
            return self._writer.write(_chunk(data))
        except OSError:
            return "gone"

    async def drain(self) -> None:
        """Wait until what was kept is with the system (`runtime.ports.Sink`)."""
        try:
            await self._writer.drain()
        except _GONE:
            raise trio.BrokenResourceError("the client has left") from None

    def gone(self) -> None:
        """The connection is gone: tell the owner, once."""
        self.ready = False
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()


class FastTCPServer(TCPServer):
    """Sends by a Writer where the stream is a plain socket."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: trio.SSLStream[trio.SocketStream],
    ) -> None:
        self._writer = Writer(stream) if isinstance(stream, trio.SocketStream) else None
        if self._writer is not None:
            state = cast(LifespanState, {**state, _WRITER: self._writer})
        super().__init__(app, config, context, state, stream)

    async def protocol_send(self, event: Event) -> None:
        """Send without the lock and the shielded scope."""
        if self._writer is None or type(event) is not RawData:
            await super().protocol_send(event)
            return
        try:
            self._writer.write(event.data)
            await self._writer.drain()
        except _GONE:
            await self.protocol.handle(Closed())

    async def _close(self) -> None:
        if self._writer is not None:
            with trio.move_on_after(CLOSE_SECONDS), contextlib.suppress(*_GONE):
                await self._writer.drain()
        await super()._close()


class FastH11Protocol(H11Protocol):
    """Frames the chunks of a body by hand (h11's state does not change on data) and lends the sink."""

    _sink: ResponseSink | None = None
    _chunkable = False

    async def handle(self, event: Event) -> None:
        """Tell the sink's owner of a close in the same tick, before the tasks hear of it."""
        if isinstance(event, Closed) and self._sink is not None:
            self._sink.gone()
        await super().handle(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application says."""
        sink = self._sink
        if sink is None:
            await super().stream_send(event)
        elif isinstance(event, Body) and sink.ready:
            await self.send(RawData(_chunk(event.data)))
        else:
            if isinstance(event, EndBody):
                sink.ready = False
            await super().stream_send(event)
            if isinstance(event, Response):
                sink.ready = self._chunkable and _is_chunked(event)

    async def _create_stream(self, request: h11.Request) -> None:
        writer = self.connection_state.get(_WRITER)
        if isinstance(writer, Writer):
            self._sink = ResponseSink(writer)
            self._chunkable = request.http_version == b"1.1" and request.method != b"HEAD"
            self.connection_state = ConnectionState({**self.connection_state, SINK: self._sink})
        await super()._create_stream(request)


def install() -> None:
    """Let Hypercorn's Trio worker use these classes. Once for a process; a second time changes nothing."""
    hypercorn.protocol.H11Protocol = FastH11Protocol  # type: ignore[attr-defined]  # imported there, not exported
    hypercorn.trio.run.TCPServer = FastTCPServer  # type: ignore[attr-defined]  # the same


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _is_chunked(response: Response) -> bool:
    framed = (b"content-length", b"transfer-encoding")
    return response.status_code == 200 and not any(name.lower() in framed for name, _ in response.headers)
