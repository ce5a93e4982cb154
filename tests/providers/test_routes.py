"""Who is asked, in which order, and when: the turns of one step, and the gates before providers."""

from collections.abc import Iterator, Sequence
from enum import Enum
from itertools import product
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.providers.gate import Gate, GateOptions
from sluicegate.providers.route import FIRST_WAIT, LONGEST_ASKED_WAIT, LONGEST_WAIT, Candidate, Route, Turns


class Way(Enum):
    """How an attempt fails."""

    PASSING = RunError(ErrorCode.UPSTREAM_ERROR, "down", retryable=True)
    LASTING = RunError(ErrorCode.UPSTREAM_ERROR, "no such key")
    FINAL = RunError(ErrorCode.INVALID_REQUEST, "nonsense")
    TOO_LONG = RunError(ErrorCode.RATE_LIMITED, "later", retryable=True, retry_after_ms=61_000)


def candidate(name: str, options: GateOptions | None = None) -> Candidate:
    return Candidate(cast(Any, None), Gate(name, options), name)


def asked(route: Route, ways: Sequence[Way]) -> list[str]:
    """Who is asked if the attempts fail in these ways, until somebody gives up or the ways are over."""
    turns, out = Turns(route), []
    for way in ways:
        turns.take_wait()
        out.append(turns.next(0).model)
        if not turns.goes_on(way.value):
            break
    return out


def expected(names: Sequence[str], retries: int, ways: Sequence[Way]) -> list[str]:
    """Rounds over all names; in the next one, those that failed in a way that may pass."""
    out: list[str] = []
    left = iter(ways)
    current = list(names)
    for _ in range(retries + 1):
        again = []
        for name in current:
            way = next(left, None)
            if way is None:
                return out
            out.append(name)
            if way is Way.FINAL:
                return out
            if way is Way.PASSING:
                again.append(name)
        current = again
    return out


def cases() -> Iterator[tuple[int, int, tuple[Way, ...]]]:
    for count, retries in product((1, 2, 3), (0, 1, 2)):
        for ways in product(Way, repeat=min(count * (retries + 1), 5)):
            yield count, retries, ways


def test_every_order_of_failures_asks_whom_it_should() -> None:
    checked = 0
    for count, retries, ways in cases():
        names = [f"m{number}" for number in range(count)]
        route = Route("m", tuple(candidate(name) for name in names), retries)
        assert asked(route, ways) == expected(names, retries, ways), (count, retries, ways)
        checked += 1
    assert checked >= 3_400


@pytest.mark.parametrize("retries", range(8))
def test_each_round_waits_longer_up_to_a_limit(retries: int) -> None:
    turns = Turns(Route("m", (candidate("a"), candidate("b")), retries))
    for round_ in range(retries + 1):
        wait = turns.take_wait()
        most = 0.0 if round_ == 0 else min(FIRST_WAIT * 2 ** (round_ - 1), LONGEST_WAIT)
        assert most * 0.75 <= wait <= most
        turns.next(0)
        assert turns.goes_on(Way.PASSING.value)
        assert turns.take_wait() == 0.0, "the next candidate is asked at once"
        turns.next(0)
        assert turns.goes_on(Way.PASSING.value) == (round_ < retries)


@pytest.mark.parametrize("seconds", [0.001, 7.0, LONGEST_ASKED_WAIT])
def test_a_provider_that_names_a_time_is_waited_for(seconds: float) -> None:
    turns = Turns(Route("m", (candidate("a"),), 1))
    turns.next(0)
    told = RunError(ErrorCode.RATE_LIMITED, "slow", retryable=True, retry_after_ms=int(seconds * 1000))
    assert turns.goes_on(told)
    assert turns.take_wait() == pytest.approx(seconds)


def test_who_answered_the_step_before_is_asked_first() -> None:
    a, b, c = candidate("a"), candidate("b"), candidate("c")
    turns = Turns(Route("m", (a, b, c)), c)
    assert [turns.next(0).model for _ in range(3)] == ["c", "a", "b"]


def test_who_is_set_aside_is_asked_when_nobody_else_can_be() -> None:
    aside = candidate("aside", GateOptions(set_aside_after=1, set_aside_seconds=10))
    aside.gate.note_failure(0)
    other = candidate("other")
    turns = Turns(Route("m", (aside, other)))
    assert [turns.next(1).model for _ in range(2)] == ["other", "aside"]
    assert Turns(Route("m", (aside,))).next(1) is aside


async def test_a_gate_sets_aside_after_so_many_failures_in_a_row_and_tries_one_at_a_time() -> None:
    gate = Gate("p", GateOptions(set_aside_after=3, set_aside_seconds=10))
    for _ in range(2):
        gate.note_failure(0)
    gate.note_answer()  # breaks the row
    for _ in range(2):
        gate.note_failure(0)
        assert gate.is_open(0)
        assert not gate.is_aside
    gate.note_failure(5)
    assert gate.is_aside
    assert not gate.is_open(14.9)
    assert gate.is_open(15)
    await gate.acquire(15)
    assert not gate.is_open(15), "one tries, others wait for what becomes of it"
    gate.note_failure(16)
    assert not gate.is_open(25.9)
    await gate.acquire(26)
    gate.note_answer()
    assert gate.is_open(26)
    assert not gate.is_aside


async def test_a_trial_that_is_cancelled_is_followed_by_another() -> None:
    gate = Gate("p", GateOptions(set_aside_after=1, set_aside_seconds=10))
    gate.note_failure(0)
    await gate.acquire(10)
    assert not gate.is_open(19.9)
    assert gate.is_open(20)


def test_not_one_request_more_at_once_than_a_gate_has_places() -> None:
    now, most = 0, 0

    async def main() -> None:
        gate = Gate("p", GateOptions(concurrent_requests=3))

        async def ask() -> None:
            nonlocal now, most
            await gate.acquire(0)
            now += 1
            most = max(most, now)
            await trio.sleep(1)
            now -= 1
            gate.release()

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert (now, most) == (0, 3)
