"""Alarms ring in order of time, at their time, each as often as it was set, and no other's trouble is theirs."""

import gc
import math
import weakref
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.runtime.alarms import SPARE, Alarms
from tests.service.harness import virtually

ALARMS = 4
# At a time, an alarm is set to a later one, or dropped; when it rings it says when it wants to ring next.
steps = st.lists(st.tuples(st.integers(0, 20), st.integers(0, ALARMS - 1), st.integers(1, 30) | st.none()), max_size=25)
again = st.lists(st.integers(1, 15) | st.none(), max_size=12)


def expected(plan: list[tuple[int, int, int | None]], more: list[int | None]) -> list[tuple[float, int]]:
    """Which alarm rings when, second by second: no heap, and nothing stale that could be met in it."""
    due = [math.inf] * ALARMS
    dropped: set[int] = set()
    rung: list[tuple[float, int]] = []
    left = list(more)
    for now in range(1_000):
        for number in sorted(range(ALARMS), key=lambda number: due[number]):
            if due[number] <= now:
                rung.append((now, number))
                after = left.pop(0) if left else None
                due[number] = math.inf if after is None else now + after
        for at, number, delay in plan:
            if at == now:
                if delay is None:
                    dropped.add(number)
                    due[number] = math.inf
                elif number not in dropped:
                    due[number] = min(due[number], now + delay)
    return rung


@given(plan=steps, more=again)
@settings(max_examples=300, deadline=None)
def test_alarms_ring_when_they_were_set_to(plan: list[tuple[int, int, int | None]], more: list[int | None]) -> None:
    plan = sorted(plan, key=lambda step: step[0])
    rung: list[tuple[float, int]] = []

    async def main() -> None:
        left = list(more)

        def ring(number: int, now: float) -> float:
            rung.append((now - began, number))
            after = left.pop(0) if left else None
            return math.inf if after is None else now + after

        async with trio.open_nursery() as nursery:
            alarms = Alarms(nursery)
            made = [alarms.alarm(lambda now, number=number: ring(number, now)) for number in range(ALARMS)]  # type: ignore[misc]
            began = trio.current_time()
            dropped: set[int] = set()
            for at, number, delay in plan:
                await trio.sleep_until(began + at)
                await trio.testing.wait_all_tasks_blocked()  # what is due now has rung
                if delay is None:
                    made[number].drop()
                    dropped.add(number)
                elif number not in dropped:
                    made[number].by(trio.current_time() + delay)
            await trio.sleep(1_000)
            nursery.cancel_scope.cancel()

    virtually(main)
    oracle = expected(plan, more)
    assert [when for when, _ in rung] == [when for when, _ in oracle]
    if not more:  # who rings first of two that are due together decides who gets which answer
        assert sorted(rung) == sorted(oracle)


def test_an_alarm_that_was_dropped_holds_nothing() -> None:
    """Its entry may stay in the heap for long; the run that it was for must not."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            alarms = Alarms(nursery)
            alarm = alarms.alarm(_owner)
            alarm.by(1_000)
            alarm.drop()
            assert alarm.ring is not _owner
            assert alarm.ring(0) == math.inf
            nursery.cancel_scope.cancel()

    virtually(main)


def _owner(_now: float) -> float:
    raise AssertionError


@pytest.mark.parametrize("count", [100, 1_000])
def test_moving_deadlines_cost_no_wake_up(count: int) -> None:
    """A deadline that moves on with each delta rings once per period, however many deltas there were."""
    rung: list[float] = []

    async def main() -> None:
        due = 10.0

        def ring(now: float) -> float:
            rung.append(now)
            return due if due > now else math.inf

        async with trio.open_nursery() as nursery:
            alarm: Any = Alarms(nursery).alarm(ring)
            began = trio.current_time()
            for _ in range(count):
                due = trio.current_time() + 10
                alarm.by(due)
                await trio.sleep(10 / count)
            await trio.sleep(100)
            assert rung[-1] == pytest.approx(began + 20, abs=0.2)
            nursery.cancel_scope.cancel()

    virtually(main)
    assert len(rung) <= 3


def test_alarms_that_were_dropped_or_moved_are_let_go_long_before_their_time() -> None:
    """A run of a second would otherwise leave something behind for its longest deadline, ten minutes."""

    class Owner:
        def ring(self, _now: float) -> float:
            return math.inf

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            alarms = Alarms(nursery)
            held: list[weakref.ref[Any]] = []
            for _ in range(2_000):
                alarm = alarms.alarm(Owner().ring)
                held.append(weakref.ref(alarm))
                alarm.by(trio.current_time() + 600)
                alarm.by(trio.current_time() + 15)
                alarm.drop()
            del alarm
            gc.collect()
            assert sum(alarm() is not None for alarm in held) <= 2 * SPARE
            nursery.cancel_scope.cancel()

    virtually(main)
