"""What a client may cost: the time it takes to ask and to read, the connections it has, the memory it holds."""

import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import h2.events
import pytest
import trio

from sluicegate.server.options import ServerOptions
from sluicegate.server.serve import listen
from tests.server.rig import WAIT, AnyStream, Certificate, Server, request, running
from tests.sockets.h2_caller import H2Caller

pytestmark = pytest.mark.sockets
STALLED = 0.3  # seconds that a client may take nothing
OPTIONS = ServerOptions(write_seconds=STALLED, header_seconds=0.3, keep_alive_seconds=2 * WAIT, graceful_seconds=0.5)
MEMORY = 1_000_000  # bytes that a stalled client may have had produced for it
Ask = Callable[[Server, str], Awaitable[AnyStream]]


@asynccontextmanager
async def ours(certificate: Certificate | None = None, options: ServerOptions = OPTIONS) -> AsyncIterator[Server]:
    with trio.fail_after(WAIT):
        async with running("ours", options, certificate) as server:
            yield server


async def ask_h11(server: Server, path: str) -> AnyStream:
    """Ask over HTTP/1.1; read nothing."""
    stream = await server.dial("http/1.1", receive_buffer=4096)
    await stream.send_all(request(path))
    return stream


async def ask_h2(server: Server, path: str) -> AnyStream:
    """Ask over HTTP/2 with all the window that there is; read nothing, so the connection is full."""
    caller = await server.dial_h2(window=2**31 - 1, receive_buffer=4096)
    caller.http.increment_flow_control_window(2**30)
    await caller.ask("GET", path)
    return caller.stream


async def ask_h2_windowless(server: Server, path: str) -> AnyStream:
    """Ask over HTTP/2 with a window of next to nothing; the system takes all that is sent."""
    caller = await server.dial_h2(window=10)
    await caller.ask("GET", path)
    return caller.stream


async def ask_h2_drop_by_drop(server: Server, path: str) -> AnyStream:
    """Ask over HTTP/2, and take a byte now and then: never nothing for long, but too little."""
    caller = await server.dial_h2(window=10)
    await caller.ask("GET", path)

    async def sip() -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                caller.http.increment_flow_control_window(1, 1)
                await caller.flush()
                await trio.sleep(STALLED / 3)

    trio.lowlevel.spawn_system_task(sip)
    return caller.stream


WAYS = pytest.mark.parametrize("ask", [ask_h11, ask_h2, ask_h2_windowless, ask_h2_drop_by_drop])
TLS = pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])


@WAYS
@TLS
async def test_a_client_that_takes_nothing_is_cut_off(ask: Ask, tls: bool, certificate: Certificate) -> None:
    """Its producer is told, and has not produced much. On every path. It is counted once."""
    async with ours(certificate if tls else None) as server:
        path = server.path("flood")
        began = trio.current_time()
        stream = await ask(server, path)
        await server.app.until(lambda: server.app.told[path] > 0)
        assert trio.current_time() - began >= STALLED
        assert server.app.produced[path] < MEMORY
        await server.app.until(lambda: server.app.ended[path] > 0)
        await trio.aclose_forcefully(stream)
        assert await server.still_serves()
        await server.wait_clean()
        assert server.evicted == 1


@TLS
async def test_who_reads_slowly_but_enough_gets_all(tls: bool, certificate: Certificate) -> None:
    """For longer than the time in which one has to take something."""
    options = dataclasses.replace(OPTIONS, least_rate=20_000)
    async with ours(certificate if tls else None, options) as server:
        path = server.path("flood")
        stream = await ask_h11(server, path)
        deadline = trio.current_time() + 4 * STALLED
        while trio.current_time() < deadline:
            assert await stream.receive_some(4096) != b""
            await trio.sleep(0.02)
        assert server.app.told[path] == 0
        await trio.aclose_forcefully(stream)


@TLS
async def test_who_reads_too_slowly_is_cut_off(tls: bool, certificate: Certificate) -> None:
    """Though it never takes nothing for long."""
    options = dataclasses.replace(OPTIONS, least_rate=10_000_000)
    async with ours(certificate if tls else None, options) as server:
        path = server.path("flood")
        stream = await ask_h11(server, path)
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                if not await stream.receive_some(4096):
                    break
                await trio.sleep(0.02)
        await server.app.until(lambda: server.app.told[path] > 0)
        await trio.aclose_forcefully(stream)


@TLS
async def test_who_is_owed_nothing_may_wait(tls: bool, certificate: Certificate) -> None:
    """Idle means that nothing is drained, never that nothing is produced: a silent stream lives on, and its client."""
    async with ours(certificate if tls else None) as server:
        path = server.path("hold")
        h11 = await ask_h11(server, path)
        caller = await server.dial_h2()
        other = server.path("hold")
        await caller.ask("GET", other)
        await caller.hear(5)
        await trio.sleep(4 * STALLED)
        assert server.app.told[path] == server.app.told[other] == 0
        await trio.aclose_forcefully(h11)
        await trio.aclose_forcefully(caller.stream)
        await server.app.until(lambda: min(server.app.told[path], server.app.told[other]) > 0)


