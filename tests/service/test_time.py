"""Deadlines of a live run, each on its own clock and in its own words, and what does not count against them."""

import pytest
import trio

from sluicegate.machine.deltas import UsageDelta
from sluicegate.providers.script import Call, Pause, Reply, Say, Stall
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.deadlines import NO_FIRST_DELTA, RUN_LATE, STALLED, STEP_LATE
from sluicegate.runtime.options import RunOptions
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry

from .harness import DIALECTS, LINKS, Stack, over, stack, text_of, virtually

LONG = 10_000.0


def options(
    first_delta_seconds: float = LONG,
    stall_seconds: float = LONG,
    step_seconds: float = LONG,
    run_seconds: float = LONG,
) -> RunOptions:
    """No deadline but those."""
    return RunOptions(
        first_delta_seconds=first_delta_seconds,
        stall_seconds=stall_seconds,
        step_seconds=step_seconds,
        run_seconds=run_seconds,
    )


@tool(timeout=LONG)
async def rest(seconds: float) -> str:
    """Take a while."""
    await trio.sleep(seconds)
    return "rested"


TOOLS = Registry([rest])


async def ends_with(up: Stack, message: str, seconds: float) -> None:
    """Ask; the run ends with TIMEOUT and `message` so many seconds later, and nothing of it is left."""
    began = trio.current_time()
    answer = await up.ask()
    error = answer.error if answer.status != 200 else answer.frames[-1]["error"]
    assert (error["code"], error["message"], error["retryable"]) == ("TIMEOUT", message, True)
    assert answer.status in (200, 504)
    if not up.url:
        assert trio.current_time() - began == pytest.approx(seconds, abs=0.1)
        assert up.transport.active == 0


@LINKS
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_provider_that_does_not_begin(socket: bool, dialect: str) -> None:
    seconds = 0.2 if socket else 5

    async def main() -> None:
        async with stack([[Stall()]], socket=socket, dialect=dialect, run=options(first_delta_seconds=seconds)) as up:
            await ends_with(up, NO_FIRST_DELTA.message, seconds)

    over(socket, main)


@LINKS
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_provider_that_stops_in_the_middle(socket: bool, dialect: str) -> None:
    seconds = 0.2 if socket else 5

    async def main() -> None:
        async with stack(
            [[Say("Half an answer"), Stall()]], socket=socket, dialect=dialect, run=options(stall_seconds=seconds)
        ) as up:
            await ends_with(up, STALLED.message, seconds)

    over(socket, main)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_slow_provider_that_goes_on_is_no_stall(dialect: str) -> None:
    """However long it takes in all; and a second step may begin as late as the first one."""

    def brain(asked: ScriptedRequest) -> Reply:
        if asked.results:
            return [Pause(5), Say("word " * 10, rate=0.5)]
        return [Pause(5), Say("word " * 10, rate=0.5), Call("rest", {"seconds": 100})]

    async def main() -> None:
        limits = options(first_delta_seconds=8, stall_seconds=3)
        async with stack(brain, dialect=dialect, tools=TOOLS, run=limits) as up:
            frames = (await up.ask()).frames
            assert text_of(frames) == "word " * 20
            assert "done" in frames[-1]
            assert trio.current_time() > 140

    virtually(main)


def test_what_is_no_delta_does_not_put_the_stall_off() -> None:
    """Comments and pings come from a server that is up, not from a model that answers."""
    pings = [action for _ in range(100) for action in (b": ping\n\n", Pause(1))]

    async def main() -> None:
        async with stack([[Say("Half"), *pings]], run=options(stall_seconds=5)) as up:
            await ends_with(up, STALLED.message, 5)

    virtually(main)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_step_that_takes_too_long(dialect: str) -> None:
    """Its reply, or its tools; a new step has a new limit."""

    def brain(asked: ScriptedRequest) -> Reply:
        steps = len(asked.results)
        return [Say("word ", rate=1), Call("rest", {"seconds": 6 if steps < 2 else 20})]

    async def main() -> None:
        async with stack([[Say("word " * 100, rate=1)]], dialect=dialect, run=options(step_seconds=10)) as up:
            await ends_with(up, STEP_LATE.message, 10)
        async with stack(brain, dialect=dialect, tools=TOOLS, run=options(step_seconds=10)) as up:
            began = trio.current_time()
            frames = (await up.ask()).frames
            assert frames[-1]["error"]["message"] == STEP_LATE.message
            assert [frame["step"] for frame in frames if "step" in frame] == [1, 2, 3]
            assert trio.current_time() - began > 20

    virtually(main)


def test_the_run_as_a_whole() -> None:
    def brain(asked: ScriptedRequest) -> Reply:
        return [Call("rest", {"seconds": 7 + len(asked.results)})]

    async def main() -> None:
        async with stack(brain, tools=TOOLS, run=options(run_seconds=30, step_seconds=20)) as up:
            await ends_with(up, RUN_LATE.message, 30)

    virtually(main)


def test_the_time_in_which_a_reader_makes_us_wait_is_no_stall_and_no_silence() -> None:
    """The provider would have gone on; after the pause it has as long as ever."""
    room = 20_000
    line = "y" * 4_000 + "\n"

    async def main() -> None:
        limits = RunOptions(log_room=room, stall_seconds=5, step_seconds=LONG, run_seconds=LONG)
        async with stack([[Say(line * 50), Pause(4), Say("end"), Stall()]], run=limits) as up:
            exchange = await up.chat(buffer=0)
            await exchange.head()
            await trio.sleep(1_000)
            driver = up.driver(exchange)
            assert driver.run.terminal is None
            answer = await exchange.answer()
            assert text_of(answer.frames) == line * 50 + "end"
            assert answer.frames[-1]["error"]["message"] == STALLED.message
            assert trio.current_time() == pytest.approx(1_000 + 4 + 5, abs=0.1)

    virtually(main)


def test_usage_without_words_puts_nothing_off() -> None:
    async def main() -> None:
        silent = [action for _ in range(30) for action in (UsageDelta(5, 5), Pause(2))]
        async with stack([[Say("Half"), *silent]], run=options(stall_seconds=50)) as up:
            exchange = await up.chat()
            answer = await exchange.answer()
            assert answer.writes.count(b":\n\n") == 3
            assert answer.frames[-1]["error"]["message"] == STALLED.message
            gaps = [after - before for before, after in zip(answer.times, answer.times[1:], strict=False)]
            assert max(gaps) <= 15.0

    virtually(main)
