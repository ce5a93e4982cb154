"""The faults of the released Hypercorn: each shows in the release, and not in ours, however often."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
from quart_trio import QuartTrio

from sluicegate.server import fast_path, safety
from sluicegate.server.options import ServerOptions
from tests.server.rig import WAIT, AnyStream, Build, Certificate, Server, Verdict, request, running

pytestmark = pytest.mark.sockets
OPTIONS = ServerOptions(write_seconds=0.2, keep_alive_seconds=0.2, header_seconds=5, graceful_seconds=0.5)
TIMES = 1000  # that each attack is made on ours,
TLS_TIMES = 100  # and over TLS, where it takes the same way behind the encryption
AT_ONCE = 100  # side by side
MUCH = 4_000_000  # bytes that no client needs to have waiting for it


async def stop_reading(server: Server) -> Verdict:
    """H1: ask for much, and read nothing of it. The application itself wants to stop."""
    path = server.path("stopped")
    stream = await server.dial("http/1.1", receive_buffer=4096)
    await stream.send_all(request(path))
    verdict = await server.sees(server.app.until(lambda: server.app.ended[path] > 0))
    await trio.aclose_forcefully(stream)
    return verdict


async def send_data_too_late(server: Server) -> Verdict:
    """H2: go on with the body of a request whose response is over."""
    caller = await server.dial_h2()
    path = server.path("early")
    await caller.ask("POST", path, b"x" * 100, sent=0.5)
    await server.app.until(lambda: server.app.ended[path] > 0)
    data = b"\0\0\x32\0\1\0\0\0\1" + b"y" * 50  # a frame that no sane client would send by now
    return await strike(server, caller.stream, data)


async def send_data_at_once(server: Server) -> Verdict:
    """H2: send a head and a body of many frames in one piece; the response is over before all of them are handled."""
    caller = await server.dial_h2()
    fields = [(":method", "POST"), (":path", server.path("early")), (":scheme", "http"), (":authority", "x")]
    caller.http.send_headers(1, fields)
    for _ in range(50):
        caller.http.send_data(1, b"x")
    return await strike(server, caller.stream, caller.http.data_to_send())


async def send_a_path(server: Server) -> Verdict:
    """H2: ask for a path that is not ASCII."""
    return await strike_h2(server, [(":method", "GET"), (":path", "/\xff"), (":scheme", "http"), (":authority", "x")])


async def send_no_path(server: Server) -> Verdict:
    """H2: CONNECT, which has none."""
    return await strike_h2(server, [(":method", "CONNECT"), (":authority", "x")])


async def strike_h2(server: Server, fields: list[tuple[str, str]]) -> Verdict:
    """Send the head of a request."""
    caller = await server.dial_h2()
    caller.http.config.validate_outbound_headers = False
    caller.http.send_headers(1, fields, end_stream=True)
    return await strike(server, caller.stream, caller.http.data_to_send())


async def send_priorities(server: Server) -> Verdict:
    """H2: a priority for each of more streams than the tree of them holds."""
    caller = await server.dial_h2()
    frames = (b"\0\0\5\2\0" + (2 * stream + 1).to_bytes(4, "big") + b"\0\0\0\0\x10" for stream in range(1100))
    return await strike(server, caller.stream, b"".join(frames))


async def upgrade(server: Server) -> Verdict:
    """H2: ask for an upgrade to HTTP/2 with settings that are none."""
    stream = await server.connect()
    head = b"Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: !!!x\r\n\r\n"
    return await strike(server, stream, b"GET / HTTP/1.1\r\nHost: x\r\n" + head)


async def strike(server: Server, stream: AnyStream, blow: bytes) -> Verdict:
    """Send what ends the worker, and wait until the connection is over."""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(blow)
        await (stream if isinstance(stream, trio.SocketStream) else stream.transport_stream).send_eof()
        while await stream.receive_some():
            pass
    await trio.aclose_forcefully(stream)
    return "fault" if server.fell.is_set() else "safe"


async def shut_the_window(server: Server) -> Verdict:
    """H3: ask for much over HTTP/2, and give no window for it."""
    path = server.path("flood")
    caller = await server.dial_h2(window=1000)
    await caller.ask("GET", path)
    await caller.hear(1000)
    with trio.move_on_after(server.patience):
        await server.app.until(lambda: server.app.told[path] > 0 or server.app.produced[path] > MUCH)
    await trio.aclose_forcefully(caller.raw)
    return "fault" if server.app.produced[path] > MUCH else "safe"


async def leave_a_deaf_producer(server: Server) -> Verdict:
    """H4: reset a stream whose producer awaits nothing but its sends."""
    path = server.path("deaf")
    caller = await server.dial_h2()
    await caller.ask("GET", path)
    await caller.hear(5)
    await caller.leave("cancel")
    await server.app.until(lambda: server.app.ended[path] > 0)
    await trio.aclose_forcefully(caller.raw)
    return "fault" if path in server.app.deaf else "safe"


async def idle(server: Server) -> Verdict:
    """H5: have an answer, and keep the connection. The application is Quart-Trio's."""
    stream = await server.dial("http/1.1")
    await stream.send_all(request("/"))
    verdict = await server.sees(hear_close(stream))
    await trio.aclose_forcefully(stream)
    return verdict