async def test_other_streams_of_the_connection_live_on() -> None:
    """Where one stream's window stays shut, only that stream is reset."""
    async with ours() as server:
        caller = await server.dial_h2(window=10)
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "x")]
        flood, hold = server.path("flood"), server.path("hold")
        for stream_id, path in ((1, flood), (3, hold)):
            caller.http.send_headers(stream_id, [*fields, (":path", path)], end_stream=True)
        await caller.flush()
        await server.app.until(lambda: server.app.told[flood] > 0)
        while not (resets := await read_resets(caller)):
            pass
        assert resets == [1]
        assert server.app.told[hold] == 0
        await trio.aclose_forcefully(caller.stream)
        await server.app.until(lambda: server.app.told[hold] > 0)


async def read_resets(caller: H2Caller) -> list[int]:
    """Read once; return the streams that were reset."""
    data = await caller.stream.receive_some(65536)
    assert data
    events = caller.http.receive_data(bytes(data))
    return [event.stream_id for event in events if isinstance(event, h2.events.StreamReset)]


HEADS = [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]


@pytest.mark.parametrize("head", HEADS, ids=["nothing", "a byte", "half a head", "an HTTP/2 preface"])
@TLS
async def test_a_connection_without_a_request_is_closed(head: bytes, tls: bool, certificate: Certificate) -> None:
    async with ours(certificate if tls else None) as server:
        async with await server.dial("http/1.1") as stream:
            began = trio.current_time()
            if head:
                await stream.send_all(head)
            await hear_close(stream)
            assert trio.current_time() - began >= OPTIONS.header_seconds * 0.9
        await server.wait_clean()


async def test_a_head_that_trickles_does_not_get_more_time() -> None:
    async with ours() as server, await server.connect() as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            for byte in request("/") * 10:
                await stream.send_all(bytes([byte]))
                await trio.sleep(OPTIONS.header_seconds / 10)
        assert not server.app.begun


async def test_between_requests_a_connection_may_idle() -> None:
    """But once the next head has begun, it has to come in time."""
    async with ours() as server, await server.connect() as stream:
        await stream.send_all(request("/"))
        await hear(stream, b"ok")
        await trio.sleep(3 * OPTIONS.header_seconds)
        await stream.send_all(request("/")[:10])
        began = trio.current_time()
        await hear_close(stream)
        assert OPTIONS.header_seconds * 0.9 <= trio.current_time() - began


async def test_an_idle_connection_is_closed_in_time() -> None:
    """Also over HTTP/2, where its only stream was reset by the client."""
    options = dataclasses.replace(OPTIONS, keep_alive_seconds=0.3)
    async with ours(options=options) as server:
        caller = await server.dial_h2()
        await caller.ask("GET", server.path("left"))
        await caller.hear(5)
        await caller.leave("cancel")
        await caller.hear_close()
        await trio.aclose_forcefully(caller.stream)
        await server.wait_clean()


async def test_a_handshake_has_a_deadline(certificate: Certificate) -> None:
    options = dataclasses.replace(OPTIONS, handshake_seconds=0.2)
    async with ours(certificate, options) as server:
        async with await server.connect() as stream:
            await stream.send_all(b"\x16\x03\x01")
            await hear_close(stream)
        await server.wait_clean()


@pytest.mark.parametrize("cap", ["max_connections", "max_connections_per_address"])
@TLS
async def test_connections_above_the_cap_are_closed_at_once(cap: str, tls: bool, certificate: Certificate) -> None:
    cap_of_three: Any = {cap: 3}
    options = dataclasses.replace(OPTIONS, **cap_of_three)
    async with ours(certificate if tls else None, options) as server:
        held = [await ask_h11(server, server.path("hold")) for _ in range(3)]
        await server.app.until(lambda: server.app.begun.total() == 3)
        for _ in range(20):
            async with await server.connect() as stream:
                await hear_close(stream)
        await trio.aclose_forcefully(held.pop())
        await server.app.until(lambda: server.app.ended.total() == 1)
        while not await server.still_serves():  # its place is free as soon as the connection is gone
            await trio.lowlevel.checkpoint()
        for holder in held:
            await trio.aclose_forcefully(holder)
        await server.wait_clean()


def test_what_the_system_holds_of_a_connection_is_bounded() -> None:
    """In bytes and in time, inherited from the listening socket. Linux doubles the size that is set."""
    options = ServerOptions(port=0, send_buffer_bytes=64 * 1024, write_seconds=7.5)
    with socket.socket(fileno=listen(options)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * options.send_buffer_bytes
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7500


async def test_case_68_a_slow_client_holds_bounded_memory() -> None:
    """Bounded in bytes, for each of many, over HTTP/1.1 and HTTP/2."""
    options = dataclasses.replace(OPTIONS, write_seconds=1.0)
    async with ours(options=options) as server:
        paths = [server.path("flood") for _ in range(60)]
        streams = [
            await (ask_h11, ask_h2, ask_h2_windowless)[index % 3](server, path) for index, path in enumerate(paths)
        ]
        await server.app.until(lambda: all(server.app.told[path] for path in paths))
        assert max(server.app.produced.values()) < MEMORY
        for stream in streams:
            await trio.aclose_forcefully(stream)
        await server.wait_clean()


async def hear(stream: AnyStream, words: bytes) -> None:
    """Read up to `words`."""
    heard = b""
    while words not in heard:
        data = await stream.receive_some()
        assert data, heard
        heard += data


async def hear_close(stream: AnyStream) -> None:
    """Read until the server closes."""
    with contextlib.suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass
