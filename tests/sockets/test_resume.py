"""Leaving and coming back on real sockets, over both protocols, in each way of leaving: what arrives is the log."""

from itertools import cycle

import msgspec
import pytest
import trio

from sluicegate.providers.script import Call, Cut, Reply, Say, Stall, Think
from sluicegate.runtime.options import RunOptions
from tests.service.harness import DONE, Stack, eventually, stack
from tests.service.resuming import HEARTBEAT, cursor_of, data_of, digging, frames_in, replaying
from tests.sockets.protocols import PROTOCOLS, WAYS, AnyCaller, Protocol, calling_over, leave

pytestmark = [pytest.mark.sockets]

RATE = 400.0  # words a second
SCENARIOS: dict[str, list[Reply]] = {
    "plain": [[Say("one two three four five six", rate=RATE)]],
    "reasoning": [[Think("Let me think. ", rate=RATE), Say("So it is.", rate=RATE)]],
    "tools": [[Say("Wait. ", rate=RATE), Call("glance"), Call("dig", {"seconds": 0})], [Say("Done.", rate=RATE)]],
    "cut": [[Say("half an answer ", rate=RATE), Cut()]],
    "long": [[Say("x" * 30_000 + " ", words=0), Say("y" * 20_000, words=0)]],
}
QUESTION = {"messages": [{"role": "user", "content": "Hi"}], "on_disconnect": "detach"}
PATIENT = RunOptions(grace_seconds=20)


async def hear(caller: AnyCaller, count: int) -> bytes:
    """Read until `count` frames are here, and return these."""
    while len(frames := frames_in(bytes(caller.heard))) < count:
        await caller.hear(len(caller.heard) + 1)
    return b"".join(frames[:count])


async def read_on(protocol: Protocol, port: int, run_id: str, has: bytes) -> bytes:
    """Come back with `has`; return that and the rest."""
    async with calling_over(protocol, port) as caller:
        await caller.ask("GET", f"/runs/{run_id}/events", more={"last-event-id": cursor_of(frames_in(has)[-1])})
        answer = await caller.hear_all()
    assert answer.status == (204 if has.endswith(DONE) else 200)
    return has + answer.body


async def cut_one(up: Stack, protocol: Protocol, port: int, count: int, how: str, way: str) -> int:
    """Leave a run after `count` of its frames, and come back; return how many there were."""
    async with calling_over(protocol, port) as caller:
        await caller.ask("POST", "/chat", msgspec.json.encode(QUESTION))
        await caller.hear_head()
        run_id = caller.run_id
        has = await hear(caller, count)
        await leave(caller, how)
        driver = up.service.runs.get(run_id)
        assert driver is not None
        if way == "after the end":
            await eventually(lambda: driver.run.terminal is not None)
        clients = 2 if way == "two clients" else 1
        bodies: list[bytes] = []

        async def one() -> None:
            bodies.append(await read_on(protocol, port, run_id, has))

        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(one)
        assert bodies == [b"".join(driver.feed.frames)] * clients
    return len(driver.feed.frames)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_detached_run_is_read_on_from_every_event(name: str, protocol: Protocol) -> None:
    hows, ways = cycle(WAYS[protocol]), cycle(("at once", "after the end", "two clients", "at once"))
    async with stack(replaying(SCENARIOS[name]), socket=True, tools=digging, run=PATIENT) as up:
        port = int(up.url.rpartition(":")[2])
        with trio.fail_after(30):
            count, frames = 0, 1
            while count < frames:
                count += 1
                frames = await cut_one(up, protocol, port, count, next(hows), next(ways))
        assert frames >= 5
        assert len(up.transport.requests) == frames * len(SCENARIOS[name])


@pytest.mark.alone
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_nobody_comes_back(protocol: Protocol) -> None:
    """The grace passes, on the real clock; each way of leaving starts it."""
    options = RunOptions(grace_seconds=0.2)
    async with stack(lambda _: [Say("Half"), Stall()], socket=True, run=options) as up:
        port = int(up.url.rpartition(":")[2])
        for how in WAYS[protocol]:
            async with calling_over(protocol, port) as caller:
                await caller.ask("POST", "/chat", msgspec.json.encode(QUESTION))
                await caller.hear(1, b"Half")
                driver = up.service.runs.get(caller.run_id)
                assert driver is not None
                at = trio.current_time()
                await leave(caller, how)
                await eventually(lambda driver=driver: driver.run.terminal is not None)  # type: ignore[misc]
                assert 0.2 <= trio.current_time() - at < 2
                assert data_of(driver.feed.frames[-1])["error"]["message"].endswith("(grace_seconds).")
                await eventually(lambda: up.transport.active == 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_case_65_heartbeats_cross_the_wire(protocol: Protocol) -> None:
    """Before the first word and behind it, alone in their piece, until the run is stopped."""
    options = RunOptions(heartbeat_seconds=0.02)
    async with stack([[Stall()], [Say("Half"), Stall()]], socket=True, run=options) as up:
        port = int(up.url.rpartition(":")[2])
        for words in (b'"step"', b"Half"):
            async with calling_over(protocol, port) as caller:
                await caller.ask("POST", "/chat", msgspec.json.encode(QUESTION))
                with trio.fail_after(10):
                    await caller.hear(1, words)
                    while caller.heard.count(HEARTBEAT) < 5:
                        await caller.hear(len(caller.heard) + 1)
                assert (await up.delete(caller.run_id)).status == 204
                answer = await caller.hear_all()
                assert answer.body.endswith(DONE)
                driver = up.service.runs.get(caller.run_id)
                assert driver is not None
                assert frames_in(answer.body) == driver.feed.frames
