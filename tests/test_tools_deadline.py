"""The deadline law of tools, in real time: however a tool behaves, its call is over by deadline + GRACE, and nothing
is left of it. With real processes, real threads and the real clock.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import pytest
import trio

from sluicegate.tools import Isolation, Tool, ToolContext, ToolOutcome, abandoned_threads, tool
from sluicegate.tools.containment import GRACE
from sluicegate.tools.process import process_limiter
from tests import isolated_tools, processes
from tests.security.rows import COUNTS

pytestmark = pytest.mark.alone

TIMEOUT = 2.5  # enough for a process to begin
LONG = 20.0
MARGIN = 0.25  # for the test itself
LIMIT = 1_000

released = threading.Event()


async def hangs_as_a_task(context: ToolContext) -> None:
    context.progress(0)
    await trio.sleep_forever()


async def is_shielded_as_a_task(context: ToolContext) -> None:
    context.progress(0)
    with trio.CancelScope(shield=True):
        await trio.sleep(1_000)


def hangs_in_a_thread(context: ToolContext) -> None:
    context.progress(0)
    released.wait()


class Behaviour(NamedTuple):
    """`words` are in the error result when nobody cancels; "" where the tool just ends well."""

    tool: Tool[..., Any]
    words: str
    arguments: str = "{}"


def behaviour(function: Callable[..., Any], words: str, isolation: Isolation, arguments: str = "{}") -> Behaviour:
    timeout = TIMEOUT if words == "timed out after 2.5 s" else LONG
    return Behaviour(tool(timeout=timeout, max_result_bytes=LIMIT, isolation=isolation)(function), words, arguments)


IN_TIME = "timed out after 2.5 s"
BEHAVIOURS = {
    made.tool.name + ("" if made.tool.isolation is Isolation.PROCESS else " (here)"): made
    for made in (
        behaviour(hangs_as_a_task, IN_TIME, Isolation.TASK),
        behaviour(is_shielded_as_a_task, IN_TIME, Isolation.TASK),
        behaviour(hangs_in_a_thread, IN_TIME, Isolation.TASK),
        behaviour(isolated_tools.hangs, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.hangs_in_a_thread, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.blocks, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.shielded, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.ignores_signals, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.stops_itself, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.forks, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.forks_for_ever, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.prints_for_ever, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.reports_for_ever, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.closes_its_pipes, IN_TIME, Isolation.PROCESS),
        behaviour(isolated_tools.forks_and_returns, "", Isolation.PROCESS),
        behaviour(isolated_tools.forks_and_dies, "ended unexpectedly (exit code 4)", Isolation.PROCESS),
        behaviour(isolated_tools.gigabyte, "max_result_bytes", Isolation.PROCESS),
        behaviour(isolated_tools.promises_a_gigabyte, "cannot be shown", Isolation.PROCESS),
        behaviour(isolated_tools.not_json, "cannot be shown", Isolation.PROCESS),
        behaviour(isolated_tools.says, "cannot be shown", Isolation.PROCESS, '{"data":"070000000178"}'),
    )
}


class Watch:
    """What one call told: the process ids of its progress, and that it has begun."""

    def __init__(self) -> None:
        self.sessions: set[int] = set()
        self.begun = trio.Event()

    def context(self) -> ToolContext:
        return ToolContext("call", "run", self._publish)

    def _publish(self, raw: msgspec.Raw) -> None:
        if not self.begun.is_set():
            self.sessions.add(msgspec.json.decode(raw))
            self.begun.set()


@asynccontextmanager
async def leaving_nothing() -> AsyncIterator[Watch]:
    """Hold that descriptors, processes, places and threads are as before, at the moment when the call is over."""
    watch = Watch()
    await trio.to_thread.run_sync(lambda: None)  # Trio's own descriptors and threads are there from now on
    before = processes.descriptors(), processes.children()
    yield watch
    assert {pid for session in watch.sessions - {0} for pid in processes.of_session(session)} == set()
    assert (processes.descriptors(), processes.children()) == before
    assert process_limiter().borrowed_tokens == 0
    released.set()
    while abandoned_threads():
        await trio.lowlevel.checkpoint()
    released.clear()


def test_there_are_enough_ways_to_misbehave() -> None:
    assert len(BEHAVIOURS) >= COUNTS["behaviours"]


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_a_call_is_over_by_its_deadline_and_a_cancel_after_that_finds_nothing_to_end(name: str) -> None:
    made = BEHAVIOURS[name]
    async with leaving_nothing() as watch:
        start = trio.current_time()
        with trio.CancelScope() as scope:
            outcome = await made.tool.call(made.arguments, watch.context())
            scope.cancel()
        assert trio.current_time() - start < made.tool.timeout + GRACE + MARGIN
        assert made.words in outcome.content
        assert outcome.is_error == bool(made.words)
        assert watch.begun.is_set()


@pytest.mark.parametrize("name", BEHAVIOURS)
@pytest.mark.parametrize("moment", ["before", "while it starts", "during"])
async def test_a_call_is_over_when_it_is_cancelled(name: str, moment: str) -> None:
    made = BEHAVIOURS[name]
    async with leaving_nothing() as watch:
        outcomes: list[ToolOutcome] = []
        children = processes.children()

        async def call() -> None:
            outcomes.append(await made.tool.call(made.arguments, watch.context()))

        async with trio.open_nursery() as nursery:
            if moment == "before":
                nursery.cancel_scope.cancel()
            nursery.start_soon(call)
            if moment == "while it starts" and made.tool.isolation is Isolation.PROCESS:
                while processes.children() == children:
                    await trio.lowlevel.checkpoint()
            elif moment == "during":
                await watch.begun.wait()
            nursery.cancel_scope.cancel()
            cancelled = trio.current_time()
        assert trio.current_time() - cancelled < GRACE + MARGIN
        if made.words == IN_TIME or moment == "before":
            assert outcomes == []
    assert watch.begun.is_set() or moment != "during"
