"""The service under test, reached in two ways: its ASGI application called directly (fit for a virtual clock), and a
real socket of the real server. Both give the same `Exchange`, so one test can run over either.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import h11
import jsonschema  # type: ignore[import-untyped]
import msgspec
import openai._base_client
import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from sluicegate.machine.price import Price
from sluicegate.providers.dialects import dialect_of
from sluicegate.providers.environment import provider_of
from sluicegate.providers.gate import Gate, GateOptions
from sluicegate.providers.models import Models, Served
from sluicegate.providers.options import ModelOptions
from sluicegate.providers.script import Reply
from sluicegate.providers.scripted import Brain, ScriptedTransport
from sluicegate.providers.scripted_request import ScriptedRequest, decode_request
from sluicegate.providers.sdk import SdkProvider, UpstreamOptions
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.ledger import Ledger
from sluicegate.runtime.observers import LogLine, Observer
from sluicegate.runtime.options import RunOptions
from sluicegate.server.serve import ServerOptions, serve
from sluicegate.service.access import Access
from sluicegate.service.app import Service
from sluicegate.service.budgets import Budgets
from sluicegate.service.limits import Limits
from sluicegate.service.options import ServiceOptions
from sluicegate.tools.builtin import demo
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import schema

DIALECTS = ("openai_chat", "openai_responses", "anthropic")
MAX_WRITE = 16 * 1024
COUNTS = {name: dialect_of(name).cache_count for name in DIALECTS}
JSON = {"Content-Type": "application/json"}
DONE = b"data: [DONE]\n\n"
HEARTBEAT = b":\n\n"
_validator = jsonschema.Draft202012Validator(schema())


class Answer(NamedTuple):
    """A whole response. `writes` are the pieces in which the server sent the body, `times` when each came."""

    status: int
    headers: list[tuple[str, str]]
    writes: list[bytes]
    times: list[float]

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def error(self) -> dict[str, Any]:
        """The JSON body of an error status."""
        assert self.header("Content-Type") == "application/json"
        found: dict[str, Any] = msgspec.json.decode(self.body)["error"]
        return found

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames of a whole stream, which is held against every law of the wire."""
        assert self.status == 200, self.body
        assert self.body.endswith(DONE)
        return read_frames(self.body, self.writes)


def read_frames(body: bytes, writes: Sequence[bytes] = ()) -> list[dict[str, Any]]:
    """Return the data of every frame but `[DONE]`; fails where the bytes break a law of the native wire."""
    assert b"\r" not in body, "LF only"
    for write in writes:
        assert 0 < len(write) <= MAX_WRITE, "one write is at most 16 KiB"
        assert write.endswith(b"\n\n"), "one write holds whole frames"
    assert body.count(DONE) <= 1
    if DONE in body:
        assert body.endswith(DONE), "[DONE] is last"
    frames, ids = [], []
    for block in body.removesuffix(DONE).replace(HEARTBEAT, b"").split(b"\n\n")[:-1]:
        id_line, data_line = block.split(b"\n")
        assert id_line.startswith(b"id: ")
        assert data_line.startswith(b"data: ")
        epoch, _, number = id_line[4:].decode().rpartition("-")
        ids.append((epoch, int(number)))
        frame = msgspec.json.decode(data_line[6:])
        _validator.validate(frame)
        frames.append(frame)
    assert len({epoch for epoch, _ in ids}) <= 1
    first = ids[0][1] if ids else 0
    assert [number for _, number in ids] == list(range(first, first + len(ids))), "ids are consecutive"
    terminals = [frame for frame in frames if "error" in frame or "done" in frame]
    assert len(terminals) == (DONE in body), "exactly one terminal, behind it [DONE]"
    assert not terminals or frames[-1] is terminals[0]
    return frames


def text_of(frames: Sequence[Mapping[str, Any]]) -> str:
    """Return the text that a client shows."""
    return "".join(frame.get("content", "") for frame in frames)


