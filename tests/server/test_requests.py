"""Requests that are legal but odd, and such as are not: each gets what it should, and the server goes on."""

import random
from collections import Counter

import h2.config
import h2.connection
import h2.errors
import h2.events
import msgspec
import pytest
import trio
from hypercorn.config import Config

from sluicegate.server import safety
from sluicegate.server.options import ServerOptions
from sluicegate.service.options import ServiceOptions
from tests.server.rig import Certificate, request
from tests.server.test_limits import TLS, hear, hear_close, ours
from tests.service.harness import stack
from tests.sockets.caller import HOWS, Caller, How, calling
from tests.sockets.h2_caller import H2Caller, calling_h2

pytestmark = pytest.mark.sockets
LEAVE_SECONDS = 1.0  # within which the application knows


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Though the reading goes on in between; the head of the last one comes in two parts."""
    async with ours(options=ServerOptions(graceful_seconds=0.5)) as server, await server.connect() as stream:
        slow = server.path("slow")
        last = request("/", close=True)
        await stream.send_all(request(slow) + request("/") + last[:10])
        await hear(stream, b"start")
        server.app.go.set()
        await hear(stream, b"end\r\n0\r\n\r\n")
        await stream.send_all(last[10:])
        answers = bytearray()
        while data := await stream.receive_some():
            answers += data
        assert answers.count(b"HTTP/1.1 200") == answers.count(b"\r\n\r\nok") == 2
        assert server.app.begun == {slow: 1, "/": 2}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["quiet", "hold"])
@pytest.mark.parametrize("more", [b"", request("/")], ids=["one request", "pipelined"])
@TLS
async def test_a_leave_is_seen_at_once(how: How, kind: str, more: bytes, tls: bool, certificate: Certificate) -> None:
    """Before the first byte of the response and after it, also with a request behind (H6)."""
    async with ours(certificate if tls else None) as server:
        path = server.path(kind)
        stream = await server.dial("http/1.1")
        await stream.send_all(request(path) + more)
        await server.app.until(lambda: server.app.begun[path] > 0)
        if kind == "hold":
            await hear(stream, b"start")
        with trio.fail_after(LEAVE_SECONDS):
            async with trio.open_nursery() as nursery:
                plain = stream if isinstance(stream, trio.SocketStream) else stream.transport_stream
                nursery.start_soon(Caller(plain).leave, how)
                await server.app.until(lambda: server.app.told[path] > 0)
        await server.wait_clean()


async def test_a_flood_behind_a_running_response_ends_the_connection() -> None:
    """It would have to be kept, or the client's leave would not be seen."""
    async with ours() as server, await server.connect() as stream:
        path = server.path("hold")
        await stream.send_all(request(path) + request("/"))
        await hear(stream, b"start")
        await stream.send_all(b"x" * 100_000)
        await hear_close(stream)
        await server.app.until(lambda: server.app.told[path] > 0)


async def test_a_response_that_breaks_off_is_reset_over_http_2() -> None:
    """The release leaves its client waiting."""
    async with ours() as server:
        caller = await server.dial_h2()
        await caller.ask("GET", server.path("broken"))
        assert await reset_code(caller) == h2.errors.ErrorCodes.INTERNAL_ERROR
        await trio.aclose_forcefully(caller.stream)


async def test_a_response_before_the_end_of_its_request_stops_the_request_over_http_2() -> None:
    """The response is whole, then the client is told that the rest of its body is not wanted (RFC 9113, 8.1)."""
    async with ours() as server:
        caller = await server.dial_h2()
        await caller.ask("POST", server.path("early"), b"x" * 100, sent=0.5)
        assert await reset_code(caller) == h2.errors.ErrorCodes.NO_ERROR
        assert caller.heard == b"ok"
        await trio.aclose_forcefully(caller.stream)


async def test_a_body_that_nobody_wants_does_not_use_up_the_window() -> None:
    """What is dropped is acknowledged, so the connection stays usable for more than its window."""
    async with ours() as server:
        caller = await server.dial_h2()
        for _ in range(20):
            stream_id = caller.http.get_next_available_stream_id()
            fields = [(":method", "POST"), (":path", server.path("early")), (":scheme", "http"), (":authority", "x")]
            caller.http.send_headers(stream_id, fields)
            for _ in range(50):  # in one piece, so that the server has them all before it has answered
                caller.http.send_data(stream_id, b"x" * 200)
            await caller.flush()
            ended = False
            while not ended or caller.http.outbound_flow_control_window < 10_000:
                data = await caller.stream.receive_some(65536)
                assert data
                for event in caller.http.receive_data(bytes(data)):
                    ended = ended or isinstance(event, h2.events.StreamEnded)
        await trio.aclose_forcefully(caller.stream)


async def test_a_connection_that_has_had_its_requests_ends_what_runs_on_it_properly() -> None:
    """The request that is one too many may be made elsewhere (REFUSED_STREAM, GOAWAY); a running response goes on."""
    async with ours(options=ServerOptions(graceful_seconds=0.5)) as server:
        caller = await server.dial_h2()
        slow = server.path("slow")
        await caller.ask("GET", slow)
        await caller.hear(5)
        fields = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "x")]
        seen: Counter[str] = Counter()
        while not seen["StreamReset"]:
            caller.http.send_headers(caller.http.get_next_available_stream_id(), fields, end_stream=True)
            await caller.flush()
            turn = seen["StreamEnded"] + seen["StreamReset"]
            while seen["StreamEnded"] + seen["StreamReset"] == turn:
                for event in caller.http.receive_data(bytes(await caller.stream.receive_some(65536))):
                    seen[type(event).__name__] += 1
                    if isinstance(event, h2.events.StreamReset):
                        assert event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM
        assert seen["StreamEnded"] == Config.keep_alive_max_requests - 1
        server.app.go.set()
        body = b""
        while b"end" not in body:
            data = await caller.stream.receive_some(65536)
            assert data
            body += data
        await trio.aclose_forcefully(caller.stream)


async def reset_code(caller: H2Caller) -> int | None:
    """Read until the stream is reset; return why."""
    while caller.reset is None:
        data = await caller.stream.receive_some(65536)
        assert data
        for event in caller.http.receive_data(bytes(data)):
            if isinstance(event, h2.events.DataReceived):
                caller.heard += event.data
            if isinstance(event, h2.events.StreamReset):
                return event.error_code
    return caller.reset


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
async def test_a_body_that_trickles_is_bounded(version: str) -> None:
    """By the service, whose own deadline is for all of it; then the server does not wait for the rest either."""
    options = ServiceOptions(body_seconds=0.3)
    with trio.fail_after(10):
        async with stack([], socket=True, options=options) as up:
            port = int(up.url.rpartition(":")[2])
            async with calling(port) if version == "HTTP/1.1" else calling_h2(port) as caller:
                began = trio.current_time()
                await caller.chat("x" * 1000, sent=0.1)
                answered = False
                while not answered:
                    await send_byte(caller)
                    with trio.move_on_after(options.body_seconds / 10):
                        await caller.hear_head()
                        answered = True
                answer = await caller.hear_all()
                assert answer.status == 408
                assert msgspec.json.decode(answer.body)["error"]["code"] == "INVALID_REQUEST"
                assert options.body_seconds <= trio.current_time() - began
                if isinstance(caller, H2Caller):
                    assert await reset_code(caller) == h2.errors.ErrorCodes.NO_ERROR
                else:
                    await hear_close(caller.stream)


async def send_byte(caller: Caller | H2Caller) -> None:
    """Send one more byte of the body."""
    if isinstance(caller, H2Caller):
        caller.http.send_data(1, b"x")
        await caller.flush()
    else:
        await caller.stream.send_all(b"x")


async def test_what_goes_wrong_in_a_connection_stays_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """H2, whatever the cause: it is logged, the connection is closed, and the server goes on."""

    async def fail(_server: object) -> bool:
        raise ZeroDivisionError("on purpose")

    async with ours() as server:
        with monkeypatch.context() as patch:
            patch.setattr(safety.SafeTCPServer, "_read", fail)
            async with await server.connect() as stream:
                await hear_close(stream)
        assert await server.still_serves()
        await server.wait_clean()
    assert "a connection failed" in caplog.text
    assert "ZeroDivisionError: on purpose" in caplog.text


async def test_mangled_requests_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Real requests, of HTTP/1.1 and HTTP/2, with bytes changed, cut and doubled."""
    async with ours(options=ServerOptions(header_seconds=1, graceful_seconds=0.5)) as server:
        await server.still_serves()

        async def mangle(seed: int) -> None:
            draw = random.Random(seed)
            sound = [
                request("/", method="POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                request(server.path("early"))[:-2] + b"Content-Length: 5\r\n\r\nabcde",
                request("/")[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
                h2_request(draw),
            ]
            data = bytearray(draw.choice(sound))
            for _ in range(draw.randint(1, 4)):
                at = draw.randrange(len(data))
                data[at : at + draw.choice((0, 1, 2))] = draw.randbytes(draw.choice((0, 1, 1, 4)))
            stream = await server.connect()
            try:
                for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                    await stream.send_all(part)
                    await trio.lowlevel.checkpoint()
                if draw.random() < 0.8:
                    await stream.send_eof()
                    await hear_close(stream)
            except trio.BrokenResourceError:
                pass
            await trio.aclose_forcefully(stream)

        for wave in range(20):
            async with trio.open_nursery() as nursery:
                for seed in range(50):
                    nursery.start_soon(mangle, wave * 50 + seed)
        assert await server.still_serves()
        await server.wait_clean()
    assert "a connection failed" not in caplog.text


def h2_request(draw: random.Random) -> bytes:
    """A whole HTTP/2 connection's worth of frames: two requests, one of them with a body, and a reset."""
    http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    http.initiate_connection()
    fields = [(":method", "POST"), (":path", "/early"), (":scheme", "http"), (":authority", "x")]
    http.send_headers(1, fields)
    http.send_data(1, b"x" * 100, end_stream=draw.random() < 0.5)
    http.send_headers(3, fields, end_stream=True, priority_weight=5, priority_depends_on=1)
    http.ping(b"12345678")
    http.reset_stream(3)
    return http.data_to_send()
