"""Grace: how long a detached run goes on when nobody reads it. On the virtual clock, to the second."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from sluicegate.machine.events import RunFailed
from sluicegate.providers.script import Call, Pause, Reply, Say, Stall
from sluicegate.runtime.deadlines import ABANDONED, RUN_LATE
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.options import RunOptions
from sluicegate.service.options import ServiceOptions
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry

from .harness import LINKS, Exchange, Stack, over, read_frames, stack, text_of, virtually
from .resuming import cursor_of, detached, events, frames_in, post

GRACE = 30.0
HALF: Reply = [Say("Half"), Stall()]
OPTIONS = RunOptions(grace_seconds=GRACE, first_delta_seconds=1_000, stall_seconds=1_000, step_seconds=1_000)


async def left_at(up: Stack, exchange: Exchange, seconds: float) -> Driver:
    """Let `exchange` leave after `seconds`."""
    await exchange.until(b"Half")
    await trio.sleep(seconds)
    driver = up.driver(exchange)
    await exchange.leave()
    return driver


def check_abandoned(driver: Driver) -> None:
    assert isinstance(driver.run.terminal, RunFailed)
    assert driver.run.terminal.error == ABANDONED
    frames = read_frames(b"".join(driver.feed.frames))
    assert frames[-1]["error"] == {"code": "CANCELLED", "message": ABANDONED.message}


@asynccontextmanager
async def left(seconds: float = 0.0, options: RunOptions = OPTIONS) -> AsyncIterator[tuple[Stack, Driver]]:
    """A detached run without readers since `seconds`."""
    async with stack([HALF], run=options) as up:
        yield up, await left_at(up, await detached(up), seconds)


@pytest.mark.parametrize("grace", [0.0, 0.5, 30.0, 300.0])
@pytest.mark.parametrize("seconds", [0.0, 7.0])
def test_nobody_comes_back(grace: float, seconds: float) -> None:
    async def main() -> None:
        long = RunOptions(grace_seconds=grace, stall_seconds=1_000, step_seconds=1_000)
        async with left(seconds, long) as (up, driver):
            if grace:
                await trio.sleep(grace - 0.001)
                assert driver.run.terminal is None
                assert up.transport.active == 1, "it goes on without readers"
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(seconds + grace)
            assert up.transport.active == 0
            check_abandoned(driver)
            assert (await up.get(driver.run.run_id)).body == b"".join(driver.feed.frames)

    virtually(main)


def test_tools_end_with_the_grace() -> None:
    ends: list[float] = []

    @tool(timeout=1_000)
    async def sleep() -> str:
        """Sleep."""
        try:
            await trio.sleep_forever()
        finally:
            ends.append(trio.current_time())

    async def main() -> None:
        replies: list[Reply] = [[Say("Half"), Call("sleep"), Call("sleep")]]
        async with stack(replies, tools=Registry([sleep]), run=OPTIONS) as up:
            driver = await left_at(up, await detached(up), 1)
            await up.service.runs.wait_none()
            assert ends == [pytest.approx(1 + GRACE)] * 2
            check_abandoned(driver)

    virtually(main)


@LINKS
def test_the_grace_on_sockets_too(socket: bool) -> None:
    async def main() -> None:
        async with stack([HALF], run=RunOptions(grace_seconds=0.2), socket=socket) as up:
            driver = await left_at(up, await detached(up), 0)
            await up.service.runs.wait_none()
            assert up.transport.active == 0
            check_abandoned(driver)

    over(socket, main)


@pytest.mark.parametrize("seconds", [0.0, 1.0, GRACE - 0.001])
def test_who_comes_back_in_time_disarms_it(seconds: float) -> None:
    async def main() -> None:
        async with left() as (up, driver):
            await trio.sleep(seconds)
            back = await (await events(up, driver.run.run_id)).head()
            await trio.sleep(3 * GRACE)
            assert driver.run.terminal is None
            await up.delete(driver.run.run_id)
            assert (await back.answer()).frames[-1]["error"]["message"] == "The run was stopped."

    virtually(main)


@pytest.mark.parametrize("stay", [0.0, 5.0, 2 * GRACE])
def test_who_leaves_again_arms_it_anew(stay: float) -> None:
    async def main() -> None:
        async with left() as (up, driver):
            for _ in range(2):
                await trio.sleep(GRACE - 10)
                back = await (await events(up, driver.run.run_id)).head()
                await trio.sleep(stay)
                await back.leave()
            at = trio.current_time()
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(at + GRACE)
            check_abandoned(driver)

    virtually(main)


def test_only_the_last_one_to_leave_counts() -> None:
    async def main() -> None:
        async with stack([HALF], run=OPTIONS) as up:
            first = await detached(up)
            await first.until(b"Half")
            other = await (await events(up, first.run_id)).head()
            driver = await left_at(up, first, 0)
            await trio.sleep(2 * GRACE)
            assert driver.run.terminal is None
            await other.leave()
            at = trio.current_time()
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(at + GRACE)

    virtually(main)


def test_who_is_refused_or_only_looks_does_not_disarm_it() -> None:
    async def main() -> None:
        async with left() as (up, driver):
            run_id = driver.run.run_id
            await trio.sleep(GRACE / 2)
            assert (await up.get(run_id, "abc-1")).status == 404
            assert (await (await up.open("HEAD", f"/runs/{run_id}/events")).answer()).status == 200
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(GRACE)

    virtually(main)


@pytest.mark.parametrize("hold", [2.0, 100.0])
def test_who_leaves_before_the_head_starts_it_too(hold: float) -> None:
    async def main() -> None:
        async with stack([[Stall()]], run=OPTIONS, options=ServiceOptions(hold_seconds=hold)) as up:
            exchange = await post(up, "k", on_disconnect="detach")
            await trio.sleep(1)
            _, driver = up.service.runs.named("", "k") or (b"", None)
            assert driver is not None
            await exchange.leave()
            assert driver.run.terminal is None
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(1 + GRACE)
            check_abandoned(driver)

    virtually(main)


def test_who_left_before_the_head_comes_back_by_the_key() -> None:
    async def main() -> None:
        async with stack([[Pause(5), Say("At last.")]], run=OPTIONS) as up:
            first = await post(up, "k", on_disconnect="detach")
            await trio.sleep(1)
            await first.leave()
            again = await post(up, "k", on_disconnect="detach")
            assert text_of((await again.answer()).frames) == "At last."
            assert len(up.transport.requests) == 1

    virtually(main)


def test_a_stop_does_not_wait_for_the_grace() -> None:
    async def main() -> None:
        async with left() as (up, driver):
            await trio.sleep(1)
            assert (await up.delete(driver.run.run_id)).status == 204
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(1)
            assert (await up.get(driver.run.run_id)).frames[-1]["error"]["message"] == "The run was stopped."
            await trio.sleep(2 * GRACE)
            assert len(read_frames(b"".join(driver.feed.frames))) == len(driver.feed.frames), "nothing follows the end"

    virtually(main)


def test_the_grace_does_not_prolong_the_run() -> None:
    async def main() -> None:
        async with left(options=RunOptions(grace_seconds=100, run_seconds=50)) as (up, driver):
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(50)
            assert isinstance(driver.run.terminal, RunFailed)
            assert driver.run.terminal.error == RUN_LATE

    virtually(main)


def test_a_run_that_ends_within_the_grace_is_whole() -> None:
    async def main() -> None:
        async with stack([[Say("Half"), Pause(GRACE - 1), Say(" and half.")]], run=OPTIONS) as up:
            exchange = await detached(up)
            log = frames_in(await exchange.until(b"Half"))
            driver = await left_at(up, exchange, 0)
            await trio.sleep(2 * GRACE)
            tail = await up.get(driver.run.run_id, cursor_of(log[-1]))
            assert tail.frames[-1]["done"] is True
            assert text_of(read_frames(b"".join(log) + tail.body)) == "Half and half."

    virtually(main)


def test_a_run_without_readers_is_not_held_up_by_a_log_that_nobody_takes() -> None:
    """The one who held the upstream up leaves, and the run goes on to its end."""

    async def main() -> None:
        text = "word " * 100_000
        async with stack([[Say(text, words=500)]], run=RunOptions(log_room=10_000)) as up:
            body = b'{"messages":[{"role":"user","content":"Hi"}],"on_disconnect":"detach"}'
            exchange = await up.open("POST", "/chat", body, {"Content-Type": "application/json"}, buffer=0)
            await exchange.head()
            await trio.testing.wait_all_tasks_blocked()
            driver = up.driver(exchange)
            assert driver.feed.is_full()
            await exchange.leave()
            await up.service.runs.wait_none()
            assert trio.current_time() < 1
            assert text_of((await up.get(driver.run.run_id)).frames) == text

    virtually(main)


@pytest.mark.parametrize("allowed", [True, False])
def test_detach_has_to_be_allowed(allowed: bool) -> None:
    async def main() -> None:
        async with stack([[Say("Yes.")]], options=ServiceOptions(detach=allowed)) as up:
            answer = await (await detached(up)).answer()
            assert answer.status == (200 if allowed else 400)
            assert allowed or answer.error["field"] == "on_disconnect"
            assert len(up.transport.requests) == allowed

    virtually(main)


def test_after_the_end_the_grace_means_nothing() -> None:
    async def main() -> None:
        async with stack([[Say("Done.")]], run=OPTIONS) as up:
            whole = await (await detached(up)).answer()
            await trio.sleep(2 * GRACE)
            assert (await up.get(whole.header("Run-Id") or "")).body == whole.body

    virtually(main)
