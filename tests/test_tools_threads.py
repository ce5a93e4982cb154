"""Threads of sync tools: bounded, the abandoned ones counted, and a clear answer instead of a wait without end."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from sluicegate.tools import ToolContext, ToolOutcome, abandoned_threads, tool
from sluicegate.tools.threads import MAX_THREADS, Threads, ThreadsBusy, default_threads

TIMEOUT = 5.0
BUSY = (
    "The tool was not run: too many of its threads are still busy with calls that were given up. Try again later."
)  # fmt: skip


class Gate:
    """A sync tool that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = 0
        self._release = threading.Event()
        self.tool = tool(name="waits", timeout=TIMEOUT)(self._wait)

    def open(self) -> None:
        self._release.set()

    def _wait(self) -> str:
        self.entered += 1
        self._release.wait()
        return "done"


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


async def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 20  # of real time: threads take no other
    while not condition():
        assert time.monotonic() < limit
        await trio.lowlevel.checkpoint()


async def call(gate: Gate, threads: Threads | None, outcomes: list[ToolOutcome]) -> None:
    outcomes.append(await gate.tool.call("", ToolContext("call", "run", threads=threads)))


async def test_a_place_is_free_again_when_the_abandoned_thread_returns_and_not_before(gate: Gate) -> None:
    threads = Threads(2)
    outcomes: list[ToolOutcome] = []
    for n in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, gate, threads, outcomes)
            await until(lambda n=n: gate.entered == n + 1)  # type: ignore[misc]
            assert threads.abandoned == n
            nursery.cancel_scope.cancel()
        assert threads.abandoned == n + 1
    await call(gate, threads, outcomes)
    assert [(outcome.content, outcome.is_error) for outcome in outcomes] == [(BUSY, True)]
    assert isinstance(outcomes[0].fault, ThreadsBusy)
    gate.open()
    await until(lambda: threads.abandoned == 0)
    await call(gate, threads, outcomes)
    assert outcomes[1:] == [ToolOutcome("done")]
    assert gate.entered == 3


def test_who_waits_learns_that_it_is_in_vain(gate: Gate) -> None:
    clock = MockClock()  # by hand: an autojump does not wait for threads

    async def main() -> None:
        threads = Threads(1)
        outcomes: list[ToolOutcome] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, gate, threads, outcomes)
            await until(lambda: gate.entered)
            clock.jump(1)
            nursery.start_soon(call, gate, threads, outcomes)
            await until(lambda: threads.waiting)
            clock.jump(TIMEOUT - 1)
            await until(lambda: len(outcomes) == 2)
        assert trio.current_time() == pytest.approx(TIMEOUT, abs=0.5)
        assert sorted(outcome.content for outcome in outcomes) == ["The tool waits timed out after 5 s.", BUSY]
        assert threads.abandoned == gate.entered == 1
        assert threads.waiting == 0

    trio.run(main, clock=clock)


def test_a_wait_for_a_place_is_within_the_timeout_and_can_be_cancelled(gate: Gate) -> None:
    clock = MockClock()

    async def main() -> None:
        threads = Threads(1)
        outcomes: list[ToolOutcome] = []
        patient = Gate()
        patient.tool.timeout = 100 * TIMEOUT
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, patient, threads, outcomes)
            await until(lambda: patient.entered)
            async with trio.open_nursery() as waiting:
                waiting.start_soon(call, gate, threads, outcomes)
                await until(lambda: threads.waiting)
                waiting.cancel_scope.cancel()
            assert (outcomes, threads.waiting) == ([], 0)
            async with trio.open_nursery() as waiting:
                waiting.start_soon(call, gate, threads, outcomes)
                await until(lambda: threads.waiting)
                clock.jump(TIMEOUT)
            assert outcomes.pop().content == "The tool waits timed out after 5 s."
            patient.open()
        assert outcomes == [ToolOutcome("done")]
        assert (gate.entered, threads.abandoned, threads.waiting) == (0, 0, 0)

    trio.run(main, clock=clock)


async def test_a_free_place_next_to_abandoned_threads_is_used(gate: Gate) -> None:
    threads = Threads(2)
    other = Gate()
    outcomes: list[ToolOutcome] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, gate, threads, outcomes)
        await until(lambda: gate.entered)
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, other, threads, outcomes)
        await until(lambda: other.entered)
        nursery.start_soon(call, other, threads, outcomes)
        await wait_all_tasks_blocked()
        assert threads.waiting == 1  # one place is abandoned, the other will be free: that is worth a wait
        other.open()
    assert outcomes == [ToolOutcome("done")] * 2
    assert threads.abandoned == 1


async def test_the_gauge_reads_the_threads_that_all_tools_share(gate: Gate) -> None:
    assert abandoned_threads() == 0
    assert default_threads().total == MAX_THREADS
    async with trio.open_nursery() as nursery:
        for _ in range(MAX_THREADS):
            nursery.start_soon(call, gate, None, [])
        await until(lambda: gate.entered == MAX_THREADS)
        nursery.cancel_scope.cancel()
    assert abandoned_threads() == MAX_THREADS
    outcomes: list[ToolOutcome] = []
    with assert_checkpoints():
        await call(gate, None, outcomes)
    assert outcomes[0].content == BUSY
    gate.open()
    await until(lambda: abandoned_threads() == 0)


async def test_an_ended_thread_leaves_nothing_whatever_it_raised() -> None:
    threads = Threads(1)

    def fails() -> None:
        raise KeyError("x")

    for _ in range(3):
        outcome = await tool(fails).call("", ToolContext("call", "run", threads=threads))
        assert outcome.content == "The tool fails failed (KeyError)."
        assert (threads.abandoned, threads.waiting) == (0, 0)
