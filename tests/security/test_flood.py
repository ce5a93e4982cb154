"""A crowd that holds on to its connections, by half heads and shut windows: new clients do not feel it, and it ends."""

import gc
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import pytest
import trio

from sluicegate.providers.environment import provider_of
from sluicegate.providers.models import Models
from sluicegate.providers.script import Reply, Say
from sluicegate.providers.scripted import ScriptedTransport
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.runtime.options import RunOptions
from sluicegate.server.options import ServerOptions
from sluicegate.service.app import Service
from sluicegate.tools.registry import Registry
from tests.security.rows import COUNTS
from tests.server.rig import Server, running
from tests.service.harness import DONE

pytestmark = [pytest.mark.sockets, pytest.mark.alone]

HOLD = 15.0  # seconds that a client may take for its head, or take nothing
AFTER = 1.0  # seconds behind that, in which all of it is gone
CLIENTS = 300  # new ones, one after another
FACTOR = 2.0
STEADY = 5
PACE = 0.002  # seconds between half heads: what ends at the same time has to wait for its turn
CONNECTION = ("_run_handler", "_run_accepted")  # ends of the names of their tasks
RECEIVE_BUFFER = 4096
# Read after read of the wire, far more than anybody holds.
FLOOD = [b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"word " * 1_000)] * 100
HALF = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
RUN = RunOptions(log_room=16 * 1024, max_lateness_seconds=math.inf)  # the clients share the loop with the service
SERVER = ServerOptions(header_seconds=HOLD, write_seconds=HOLD, send_buffer_bytes=16 * 1024, graceful_seconds=0.5)


def chat(question: str) -> bytes:
    body = msgspec.json.encode({"messages": [{"role": "user", "content": question}]})
    return HALF + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def answer(asked: ScriptedRequest) -> Reply:
    return FLOOD if asked.messages[-1].text == "flood" else [Say("A word or two.")]


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Service, Server]]:
    transport = ScriptedTransport(answer)
    provider = provider_of("openai_chat", UpstreamOptions(), transport, "k", "http://scripted.invalid")
    service = Service(Models({"scripted": provider}, "scripted", "m"), Registry([]), RUN)
    async with running("ours", SERVER, app=service.app(), drain=service.drain, refuse=service.refuse) as server:
        yield service, server
        assert transport.active == 0


async def p99(server: Server) -> float:
    """Let new clients ask, one after another; return in how many seconds 99 of 100 have their whole answer."""
    gc.collect()
    times = []
    for _ in range(CLIENTS):
        began = trio.current_time()
        async with await server.connect() as stream:
            await stream.send_all(chat("new"))
            heard = b""
            while data := await stream.receive_some():
                heard += data
        assert DONE in heard
        times.append(trio.current_time() - began)
    return sorted(times)[CLIENTS * 99 // 100 - 1]


def held_by(server: Server) -> int:
    """How many connections the server has, by their tasks."""
    return sum(count for name, count in server.left()[0].items() if name.endswith(CONNECTION))


async def hold_on(server: Server, kept: AsyncExitStack, words: bytes, receive_buffer: int = 0) -> None:
    stream = await kept.enter_async_context(await server.connect(receive_buffer))
    await stream.send_all(words)


async def wait_until_full(service: Service) -> None:
    """Wait until all that shut their windows have a run, and nothing more is written to any."""
    steady, before = 0, -1
    while steady < STEADY:
        await trio.sleep(0.02)
        made = sum(driver.feed.end for driver in service.runs._live.values())
        steady = steady + 1 if made == before and len(service.runs) == COUNTS["shut_windows"] else 0
        before = made


async def test_new_clients_do_not_feel_those_that_hold_on(note: Callable[[str], None]) -> None:
    crowd = COUNTS["half_heads"] + COUNTS["shut_windows"]
    async with serving() as (service, server), AsyncExitStack() as kept:
        await p99(server)  # imports, caches
        before = await p99(server)
        async with trio.open_nursery() as nursery:
            for _ in range(COUNTS["shut_windows"]):
                nursery.start_soon(hold_on, server, kept, chat("flood"), RECEIVE_BUFFER)
        with trio.fail_after(HOLD):
            await wait_until_full(service)
        for _ in range(COUNTS["half_heads"]):
            await hold_on(server, kept, HALF)
            await trio.sleep(PACE)
        last = trio.current_time()
        beside = await p99(server)
        assert held_by(server) >= crowd, "some were gone before the others came"
        with trio.fail_after(last + HOLD + AFTER - trio.current_time()):
            while held_by(server):  # noqa: ASYNC110  # they end by time
                await trio.sleep(0.02)
        gone = trio.current_time() - last
        assert len(service.runs) == 0
    note(f"a crowd of {crowd}: p99 {before * 1e3:.1f} ms without, {beside * 1e3:.1f} ms beside; gone in {gone:.1f} s")
    assert beside < FACTOR * before
