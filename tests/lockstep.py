"""The whole service, and what it does for a token, counted: provider and clients go in step with it, in another thread.

The next token goes out only when every client has heard the last one and the service sleeps. So a token arrives alone,
every reader has caught up, and counts are the same on a busy machine and on a quiet one.
"""

import select
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import trio
from trio._core._instrumentation import Instruments  # what a meter itself costs does not count; trio is pinned

from sluicegate.machine.deltas import TextDelta
from sluicegate.providers.environment import provider_of
from sluicegate.providers.models import Models
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.transport import TrioTransport
from sluicegate.server.serve import ServerOptions, serve
from sluicegate.service.app import Service
from sluicegate.tools.registry import Registry
from tests.benchmarks import streams
from tests.sockets.upstream import HEAD, chunk

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds for one step
WORD = "word "
_MARK = WORD.strip().encode()
_LAST = b"0\r\n\r\n"
_ENTER = trio.CancelScope.__enter__.__code__


class Counts(NamedTuple):
    """All until now. `calls` are of Python functions, a resumed coroutine too, `builtins` of those in C; both within
    the steps of tasks only: the loop between them is Trio's. Sends and receives are those of the system.
    """

    steps: int
    calls: int
    builtins: int
    sends: int
    receives: int
    spawned: int
    scopes: int

    def since(self, other: "Counts") -> "Counts":
        return Counts(*(here - there for here, there in zip(self, other, strict=True)))


class Meter(trio.abc.Instrument):
    """Counts what the thread does that runs Trio. `asleep` is set while it waits for input."""

    def __init__(self) -> None:
        self.asleep = threading.Event()
        self._in_step = False
        self._steps = self._calls = self._builtins = self._sends = self._receives = self._spawned = self._scopes = 0

    def now(self) -> Counts:
        return Counts(
            self._steps, self._calls, self._builtins, self._sends, self._receives, self._spawned, self._scopes
        )

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count calls and system calls, too, which takes time; steps are counted anyway."""
        before = sys.getprofile()
        sys.setprofile(self._on_call)
        try:
            yield
        finally:
            sys.setprofile(before)

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self._steps += 1
        self._in_step = True

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        self._in_step = False

    def task_spawned(self, _task: trio.lowlevel.Task) -> None:
        self._spawned += 1

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            self.asleep.set()

    def after_io_wait(self, _timeout: float) -> None:
        self.asleep.clear()

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self._in_step or frame.f_code in _HOOKS:
            return
        if event == "call":
            self._calls += 1
            self._scopes += frame.f_code is _ENTER
        elif event == "c_call":
            self._builtins += 1
            if isinstance(getattr(argument, "__self__", None), socket.socket):
                self._sends += argument.__name__ == "send"
                self._receives += argument.__name__ == "recv"


_HOOKS = {hook.__code__ for hook in (Instruments.call, Meter.after_task_step, Meter.task_spawned)}


class Client:
    """One connection to the service. `heard` counts words."""

    def __init__(self, port: int) -> None:
        self.heard = 0
        self._rest = b""
        self._socket = socket.create_connection((HOST, port), PATIENCE)

    def ask(self) -> None:
        body = msgspec.json.encode({"messages": [{"role": "user", "content": "hello"}]})
        head = b"POST /chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._socket.sendall(head % len(body) + body)
        self.heard = 0

    def hear(self, words: int) -> None:
        """Read until so many words are there."""
        while self.heard < words:
            self._read()

    def hear_end(self) -> None:
        while not self._rest.endswith(_LAST):
            self._read()
        self._rest = b""

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        data = self._socket.recv(65_536)
        assert data, "the service hung up"
        # A word that two reads share counts once: of what was there before, less than a word is kept.
        self.heard += (self._rest[1 - len(_MARK) :] + data).count(_MARK)
        self._rest = (self._rest + data)[-len(_LAST) :]


class Player:
    """The provider and all clients, to be called in a thread of its own."""

    def __init__(self, dialect: str, asleep: Callable[[], object]) -> None:
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._asleep = asleep
        self._kept: list[socket.socket] = []
        first, word, *end = streams.reads(dialect, streams.whole([TextDelta(WORD), TextDelta(WORD)]))
        self._first = HEAD + chunk(first) + chunk(word)
        self._word = chunk(end[0])
        self._end = chunk(b"".join(end[1:])) + _LAST

    def begin(self, clients: list[Client]) -> list[socket.socket]:
        """Let all ask; return the provider's connections. Each client has heard one word."""
        upstreams = []
        for client in clients:
            client.ask()
            upstreams.append(self._next_request())
            self._asleep()
            upstreams[-1].sendall(self._first)
            client.hear(1)
        self._asleep()
        return upstreams

    def say(self, upstreams: list[socket.socket], clients: list[Client]) -> None:
        """One more word for everybody."""
        words = clients[0].heard + 1
        for upstream in upstreams:
            upstream.sendall(self._word)
        for client in clients:
            client.hear(words)
        self._asleep()

    def end(self, upstreams: list[socket.socket], clients: list[Client]) -> None:
        """End all replies; the connections are kept."""
        for upstream in upstreams:
            upstream.sendall(self._end)
        for client in clients:
            client.hear_end()
        self._kept += upstreams
        self._asleep()

    def close(self) -> None:
        self._listener.close()
        for upstream in self._kept:
            upstream.close()

    def _next_request(self) -> socket.socket:
        ready, _, _ = select.select([self._listener, *self._kept], [], [], PATIENCE)
        assert ready, "the service asks nothing"
        upstream: socket.socket = ready[0]
        if upstream is self._listener:
            upstream, _ = self._listener.accept()
            upstream.settimeout(PATIENCE)
        else:
            self._kept.remove(upstream)
        read = b""
        while b"\r\n\r\n" not in read or len(read.partition(b"\r\n\r\n")[2]) < _length(read):
            read += upstream.recv(65_536)
        return upstream


def _length(read: bytes) -> int:
    return next(int(line[15:]) for line in read.lower().split(b"\r\n") if line.startswith(b"content-length:"))


@asynccontextmanager
async def in_step(dialect: str) -> AsyncIterator[tuple[Meter, Player, int]]:
    """Serve with a provider of `dialect` beside; yields the meter, the player and the service's port."""
    meter = Meter()
    player = Player(dialect, lambda: meter.asleep.wait(PATIENCE))
    base = f"http://{HOST}:{player.port}"
    provider = provider_of(
        dialect,
        UpstreamOptions(max_retries=0),
        TrioTransport(),
        "key",
        base if dialect == "anthropic" else f"{base}/v1",
    )
    service = Service(Models({"only": provider}, "only", "model"), Registry(()))
    stopped = trio.Event()
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve, service.app(), ServerOptions(port=0), service.drain, stopped.wait)
        trio.lowlevel.add_instrument(meter)
        try:
            yield meter, player, int(bound[0].rpartition(":")[2])
        finally:
            trio.lowlevel.remove_instrument(meter)
            player.close()
            stopped.set()
