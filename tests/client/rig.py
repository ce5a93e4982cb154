"""A service made of a list of frames, reached in memory or over real sockets, on connections that are cut by plan."""

import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from itertools import chain, repeat
from typing import Any, NamedTuple, Self

import h11
import httpx2
import msgspec
import trio

from sluicegate.client import Client, Frame, Resume, Stream
from sluicegate.machine.deltas import FinishReason, Usage
from sluicegate.machine.events import (
    CallReady,
    Event,
    PartDelta,
    PartKind,
    PartStarted,
    RunDone,
    RunStarted,
    StepStarted,
    ToolActivity,
    ToolResult,
    ToolsStarted,
)
from sluicegate.providers.connection import ResponseParser, Stage
from sluicegate.wire.downstream.native import NativeEncoder

HI = [{"role": "user", "content": "Hi"}]
RUN_ID = "r-1"
EPOCH = "e0"
READ_SIZE = 4096
HEARTBEAT = b": \n\n"


def frames_of(events: Iterable[Event], epoch: str = EPOCH) -> list[bytes]:
    encoder = NativeEncoder(epoch)
    return [frame for event in events for frame in encoder.frames(event)]


_CALL = CallReady(2, "c1", "calculate", '{"expression":"6*7"}')
TALK: list[Event] = [
    RunStarted(RUN_ID, "m"),
    StepStarted(1),
    PartDelta(0, PartKind.REASONING, "Well. "),
    PartDelta(1, PartKind.TEXT, "Let me see, é😀. "),
    PartStarted(2, PartKind.CALL, "c1", "calculate"),
    PartDelta(2, PartKind.CALL, '{"expression":'),
    PartDelta(2, PartKind.CALL, '"6*7"}'),
    _CALL,
    ToolsStarted((_CALL,)),
    ToolActivity("c1", "calculate", "Calculating 6*7"),
    ToolResult("c1", "calculate", "42"),
    StepStarted(2),
    PartDelta(0, PartKind.TEXT, "It is "),
    PartDelta(0, PartKind.TEXT, "42."),
    RunDone(FinishReason.STOP, "stop", Usage(27, 37)),
]


class How(StrEnum):
    """How a connection ends: closed, reset, silent until the reader has had enough; or it never comes about."""

    CLOSED = "closed"
    RESET = "reset"
    SILENT = "silent"
    REFUSED = "refused"


class Cut(NamedTuple):
    """The connection ends so once `at` bytes of the response have come."""

    at: int
    how: How = How.CLOSED


class Seen(NamedTuple):
    """A request as the service saw it. `time` is Trio's clock."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    time: float

    @property
    def after(self) -> str | None:
        return self.headers.get("last-event-id")

    @property
    def key(self) -> str | None:
        return self.headers.get("idempotency-key")


Answer = Callable[[Seen], bytes]


def status(code: int, body: bytes = b"", **headers: object) -> bytes:
    """A whole response that is no stream."""
    lines = [f"HTTP/1.1 {code} Whatever", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    length = [] if code == 204 else [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *length, "", ""]).encode() + body


def streamed(frames: Iterable[bytes], run_id: str = RUN_ID, comment: bytes = HEARTBEAT) -> bytes:
    """A whole response that streams `frames`, each in a chunk of its own, with a heartbeat before each."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nRun-Id: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [comment + frame for frame in frames]
    return head % run_id.encode() + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


class Fake:
    """Keeps one run, all of it there from the start. `answers` are given first, one to each request; None: its own."""

    def __init__(self, frames: Sequence[bytes], answers: Iterable[bytes | None] = ()) -> None:
        self.frames = list(frames)
        self.requests: list[Seen] = []
        self.answers = deque(answers)
        self._bodies: dict[str | None, bytes] = {}

    @property
    def posts(self) -> list[Seen]:
        return [request for request in self.requests if request.method == "POST"]

    @property
    def gets(self) -> list[Seen]:
        return [request for request in self.requests if request.method == "GET"]

    def respond(self, request: Seen) -> bytes:
        self.requests.append(request)
        given = self.answers.popleft() if self.answers else None
        return given or self._answer(request)

    def _answer(self, request: Seen) -> bytes:
        if request.method == "DELETE":
            return status(204)
        if request.method == "POST" and self._bodies.setdefault(request.key, request.body) != request.body:
            return status(409, b'{"error":{"code":"INVALID_REQUEST","message":"another body"}}')
        known = [RUN_ID, *filter(None, self._bodies)]
        if request.method == "GET" and request.path not in [f"/runs/{name}/events" for name in known]:
            return status(404)
        epoch, _, after = (request.after or f"{EPOCH}-0").rpartition("-")
        if epoch != EPOCH or int(after) > len(self.frames):
            return status(404)
        rest = self.frames[int(after) :]
        return streamed(rest) if rest else status(204)


