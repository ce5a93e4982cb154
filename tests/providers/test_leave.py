"""Whoever leaves a reply half-way closes its upstream at once, by every way, and leaves nothing: no connection, no
socket, no warning, and a pool that serves the next one.
"""

import gc
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sluicegate.machine.deltas import Started, TextDelta
from sluicegate.machine.run import Run
from sluicegate.providers.base import Body, Provider
from sluicegate.runtime.alarms import Alarms
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.feed import Feed
from sluicegate.runtime.options import RunOptions
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from sluicegate.wire.downstream.openai_chat import ChatEncoder
from tests.path import path
from tests.providers.origin import Answer, Send, replying, say, start
from tests.providers.ways import BOUND, REQUEST, WAYS, Road, Way, every_stock_way, every_way, running
from tests.routes import route_to
from tests.test_transport import CancelAtStep

pytestmark = pytest.mark.sockets

DROPS = 100  # by each way, from each answer
AT_ONCE = 20
EARLY = 400  # steps of the scheduler, more than the head of a response needs
FLOOR_NEW, FLOOR_KEPT = 12, 8  # steps of one exchange
REPLY = path.FOLLOW_UPS["openai_chat"]


async def babble(send: Send) -> None:
    """Words without an end."""
    encoder = ChatEncoder("m", reply_id="x")
    await start(send)
    await say(send, encoder.encode(Started()))
    while True:
        await say(send, encoder.encode(TextDelta("word ")))
        await trio.lowlevel.checkpoint()


async def hush(send: Send) -> None:
    """A word, then silence."""
    encoder = ChatEncoder("m", reply_id="x")
    await start(send)
    await say(send, encoder.encode(Started()) + encoder.encode(TextDelta("word ")))
    await trio.sleep_forever()


async def ponder(_send: Send) -> None:
    """Not even a head."""
    await trio.sleep_forever()


async def fail_to_read(chunks: AsyncIterator[bytes]) -> None:
    with pytest.raises((httpx2.HTTPError, httpx2.StreamError)):
        await anext(chunks)


async def drop_one(road: Road, provider: Provider, alarms: Alarms, patience: int | None) -> None:
    """Run, and leave: behind the first word, and then our own transport closes the connection before anything else
    happens; or after `patience` steps.
    """
    feed = Feed(NativeEncoder(path.EPOCH), 1 << 16)
    driver = Driver(Run(path.RUN_ID, REQUEST), route_to(provider, "m"), Registry([]), feed, RunOptions())
    reader = driver.attach()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.drive, alarms)
        if patience is None:
            with trio.fail_after(BOUND):
                await driver.answered.wait()
            before = road.transport.open_connections
            driver.detach(reader)
            if not road.way.stock:
                assert road.transport.open_connections == before - 1
        else:
            for _ in range(patience):
                await trio.lowlevel.checkpoint()
            driver.detach(reader)
    assert driver.run.terminal is not None


@every_way
@pytest.mark.parametrize("answer", [babble, hush, ponder])
async def test_a_client_that_leaves_closes_its_upstream(way: Way, answer: Answer, tmp_path: Path) -> None:
    draw = random.Random(way.name)
    async with running(way, replying(REPLY), tmp_path) as road, trio.open_nursery() as nursery:
        provider = road.provider("openai_chat")
        assert await ask(provider) == REPLY
        road.origin.answer = answer
        alarms = Alarms(nursery)
        for _ in range(DROPS // AT_ONCE):
            async with trio.open_nursery() as wave:
                for _ in range(AT_ONCE):
                    patience = draw.randrange(EARLY) if answer is ponder else None
                    wave.start_soon(drop_one, road, provider, alarms, patience)
            assert road.sockets == road.transport.open_connections == road.transport.idle_connections <= 1
            await road.wait_gone()
        reached = len(road.origin.asked) - 1
        assert reached == DROPS if answer is not ponder else DROPS / 10 < reached < DROPS
        road.origin.answer = replying(REPLY)
        assert await ask(provider) == REPLY
        alarms.close()
    gc.collect()  # what was left behind would warn here


@pytest.mark.parametrize("way", [way for way in WAYS if not way.stock], ids=lambda way: way.name)
async def test_an_aborted_reply_says_no_more(way: Way, tmp_path: Path) -> None:
    """Not even what had come and was not read, and to nobody who waits for it."""
    async with running(way, babble, tmp_path) as road:
        async with road.provider("openai_chat").open(REQUEST) as chunks:
            await anext(chunks)
            await wait_all_tasks_blocked(0.01)
            assert isinstance(chunks, Body)
            chunks.close()
            chunks.close()
            assert road.sockets == road.transport.open_connections == 0
            for _ in range(2):
                await fail_to_read(chunks)
        road.origin.answer = hush
        async with road.provider("openai_chat").open(REQUEST) as chunks, trio.open_nursery() as nursery:
            await anext(chunks)
            nursery.start_soon(fail_to_read, chunks)
            await wait_all_tasks_blocked(0.01)
            assert isinstance(chunks, Body)
            chunks.close()
        await road.wait_gone()


async def ask(provider: Provider) -> bytes:
    async with provider.open(REQUEST) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def cancelled_at(step: int, provider: Provider) -> bool:
    """Ask, and be cancelled behind so many steps; return whether that was in time."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            assert await ask(provider) == REPLY
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


@pytest.mark.sweep
@every_stock_way
@pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
async def test_cancelled_at_any_await_it_leaves_nothing_behind(way: Way, kept: bool, tmp_path: Path) -> None:
    """Whether the connection is made for the request or was kept from the one before."""
    async with running(way, replying(REPLY[:50], REPLY[50:]), tmp_path) as road:
        assert await ask(road.provider("openai_chat")) == REPLY  # the SDK's first one asks a thread for the platform
        for step in range(1, 1000):
            await road.renew()
            provider = road.provider("openai_chat")
            assert not kept or await ask(provider) == REPLY
            cancelled = await cancelled_at(step, provider)
            assert road.sockets == road.transport.open_connections == road.transport.idle_connections
            await road.wait_gone()
            if not cancelled:
                break
            assert await ask(provider) == REPLY
        assert step >= (FLOOR_KEPT if kept else FLOOR_NEW)
    gc.collect()
