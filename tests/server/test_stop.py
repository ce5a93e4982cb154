"""The server is told to stop: it does in time, whatever its clients do, and what can end in that time ends well."""

import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from sluicegate.server.options import ServerOptions
from sluicegate.server.serve import CannotListen, serve
from tests.server.rig import SLACK, WAIT, AnyStream, App, Certificate, Server, request, running
from tests.server.test_limits import TLS, ask_h2, ask_h2_windowless, ask_h11, hear, hear_close

pytestmark = pytest.mark.sockets
OPTIONS = ServerOptions(graceful_seconds=1.0)  # and no deadline but this one comes in time


@asynccontextmanager
async def ours(certificate: Certificate | None = None, options: ServerOptions = OPTIONS) -> AsyncIterator[Server]:
    with trio.fail_after(WAIT):
        async with running("ours", options, certificate) as server:
            yield server


async def stop(server: Server) -> float:
    """Stop the server; return how long that took."""
    began = trio.current_time()
    server.stop.set()
    await server.returned.wait()
    return trio.current_time() - began


@TLS
async def test_a_stop_is_in_time_whatever_clients_do(tls: bool, certificate: Certificate) -> None:
    """50 stalled over HTTP/1.1, 50 with a shut window, 50 stalled over HTTP/2, and 50 that idle."""
    async with ours(certificate if tls else None) as server:
        streams: list[AnyStream] = []
        stalled = [server.path("flood") for _ in range(150)]
        for index, path in enumerate(stalled):
            streams.append(await (ask_h11, ask_h2, ask_h2_windowless)[index % 3](server, path))
        for _ in range(50):
            streams.append(await server.dial("http/1.1"))
            await streams[-1].send_all(request("/"))
            await hear(streams[-1], b"ok")
        await server.app.until(lambda: len(server.app.produced) == 150)
        assert await stop(server) < OPTIONS.graceful_seconds + SLACK
        assert not server.fell.is_set()
        assert server.app.ended.total() == server.app.begun.total()
        for stream in streams:
            await trio.aclose_forcefully(stream)


@TLS
async def test_idle_connections_close_at_once(tls: bool, certificate: Certificate) -> None:
    """H5: each of them held up the stop. So does one that has sent half a head, or nothing."""
    async with ours(
        certificate if tls else None, ServerOptions(graceful_seconds=2 * SLACK, close_seconds=2 * SLACK)
    ) as server:
        streams = [await server.dial("http/1.1") for _ in range(5)]
        for stream in streams[:3]:
            await stream.send_all(request("/"))
            await hear(stream, b"ok")
        await streams[3].send_all(request("/")[:10])
        caller = await server.dial_h2()
        await caller.ask("GET", "/")
        await caller.hear_all()
        assert await stop(server) < SLACK
        for stream in [*streams, caller.stream]:
            await hear_close(stream)
            await trio.aclose_forcefully(stream)


async def test_the_drain_comes_first_and_streams_may_end_in_it() -> None:
    """While the application drains, requests are still taken."""
    draining, drained = trio.Event(), trio.Event()

    async def drain() -> None:
        draining.set()
        await drained.wait()

    with trio.fail_after(WAIT):
        async with running("ours", OPTIONS, drain=drain) as server, await server.connect() as stream:
            server.stop.set()
            await draining.wait()
            assert await server.still_serves()
            await stream.send_all(request("/"))
            await hear(stream, b"ok")
            drained.set()
            await hear_close(stream)
            await server.returned.wait()
            with pytest.raises(OSError, match="refused"):
                await server.connect()


@TLS
async def test_a_response_that_ends_in_time_is_whole(tls: bool, certificate: Certificate) -> None:
    """Over HTTP/1.1 and HTTP/2, when the stop comes while it runs."""
    async with ours(certificate if tls else None) as server:
        h11 = await server.dial("http/1.1")
        slow = server.path("slow")
        await h11.send_all(request(slow))
        await hear(h11, b"start")
        caller = await server.dial_h2()
        await caller.ask("GET", server.path("slow"))
        await caller.hear(5)
        async with await server.dial("http/1.1") as idle:
            server.stop.set()
            await hear_close(idle)
        server.app.go.set()
        answer = await caller.hear_all()
        assert answer.body == b"startend"
        await hear(h11, b"end\r\n0\r\n\r\n")
        await hear_close(h11)
        await server.returned.wait()
        for stream in (h11, caller.stream):
            await trio.aclose_forcefully(stream)


async def test_tls_ends_with_close_notify(certificate: Certificate) -> None:
    """Also when the client asks for the close, and when the server stops: no truncation goes unnoticed."""
    async with ours(certificate) as server:
        asked, stopped = await strict(server, certificate), await strict(server, certificate)
        await asked.send_all(request("/", close=True))
        await hear(asked, b"ok")
        assert await asked.receive_some() == b""  # a cut would raise
        await stopped.send_all(request("/"))
        await hear(stopped, b"ok")
        server.stop.set()
        assert await stopped.receive_some() == b""
        for stream in (asked, stopped):
            await trio.aclose_forcefully(stream)


async def strict(server: Server, certificate: Certificate) -> trio.SSLStream[trio.SocketStream]:
    """A client that insists on close_notify."""
    stream = trio.SSLStream(await server.connect(), certificate.client(), server_hostname="localhost")
    await stream.do_handshake()
    return stream


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)])
async def test_alpn(offered: list[str], chosen: str | None, certificate: Certificate) -> None:
    async with ours(certificate) as server:
        context = certificate.client()
        if offered:
            context.set_alpn_protocols(offered)
        stream = trio.SSLStream(await server.connect(), context, server_hostname="localhost", https_compatible=True)
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == chosen
        await trio.aclose_forcefully(stream)


async def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, certificate: Certificate) -> None:
    for certfile, keyfile, words in (
        (certificate.path, None, "certfile is set but keyfile is not: give both"),
        (None, certificate.path, "keyfile is set but certfile is not: give both"),
        (str(tmp_path / "none.pem"), certificate.path, "cannot use certfile .*none.pem .*No such file"),
        (__file__, certificate.path, "cannot use certfile .*test_stop.py"),
    ):
        options = ServerOptions(port=0, certfile=certfile, keyfile=keyfile)
        descriptors = len(os.listdir("/proc/self/fd"))
        with pytest.raises(CannotListen, match=words):
            await serve(App(), options, trio.lowlevel.checkpoint, trio.sleep_forever)
        assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_case_70_window_shielded_send_and_cancelled_close(certificate: Certificate) -> None:
    """Hypercorn's HTTP/2 window, its shielded send, and the crash when the application is cancelled while it closes."""
    async with ours(certificate, dataclasses.replace(OPTIONS, write_seconds=0.3)) as server:
        window, send = server.path("flood"), server.path("flood")
        streams = [await ask_h2_windowless(server, window), await ask_h11(server, send)]
        await server.app.until(lambda: server.app.told[window] > 0 and server.app.told[send] > 0)
        for _ in range(50):
            path = server.path("cancelled")
            async with await server.dial("http/1.1") as stream:
                await stream.send_all(request(path, close=True))
                await hear_close(stream)
        for stream in streams:
            await trio.aclose_forcefully(stream)
        assert await server.still_serves()
        await server.wait_clean()