class _Body(httpx2.AsyncByteStream):
    """The response as its reader gets it: up to the cut, `size` bytes at a time, each behind a wait."""

    def __init__(self, memory: "Memory", raw: bytes, cut: Cut | None, parser: ResponseParser, timeout: float) -> None:
        self.parser = parser
        self._memory = memory
        self._rest = raw if cut is None else raw[: cut.at]
        self._cut = cut
        self._timeout = timeout
        self._closed = False

    async def head(self) -> None:
        while self.parser.stage is Stage.HEAD:
            await self._receive()
            if self.parser.stage is Stage.HEAD:
                self.parser.take()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            while not (data := self.parser.take()) and self.parser.stage is not Stage.COMPLETE:
                await self._receive()
        except BaseException:
            await self.aclose()
            raise
        if not data:
            await self.aclose()
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._memory.open -= 1

    async def _receive(self) -> None:
        await self._memory.wait()
        data, self._rest = self._rest[: self._memory.size], self._rest[self._memory.size :]
        if data:
            self.parser.feed(data)
            return
        if self._cut is not None and self._cut.how is How.RESET:
            raise httpx2.ReadError("reset by peer")
        if self._cut is not None and self._cut.how is How.SILENT:
            await trio.sleep(self._timeout)
            raise httpx2.ReadTimeout("silent")
        self.parser.eof()


class Memory(httpx2.AsyncBaseTransport):
    """HTTP/1.1 to `service` without sockets. `wait` is called, and waited for, before each request and each read."""

    def __init__(
        self,
        service: Fake,
        cuts: Iterable[Cut | None] = (),
        wait: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
        size: int = READ_SIZE,
    ) -> None:
        self.service = service
        self.open = 0
        self.wait = wait
        self.size = size
        self.cuts: Iterator[Cut | None] = chain(cuts, repeat(None))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self.wait()
        cut = next(self.cuts)
        if cut is not None and cut.how is How.REFUSED:
            raise httpx2.ConnectError("refused")
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        sent = b"".join([piece async for piece in request.stream])
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.url.raw_path.decode()
        raw = self.service.respond(Seen(request.method, path, headers, sent, trio.current_time()))
        parser = ResponseParser(request.method)
        body = _Body(self, raw, cut, parser, request.extensions["timeout"]["read"])
        self.open += 1
        try:
            await body.head()
        except BaseException:
            await body.aclose()
            raise
        return httpx2.Response(parser.status, headers=parser.headers, stream=body)


@asynccontextmanager
async def served(service: Fake, cuts: Iterable[Cut | None] = ()) -> AsyncIterator[str]:
    """`service` on a real socket, one request to a connection; gives its URL."""
    plan = chain(cuts, repeat(None))

    async def answer(stream: trio.SocketStream) -> None:
        http = h11.Connection(h11.SERVER)
        request, body = None, b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
        if request is None:
            return
        headers = {name.decode(): value.decode() for name, value in request.headers}
        seen = Seen(request.method.decode(), request.target.decode(), headers, body, trio.current_time())
        cut = next(plan)
        raw = service.respond(seen)
        await _end(stream, raw, cut)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def _end(stream: trio.SocketStream, raw: bytes, cut: Cut | None) -> None:
    try:
        await stream.send_all(raw if cut is None else raw[: cut.at])
        if cut is not None and cut.how is How.RESET:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if cut is None or cut.how is How.CLOSED:
            await stream.send_eof()
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        return


def client_of(transport: Memory, *, jitter: float = 0.5, **options: Any) -> Client:
    """A client on `transport` whose keys are key-1, key-2 and so on, and whose jitter never changes."""
    numbers = iter(range(1, 1_000_000))
    return Client(
        "http://fake", transport=transport, jitter=lambda: jitter, keys=lambda: f"key-{next(numbers)}", **options
    )


PATIENT = Resume(attempts=1_000, seconds=1e9)


async def read_all(stream: Stream) -> list[Frame]:
    return [frame async for frame in stream]


async def read_into(got: list[Frame], stream: Stream) -> None:
    """Read to the end; what came before an exception is in `got`, too."""
    async for frame in stream:
        got.append(frame)  # noqa: PERF401  (see above)


async def detached(client: Client, **options: Any) -> list[Frame]:
    """The frames of a detached chat."""
    async with client.chat(HI, on_disconnect="detach", **options) as stream:
        return await read_all(stream)


def decoded(frames: Iterable[bytes]) -> list[Frame]:
    """What a reader that misses nothing is given."""
    out = []
    for frame in frames:
        id_line, data_line = frame.split(b"\n\n")[0].split(b"\n")
        read = msgspec.json.decode(data_line.removeprefix(b"data: "), type=Frame)
        out.append(msgspec.structs.replace(read, id=id_line.removeprefix(b"id: ").decode()))
    return out