async def pipeline(server: Server) -> Verdict:
    """H6: leave while a second request waits behind the running response."""
    path = server.path("hold")
    stream = await server.dial("http/1.1")
    await stream.send_all(request(path) + request("/"))
    heard = b""
    while b"start" not in heard:
        heard += await stream.receive_some()
    await trio.aclose_forcefully(stream)
    return await server.sees(server.app.until(lambda: server.app.told[path] > 0))


async def hear_close(stream: trio.abc.Stream) -> None:
    """Read until the server closes."""
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


class Fault(NamedTuple):
    """A fault of the released Hypercorn, and what makes it show."""

    name: str
    attack: Callable[[Server], Awaitable[Verdict]]
    tls: bool = False
    quart: bool = False

    @property
    def times(self) -> int:
        if self.attack is send_priorities:
            return TIMES // 10  # of 1,100 frames each
        return TLS_TIMES if self.tls else TIMES


FAULTS = [
    Fault("h1", stop_reading),
    Fault("h1-tls", stop_reading, tls=True),
    Fault("h2-data", send_data_too_late),
    Fault("h2-data-tls", send_data_too_late, tls=True),
    Fault("h2-frames", send_data_at_once),
    Fault("h2-path", send_a_path),
    Fault("h2-connect", send_no_path),
    Fault("h2-priority", send_priorities),
    Fault("h2-upgrade", upgrade),
    Fault("h3", shut_the_window),
    Fault("h3-tls", shut_the_window, tls=True),
    Fault("h4", leave_a_deaf_producer),
    Fault("h5", idle, quart=True),
    Fault("h5-tls", idle, tls=True, quart=True),
    Fault("h6", pipeline),
    Fault("h6-tls", pipeline, tls=True),
]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])


@asynccontextmanager
async def facing(fault: Fault, build: Build, certificate: Certificate) -> AsyncIterator[Server]:
    """A server to be attacked."""
    app = None
    if fault.quart:
        app = QuartTrio("attacked")
        app.add_url_rule("/", "answer", _answer)
    with trio.fail_after(WAIT):
        # H1 is about who wants to stop, so there no deadline of ours may be what ends it.
        options = dataclasses.replace(OPTIONS, write_seconds=2 * WAIT) if fault.attack is stop_reading else OPTIONS
        async with running(build, options, certificate if fault.tls else None, app) as server:
            yield server


async def _answer() -> str:
    return "ok"


@each_fault
async def test_the_released_hypercorn_has_fault(fault: Fault, certificate: Certificate) -> None:
    async with facing(fault, "released", certificate) as server:
        verdict = await fault.attack(server)
        if verdict == "safe":  # so far
            verdict = await server.verdict()
        assert verdict == "fault"


@pytest.mark.once
@each_fault
async def test_ours_has_not_however_often(
    fault: Fault, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    verdicts: Counter[str] = Counter()

    async def attack(server: Server) -> None:
        for _ in range(fault.times // AT_ONCE):
            verdicts[await fault.attack(server)] += 1

    async with facing(fault, "ours", certificate) as server:
        assert await server.still_serves()
        await server.wait_clean()
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(attack, server)
        assert await server.still_serves()
        await server.wait_clean()
    assert verdicts == {"safe": fault.times}
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("version", ["0.17.3", "0.18.1", "0.19.0", "1.0"])
def test_another_hypercorn_is_refused(version: str) -> None:
    with pytest.raises(safety.UnknownHypercorn, match=f"hypercorn {version} .* made for 0.18.0"):
        safety.check_version(version)


def test_the_overrides_are_not_installed_over_another_hypercorn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "HYPERCORN", "0.17.3")
    with pytest.raises(safety.UnknownHypercorn):
        fast_path.install()
