"""A server in the test's own Trio run, the released Hypercorn or ours, and an application to attack it through."""

import contextlib
import dataclasses
import itertools
import os
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

import hypercorn.protocol
import hypercorn.protocol.h2
import hypercorn.trio.run
import hypercorn.trio.worker_context
import trio
import trio.testing
import trustme
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.trio.tcp_server import TCPServer

from sluicegate.server.options import ServerOptions
from sluicegate.server.refusal import Refuse
from sluicegate.server.safety_h2 import SafeStreamBuffer
from sluicegate.server.serve import serve
from tests.sockets.h2_caller import H2Caller

Build = Literal["released", "ours"]
Verdict = Literal["fault", "safe"]
AnyStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
PIECE = b"x" * 16_384
WAIT = 300.0  # seconds within which a test is over
# Seconds by which a machine may be late with what is to happen at once. No deadline of `ServerOptions` is as short, but
# for closing and for the stop itself, so what waits for one is found out. How fast we promise to be, tests/sockets
# holds.
SLACK = 8.0


class App:
    """An ASGI application: the first word of a path says what kind of producer it is. Notes, by path, how many requests
    began, were told that the client has left, and ended, and how much was sent.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.produced: Counter[str] = Counter()
        self.go = trio.Event()  # for slow ones
        self.deaf: set[str] = set()  # producers that could not be cancelled
        self._changed = trio.lowlevel.ParkingLot()

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        path = scope["path"]
        self._note(self.begun, path)
        try:
            await self._respond(path, receive, send)
        finally:
            self._note(self.ended, path)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until `is_so`."""
        while not is_so():
            await self._changed.park()

    async def _respond(self, path: str, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        kind = path.partition("/")[2].partition("/")[0]
        if kind in ("", "early"):
            if kind == "":
                while (message := await receive())["type"] == "http.request" and message["more_body"]:
                    pass
            headers = [(b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 200 if kind == "" else 404, "headers": headers})
            await send({"type": "http.response.body", "body": b"ok"})
            return
        if kind == "quiet":  # nothing is sent before the client leaves
            await self._leave(path, receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"start", "more_body": True})
        match kind:
            case "stopped":  # not by the client
                with trio.move_on_after(0.05):
                    await self._flood(path, send)
                return
            case "flood":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, path, receive, nursery.cancel_scope)
                    await self._flood(path, send)
            case "broken":
                raise ValueError("the application fails on purpose")
            case "cancelled":  # in the midst of its last send, as Quart-Trio does when it hears that all is over
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, path, receive, nursery.cancel_scope)
                    await send({"type": "http.response.body", "body": b""})
                return
            case "left":  # as Quart-Trio's, which sends nothing more
                await self._leave(path, receive)
                return
            case "slow":
                await self.go.wait()
                await send({"type": "http.response.body", "body": b"end", "more_body": True})
            case "hold":
                await self._leave(path, receive)
            case "deaf":
                await self._leave(path, receive)
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                for _ in range(10):  # by which the server finds out, and clears the stream away
                    await trio.lowlevel.checkpoint()
                with trio.CancelScope() as scope:
                    scope.cancel()
                    for _ in range(100):
                        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                if not scope.cancelled_caught:
                    self.deaf.add(path)
        await send({"type": "http.response.body", "body": b""})

    async def _flood(self, path: str, send: Callable[[Any], Any]) -> None:
        while True:
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            self.produced[path] += len(PIECE)
            self._changed.unpark_all()

    async def _listen(self, path: str, receive: Callable[[], Awaitable[Any]], scope: trio.CancelScope) -> None:
        await self._leave(path, receive)
        scope.cancel()

    async def _leave(self, path: str, receive: Callable[[], Awaitable[Any]]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._note(self.told, path)

    def _note(self, counter: Counter[str], path: str) -> None:
        counter[path] += 1
        self._changed.unpark_all()


class Server:
    """A server that runs. `fell` is set when it ends without having been told to."""

    def __init__(self, app: App, nursery: trio.Nursery, context: ssl.SSLContext | None, patience: float) -> None:
        self.app = app
        self.port = 0
        self.context = context  # for clients
        self.stop = trio.Event()
        self.fell = trio.Event()
        self.returned = trio.Event()
        self._nursery = nursery
        self.clean: object = None  # what there is of tasks and descriptors without a client
        self.patience = patience  # seconds until what has not happened is taken not to happen
        self.evicted = 0  # clients that took too little
        self._numbers = itertools.count()

    def note_eviction(self) -> None:
        self.evicted += 1

    def path(self, kind: str) -> str:
        """A path of that kind, used by nobody else."""
        return f"/{kind}/{next(self._numbers)}"

    async def connect(self, receive_buffer: int = 0) -> trio.SocketStream:
        """A plain connection, with a receive buffer of its own size if that is given."""
        plain = trio.socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await plain.connect(("127.0.0.1", self.port))
        except OSError:
            plain.close()
            raise
        return trio.SocketStream(plain)

    async def dial(self, alpn: str, receive_buffer: int = 0) -> AnyStream:
        """A connection, over TLS if the server speaks it."""
        plain = await self.connect(receive_buffer)
        if self.context is None:
            return plain
        context = self.context
        context.set_alpn_protocols([alpn])
        stream = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(plain)
            raise
        assert stream.selected_alpn_protocol() == alpn
        return stream

    async def dial_h2(self, window: int | None = None, receive_buffer: int = 0) -> H2Caller:
        """A connection for HTTP/2."""
        caller = H2Caller(await self.dial("h2", receive_buffer), window)
        await caller.flush()
        return caller

    async def sees(self, happens: Awaitable[object]) -> Verdict:
        """Whether what a safe server does happens in time."""
        with trio.move_on_after(self.patience) as scope:
            await happens
        return "fault" if scope.cancelled_caught else "safe"

    async def verdict(self) -> Verdict:
        """Whether the server has survived."""
        return "safe" if await self.still_serves() else "fault"

    async def still_serves(self) -> bool:
        """Whether a new client gets its answer."""
        try:
            with trio.fail_after(WAIT):
                async with await self.dial("http/1.1") as stream:
                    await stream.send_all(request("/", close=True))
                    answer = bytearray()
                    while data := await stream.receive_some():
                        answer += data
        except (OSError, trio.BrokenResourceError):
            return False
        return answer.endswith(b"ok")

    def left(self) -> tuple[Counter[str], int]:
        """The tasks and the descriptors that there are."""
        names: Counter[str] = Counter()
        pending = [self._nursery]
        while pending:
            for task in pending.pop().child_tasks:
                names[task.name] += 1
                pending += task.child_nurseries
        return names, len(os.listdir("/proc/self/fd"))

    async def wait_clean(self) -> None:
        """Wait until nothing is left of any connection. Fails, saying what is, if that takes too long."""
        with trio.move_on_after(SLACK):
            while self.left() != self.clean:
                await trio.lowlevel.checkpoint()
        assert self.left() == self.clean, f"left behind: {self.left()}, when clean: {self.clean}"


def request(path: str, close: bool = False, method: str = "GET", more: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request."""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{'Connection: close' if close else 'X: y'}\r\n\r\n".encode() + more


@contextmanager
def released() -> Iterator[None]:
    """Within, Hypercorn is as it was released."""
    places: list[tuple[Any, str, object]] = [
        (hypercorn.protocol, "H11Protocol", H11Protocol),
        (hypercorn.protocol, "H2Protocol", H2Protocol),
        (hypercorn.protocol.h2, "StreamBuffer", SafeStreamBuffer.__base__),
        (hypercorn.trio.run, "TCPServer", TCPServer),
        (hypercorn.trio.run, "WorkerContext", hypercorn.trio.worker_context.WorkerContext),
    ]
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, value in places:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            setattr(module, name, value)


@asynccontextmanager
async def running(
    build: Build,
    options: ServerOptions | None = None,
    certificate: "Certificate | None" = None,
    app: Any = None,
    drain: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    refuse: Refuse | None = None,
) -> AsyncIterator[Server]:
    """Run a server of `build` that is stopped at the end, or broken off where that does not help (the released one)."""
    options = dataclasses.replace(options or ServerOptions(), port=0)
    if certificate is not None:
        options = dataclasses.replace(options, certfile=certificate.path, keyfile=certificate.path)
    async with trio.open_nursery() as nursery:
        context = certificate.client() if certificate else None
        server = Server(App(), nursery, context, 1.0 if build == "released" else WAIT / 2)
        served = app or server.app

        async def run(task_status: trio.TaskStatus[list[str]]) -> None:
            try:
                if build == "ours":
                    await serve(served, options, drain, server.stop.wait, task_status, refuse, server.note_eviction)
                else:
                    await hypercorn_serve(
                        served, released_config(options), shutdown_trigger=server.stop.wait, task_status=task_status
                    )
            except Exception:
                server.fell.set()
            server.returned.set()

        with released() if build == "released" else contextlib.nullcontext():
            bound = await nursery.start(run)
            server.port = int(bound[0].rpartition(":")[2])
            await trio.testing.wait_all_tasks_blocked()
            server.clean = server.left()
            yield server
            server.stop.set()
            with trio.move_on_after(options.graceful_seconds + SLACK):
                await server.returned.wait()
            assert server.returned.is_set() or build == "released"
            nursery.cancel_scope.cancel()


def released_config(options: ServerOptions) -> Config:
    """The same options, as far as the released Hypercorn has them."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.certfile, config.keyfile = options.certfile, options.keyfile
    config.accesslog = None
    config.errorlog = None
    config.loglevel = "WARNING"
    config.ssl_handshake_timeout = options.handshake_seconds
    config.keep_alive_timeout = options.keep_alive_seconds
    config.graceful_timeout = options.graceful_seconds
    return config


class Certificate:
    """A certificate for "localhost", and what trusts it."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        file = folder / "server.pem"
        self._authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
        self.path = str(file)

    def client(self) -> ssl.SSLContext:
        """Return a client's context."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context
