"""The shortened send path on real sockets: what arrives is what was written, by whichever way it went."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h11
import pytest
import trio
import trustme
from hypercorn.trio import serve
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.server import fast_path
from sluicegate.server.options import SafeConfig, ServerOptions

pytestmark = pytest.mark.sockets
PIECES = [b"one ", b"x" * 100_000, b"two ", b"y" * 3_000_000, b"three"]


class Pusher:
    """An application that writes each piece by the way it finds: the sink where that is ready, else the ASGI send."""

    def __init__(self, pieces: list[bytes], content_length: bool = False) -> None:
        self.pieces = pieces
        self.content_length = content_length
        self.pushed = self.sent = 0
        self.left = trio.Event()
        self.hold = trio.Event()
        self.verdicts: list[str] = []

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Any]) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        sink = scope["state"].get(fast_path.SINK)
        if sink is not None:
            sink.on_gone = self.left.set
        size = [(b"content-length", b"%d" % sum(map(len, self.pieces)))] if self.content_length else []
        await send({"type": "http.response.start", "status": 200, "headers": size})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        for piece in self.pieces:
            if sink is not None and sink.ready:
                self.pushed += 1
                self.verdicts.append(verdict := sink.try_write(piece))
                if verdict == "gone":
                    return
                if verdict == "full":
                    try:
                        await sink.drain()
                    except trio.BrokenResourceError:
                        return
            else:
                self.sent += 1
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def serving(
    app: Pusher, certificate: Path | None = None, options: ServerOptions | None = None
) -> AsyncIterator[int]:
    """Serve `app` by Hypercorn with our classes; give the port."""
    fast_path.install()
    config = SafeConfig(options or ServerOptions())
    config.bind = ["127.0.0.1:0"]
    config.accesslog = None
    config.graceful_timeout = 0.5
    if certificate is not None:
        config.certfile = config.keyfile = str(certificate)
    stop = trio.Event()

    async def start(task_status: trio.TaskStatus[list[str]]) -> None:
        served: Any = app
        await serve(served, config, shutdown_trigger=stop.wait, task_status=task_status)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            binds: list[str] = await nursery.start(start)
            yield int(binds[0].rpartition(":")[2])
            stop.set()


async def ask(stream: trio.abc.Stream, head: bytes) -> bytes:
    """Send a request and return the response's body, read to the end of the connection if it must be."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=head.split(b" ")[0], target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    await stream.send_all(head)
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body


def request(method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} / HTTP/{version}\r\nHost: x\r\n\r\n".encode()


async def test_clear_chunked_responses_are_pushed() -> None:
    app = Pusher(PIECES)
    async with serving(app) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for turn in range(1, 4):  # on one connection, which stays usable
            assert await ask(stream, request()) == b"".join(PIECES)
            assert (app.pushed, app.sent) == (len(PIECES) * turn, 0)
    assert "full" in app.verdicts


@given(sizes=st.lists(st.integers(1, 200_000), max_size=12))
@settings(max_examples=15, deadline=None)
def test_any_pieces_arrive_whole(sizes: list[int]) -> None:
    pieces = [bytes([97 + index]) * size for index, size in enumerate(sizes)]

    async def main() -> None:
        async with serving(Pusher(pieces)) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await ask(stream, request()) == b"".join(pieces)

    trio.run(main)


@pytest.mark.parametrize(
    ("head", "content_length", "body"),
    [
        (request(version="1.0"), False, True),
        (request("HEAD"), False, False),
        (request(), True, True),
    ],
    ids=["HTTP/1.0", "HEAD", "content-length"],
)
async def test_what_is_not_chunked_goes_the_ordinary_way(head: bytes, content_length: bool, body: bool) -> None:
    app = Pusher(PIECES, content_length)
    async with serving(app) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        assert await ask(stream, head) == (b"".join(PIECES) if body else b"")
    assert (app.pushed, app.sent) == (0, len(PIECES))


async def test_tls_goes_the_ordinary_way(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    app = Pusher(PIECES)
    async with serving(app, certificate) as port:
        raw = await trio.open_tcp_stream("localhost", port)
        async with trio.SSLStream(raw, context, server_hostname="localhost", https_compatible=True) as stream:
            assert await ask(stream, request()) == b"".join(PIECES)
    assert (app.pushed, app.sent) == (0, len(PIECES))


async def test_http_2_goes_the_ordinary_way() -> None:
    """By prior knowledge, over clear text."""
    app = Pusher(PIECES[:3])
    body = b""
    async with serving(app) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        http.initiate_connection()
        fields = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "x")]
        http.send_headers(1, fields, end_stream=True)
        ended = False
        while not ended:
            await stream.send_all(http.data_to_send())
            for event in http.receive_data(await stream.receive_some()):
                if isinstance(event, h2.events.DataReceived):
                    body += event.data
                    http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                ended = ended or isinstance(event, h2.events.StreamEnded)
    assert body == b"".join(PIECES[:3])
    assert (app.pushed, app.sent) == (0, 3)


async def test_a_client_that_takes_too_little_is_cut_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And whoever owns the sink hears of it in the same tick as the server."""
    app = Pusher([b"x" * 1_000_000] * 20)
    async with (
        serving(app, options=ServerOptions(write_seconds=0.2)) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(request())
        with trio.fail_after(20):
            await app.left.wait()
        assert app.pushed < 20
        size = 0
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await stream.receive_some():
                size += len(data)
        assert size < 1_000_000 * (app.pushed + 1)
    assert "Error in ASGI Framework" not in caplog.text


async def test_a_client_that_reads_slowly_is_not() -> None:
    """As long as it takes its share: each write has its own time."""
    app = Pusher([b"x" * 300_000] * 10)
    async with serving(app) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request())
        http = h11.Connection(h11.CLIENT)
        http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        http.send(h11.EndOfMessage())
        size = 0
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some(10_000))
            elif isinstance(event, h11.Data):
                size += len(event.data)
    assert size == 3_000_000
    assert "full" in app.verdicts
