"""Hypercorn's send path shortened, for clear HTTP/1.1. Each override names its cost; TLS keeps the ordinary path.

CPU per token of the stock path, measured with a paced stream: lock and shielded scope of `protocol_send` 75 us (the
`writer` has neither), h11's framing 18 us, the task hop to whoever sends 40 us. Here: one write of the system, framed
by hand.

The application finds the way into its response's socket under SINK in the ASGI state (`runtime.ports.Sink`); it is
absent where there is none.
"""

import re
from collections.abc import Callable
from typing import Final, Literal, cast
from urllib.parse import unquote

import h11
import hypercorn.protocol
import hypercorn.trio.run
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, H11SendableEvent, LifespanState

from . import safety
from .accept import accepted
from .options import SafeConfig
from .refusal import ASKED, Refusal, RefusedStream, encode
from .safety import SafeH11Protocol, SafeTCPServer
from .writer import GONE, Writer

SINK: Final = "sluicegate.sink"
_WRITER: Final = "sluicegate.writer"
_END: Final = RawData(b"")  # a client that sends no more has left; what follows would say so only later
_BARE: Final = h11.Response(status_code=200, headers=[])
# What h11 allows in names and values (RFC 9110, section 5).
_LINES: Final = re.compile(
    rb"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+: (?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?\r\n)*"
)
_CHUNK: Final = b"%x\r\n%b\r\n"
_AT_ONCE: Final = 16  # connections that are accepted in one turn, beside Trio's


class ResponseSink:
    """The body of one chunked response, written straight into its socket."""

    def __init__(self, writer: Writer) -> None:
        self.on_gone: Callable[[], None] | None = None
        self.ready = False
        self.corked = False
        self.kept = b""  # what was written while it was corked
        self._writer = writer

    def cork(self) -> None:
        """Keep what the response writes next for what follows it (`runtime.ports.Sink`)."""
        self.corked = True

    def try_write(self, data: bytes) -> Literal["accepted", "full", "gone"]:
        """Write one chunk without waiting (`runtime.ports.Sink`)."""
        if not self.ready:
            return "gone"
        chunk = _CHUNK % (len(data), data)
        if self.kept:
            chunk, self.kept = self.kept + chunk, b""
        try:
            return self._writer.write(chunk)
        except OSError:
            return "gone"

    async def drain(self) -> None:
        """Wait until what was kept is with the system (`runtime.ports.Sink`)."""
        try:
            await self._writer.drain()
        except GONE:
            raise trio.BrokenResourceError("the client has left") from None

    def gone(self) -> None:
        """The connection is gone: tell the owner, once."""
        self.ready = False
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()