def kinds(frames: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the key of each frame, repeats in a row once."""
    keys = ["done" if "done" in frame else "error" if "error" in frame else next(iter(frame)) for frame in frames]
    return [key for at, key in enumerate(keys) if not at or keys[at - 1] != key]


class Exchange(ABC):
    """One request under way. `next` gives one write of the body at a time, None at its end."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.writes: list[bytes] = []
        self.times: list[float] = []

    @abstractmethod
    async def head(self) -> "Exchange":
        """Wait for status and headers."""

    @abstractmethod
    async def _next(self) -> bytes | None: ...

    @abstractmethod
    async def leave(self) -> None:
        """Disconnect, and wait until the application is rid of the request."""

    async def next(self) -> bytes | None:
        await self.head()
        data = await self._next()
        if data is not None:
            self.writes.append(data)
            self.times.append(trio.current_time())
        return data

    async def until(self, needle: bytes) -> bytes:
        """Read until `needle` has come; return all the body so far."""
        while needle not in b"".join(self.writes):
            assert await self.next() is not None, (needle, self.writes)
        return b"".join(self.writes)

    async def answer(self) -> Answer:
        """Read to the end."""
        while await self.next() is not None:
            pass
        return Answer(self.status, self.headers, self.writes, self.times)

    @property
    def run_id(self) -> str:
        return next(value for key, value in self.headers if key.lower() == "run-id")


class MemoryExchange(Exchange):
    """The application called directly. With `buffer` 0 each send waits until the test reads it."""

    def __init__(self, buffer: float) -> None:
        super().__init__()
        self._send, self._receive = trio.open_memory_channel[dict[str, Any]](buffer)
        self._asked = False
        self._left = trio.Event()
        self._over = trio.Event()

    async def run(self, app: QuartTrio, scope: dict[str, Any], body: bytes) -> None:
        async def receive() -> dict[str, Any]:
            if not self._asked:
                self._asked = True
                return {"type": "http.request", "body": body, "more_body": False}
            await self._left.wait()
            return {"type": "http.disconnect"}

        called: Any = app
        async with self._send:
            await called(scope, receive, self._send.send)
        self._over.set()

    async def head(self) -> Exchange:
        if not self.status:
            message = await self._receive.receive()
            assert message["type"] == "http.response.start"
            self.status = message["status"]
            self.headers = [(key.decode(), value.decode()) for key, value in message["headers"]]
        return self

    async def _next(self) -> bytes | None:
        try:
            while True:
                message = await self._receive.receive()
                assert message["type"] == "http.response.body"
                if message["body"]:
                    return bytes(message["body"])
        except trio.EndOfChannel:
            return None

    async def leave(self) -> None:
        self._left.set()
        await self._over.wait()


class SocketExchange(Exchange):
    """HTTP/1.1 over TCP. A write is what came in one chunk of the chunked encoding."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__()
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        fields = [("Host", "localhost"), ("Connection", "close"), *headers.items(), ("Content-Length", str(len(body)))]
        data = self._http.send(h11.Request(method=method, target=path, headers=fields)) or b""
        data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self._stream.send_all(data)

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some())
        return event

    async def head(self) -> Exchange:
        while not self.status:
            event = await self._event()
            assert isinstance(event, h11.Response)
            self.status = event.status_code
            self.headers = [(key.decode().title(), value.decode()) for key, value in event.headers]
        return self

    async def _next(self) -> bytes | None:
        data = b""
        while isinstance(event := await self._event(), h11.Data):
            data += event.data
            if event.chunk_end or not self._is_chunked:
                return data
        await self._stream.aclose()
        return None

    @property
    def _is_chunked(self) -> bool:
        return any(key == "Transfer-Encoding" for key, _ in self.headers)

    async def leave(self) -> None:
        await self._stream.aclose()


class Stack:
    """A service, its scripted provider, and a way to ask."""

    def __init__(self, service: Service, transport: ScriptedTransport, nursery: trio.Nursery, app: QuartTrio) -> None:
        self.service = service
        self.transport = transport
        self.nursery = nursery
        self.app = app
        self.url = ""

    async def open(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        buffer: float = math.inf,
    ) -> Exchange:
        """Send a request; over a socket if the stack has one."""
        if self.url:
            host, _, port = self.url.removeprefix("http://").rpartition(":")
            exchange = SocketExchange(await trio.open_tcp_stream(host, int(port)))
            await exchange.ask(method, path, headers or {}, body)
            return exchange
        memory = MemoryExchange(buffer)
        fields = {"host": "localhost", "content-length": str(len(body)), **(headers or {})}
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(key.lower().encode(), value.encode()) for key, value in fields.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
            "extensions": {},
        }
        self.nursery.start_soon(memory.run, self.app, scope, body)
        return memory

    async def chat(self, question: str = "Hi", buffer: float = math.inf, **more: Any) -> Exchange:
        """Send `POST /chat`."""
        body = msgspec.json.encode({"messages": [{"role": "user", "content": question}], **more})
        return await self.open("POST", "/chat", body, JSON, buffer)

    async def ask(self, question: str = "Hi", **more: Any) -> Answer:
        """Send `POST /chat` and read the whole answer."""
        return await (await self.chat(question, **more)).answer()

    async def get(self, run_id: str, after: str = "") -> Answer:
        """Read a run's events from behind the cursor `after`."""
        return await (
            await self.open("GET", f"/runs/{run_id}/events", headers={"Last-Event-ID": after} if after else {})
        ).answer()

    async def delete(self, run_id: str) -> Answer:
        return await (await self.open("DELETE", f"/runs/{run_id}")).answer()

    def driver(self, exchange: Exchange) -> Driver:
        """Return the driver behind a response."""
        found = self.service.runs.get(exchange.run_id)
        assert found is not None
        return found


@asynccontextmanager
async def stack(
    brain: Brain | Sequence[Reply],
    *,
    socket: bool = False,
    dialect: str = "openai_chat",
    tools: Registry = demo,
    run: RunOptions | None = None,
    options: ServiceOptions | None = None,
    pieces: int = 0,
    retries: int = 0,
    others: Sequence[Brain | Sequence[Reply]] = (),
    gate: GateOptions | None = None,
    ledger: Ledger | None = None,
    access: Access | None = None,
    observers: Sequence[Observer] = (LogLine(),),
    limits: Limits | None = None,
    budgets: Budgets | None = None,
    prices: Mapping[str, Price] = MappingProxyType({}),
    server: ServerOptions | None = None,
) -> AsyncIterator[Stack]:
    """A service whose provider is `brain`, up and running; at the end nothing of it may be left over. `others` are
    providers that its model may be had from as well, asked in that order.
    """
    transport = ScriptedTransport(brain, pieces=pieces)
    transports = [transport, *(ScriptedTransport(other, pieces=pieces) for other in others)]
    served = {
        "scripted" if not number else f"other-{number}": ready(
            provider_of(dialect, UpstreamOptions(), each, "k", "http://scripted.invalid")
        )
        for number, each in enumerate(transports)
    }
    model = ModelOptions(tuple(f"{name}:model-of-{name}" for name in served))
    models = Models(
        {name: Served(each, Gate(name, gate), prices.get, COUNTS[dialect]) for name, each in served.items()},
        "scripted",
        "scripted-demo",
        {"scripted-demo": model} if others else None,
        retries,
    )
    service = Service(
        models, tools, run, options, ledger=ledger, access=access, observers=observers, limits=limits, budgets=budgets
    )
    app = service.app()
    async with trio.open_nursery() as nursery:
        found = Stack(service, transport, nursery, app)
        if socket:
            stop = trio.Event()

            async def start(task_status: trio.TaskStatus[list[str]]) -> None:
                await serve(
                    app,
                    server or ServerOptions(port=0),
                    service.drain,
                    stop.wait,
                    task_status,
                    service.refuse,
                    service.note_eviction,
                )

            found.url = (await nursery.start(start))[0]
            yield found
            stop.set()
        else:
            async with app.test_app():
                yield found
    assert sum(each.active for each in transports) == 0, "an upstream was left open"
    assert len(service.runs) == 0, "a run was left over"


def ready(provider: SdkProvider) -> SdkProvider:
    """Return `provider` with its SDK's first request behind it: that one finds out the platform in a thread, and a
    virtual clock does not wait for threads.
    """
    client: Any = provider._client
    client._platform = openai._base_client.get_platform()
    return provider


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `test` on a virtual clock that jumps wherever everybody waits; what waits for ever fails at once."""

    async def main() -> None:
        with trio.fail_after(1_000_000):
            await test()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


LINKS = pytest.mark.parametrize("socket", [False, pytest.param(True, marks=pytest.mark.sockets)], ids=["memory", "tcp"])


def over(socket: bool, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `test`, on a virtual clock unless it uses sockets."""
    if not socket:
        virtually(test)
        return

    async def main() -> None:
        with trio.fail_after(30):
            await test()

    trio.run(main)


def record_bodies(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return a list to which every request body to a scripted provider will be added."""
    bodies: list[dict[str, Any]] = []

    def recording(dialect: str, body: bytes) -> ScriptedRequest:
        bodies.append(msgspec.json.decode(body))
        return decode_request(dialect, body)

    monkeypatch.setattr("sluicegate.providers.scripted.decode_request", recording)
    return bodies


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; fails after half a minute. For what only the other end of a socket knows."""
    with trio.fail_after(30):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.001)