class FastTCPServer(SafeTCPServer):
    """Lends its writer to the responses, where the stream is a plain socket."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream,
    ) -> None:
        super().__init__(app, config, context, state, stream)
        if isinstance(stream, trio.SocketStream):
            self.state = cast(LifespanState, {**state, _WRITER: self.writer})

    async def run(self) -> None:
        """Serve the connection to its end, and those that wait behind it.

        Trio accepts one connection in each turn of its loop. When turns grow long, others wait for that, out of sight:
        seconds for a first token where turns take 25 ms and 200 clients come in a second.
        """
        nursery = trio.lowlevel.current_task().parent_nursery
        if isinstance(self.config, SafeConfig) and nursery is not None:
            for stream in accepted(self.config.listening, _AT_ONCE, self._tls):
                more = type(self)(self.app, self.config, self.context, self.state, stream)
                nursery.start_soon(more._run_accepted)
        await super().run()

    async def _run_accepted(self) -> None:
        """As Trio does with what it accepts itself: closed whatever happens."""
        try:
            await super().run()
        finally:
            await trio.aclose_forcefully(self.stream)


class FastH11Protocol(SafeH11Protocol):
    """Frames the chunks of a body by hand (h11's state does not change on data) and lends the sink."""

    _sink: ResponseSink | None = None
    _chunkable = False

    async def handle(self, event: Event) -> None:
        """Tell the sink's owner of a close in the same tick, before the tasks hear of it."""
        if self._sink is not None and (isinstance(event, Closed) or event == _END):
            self._sink.gone()
        await super().handle(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application says."""
        sink = self._sink
        if sink is None:
            await super().stream_send(event)
        elif isinstance(event, Body) and sink.ready:
            chunk, sink.kept = sink.kept + _CHUNK % (len(event.data), event.data), b""
            await self.send(RawData(chunk))
        else:
            if isinstance(event, EndBody):
                sink.ready = False
            if isinstance(event, Response) and self._chunkable and _is_chunked(event) and (head := self._head(event)):
                sink.ready = True
                if sink.corked:
                    sink.corked, sink.kept = False, head
                else:
                    await self.send(RawData(head))
            else:
                await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if self._sink is not None and self._sink.kept:
            kept, self._sink.kept = self._sink.kept, b""
            await self.send(RawData(kept))
        await super()._send_h11_event(event)

    def _head(self, response: Response) -> bytes:
        """Return the head of a chunked response; nothing where the ordinary way has to say what is wrong with it.

        h11 would check and copy its headers three times: it gets a response without any, and its answer their lines
        (31 us, not 67).
        """
        headers = [*response.headers, *self.config.response_headers("h11")]
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        spent = self.keep_alive_requests >= self.config.keep_alive_max_requests or self.is_ahead  # one header more
        if spent or self.connection.our_state is not h11.SEND_RESPONSE or not _is_sound(lines, len(headers)):
            return b""
        status, end, rest = (self.connection.send(_BARE) or b"").partition(b"\r\n")
        return status + end + lines + rest

    async def _create_stream(self, request: h11.Request) -> None:
        if isinstance(self.config, SafeConfig) and self.config.refuse is not None:
            path = unquote(request.target.partition(b"?")[0].decode("ascii"))
            answer = self.config.refuse(request.method.decode("ascii"), path, request.headers)
            if answer is not None:
                await self._refuse(answer)
                return
            self.connection_state = ConnectionState({**self.connection_state, ASKED: True})
        writer = self.connection_state.get(_WRITER)
        if isinstance(writer, Writer):
            self._sink = ResponseSink(writer)
            self._chunkable = request.http_version == b"1.1" and request.method != b"HEAD"
            self.connection_state = ConnectionState({**self.connection_state, SINK: self._sink})
        await super()._create_stream(request)

    async def _refuse(self, answer: Refusal) -> None:
        async def respond() -> None:
            await self.send(RawData(encode(answer, more, cast(h11.Connection, self.connection))))
            await self._maybe_recycle()

        more = self.config.response_headers("h11")
        if self.keep_alive_requests >= self.config.keep_alive_max_requests:
            more.append((b"connection", b"close"))
        self.keep_alive_requests += 1
        self.stream = RefusedStream(respond)  # type: ignore[assignment]  # all that the protocol wants of a stream
        await self.send(Updated(idle=True))  # for the rest of the request it has the time of an idle connection


def install() -> None:
    """Let Hypercorn's Trio worker use these classes, and the safe ones. Once for a process; a second time changes
    nothing. Raises UnknownHypercorn.
    """
    safety.install()
    hypercorn.protocol.H11Protocol = FastH11Protocol  # type: ignore[attr-defined,assignment]  # not exported
    hypercorn.trio.run.TCPServer = FastTCPServer  # type: ignore[attr-defined]  # the same


def _is_chunked(response: Response) -> bool:
    framed = (b"content-length", b"transfer-encoding", b"connection")
    return response.status_code == 200 and not any(name.lower() in framed for name, _ in response.headers)


def _is_sound(lines: bytes, count: int) -> bool:
    return lines.count(b"\n") == count and _LINES.fullmatch(lines) is not None
