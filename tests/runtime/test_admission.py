"""Runs are refused while the loop is standing late and at no other time; then as many are let in as it can carry."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.runtime.admission import CALM_WINDOWS, PROBE_SECONDS, WINDOW_PROBES, WINDOW_SECONDS, Admission, Gate
from sluicegate.runtime.options import RunOptions

TARGET = 0.03
in_time = st.floats(0, TARGET * 0.99)
late = st.floats(TARGET * 1.01, 20)
asks = st.integers(0, 30)


class Loop:
    """Turns of an event loop as `admission` sees them: how late the probe is, and how many runs are asked for in it."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.now = 0.0
        self.refusals: list[RunError] = []

    def turn(self, lateness: float, asked: int) -> int:
        """Let one turn pass; return how many of those who asked were admitted."""
        before = len(self.refusals)
        for _ in range(asked):
            error = self.admission.refusal(self.now)
            if error is not None:
                self.refusals.append(error)
        if self.admission.due < math.inf:
            self.now = self.admission.due + lateness
            self.admission.probe(self.now)
        else:
            self.now += PROBE_SECONDS
        return asked - (len(self.refusals) - before)


def overloaded(lateness: float = 2 * TARGET, asked: int = 10) -> Loop:
    """A loop that has come to refuse runs."""
    loop = Loop(Admission(TARGET))
    for _ in range(100):
        loop.turn(lateness, asked)
        if loop.admission.gate is Gate.SHEDDING:
            return loop
    raise AssertionError("never refuses")


@given(turns=st.lists(st.tuples(in_time, asks), max_size=60))
def test_nobody_is_refused_while_the_loop_is_in_time(turns: list[tuple[float, int]]) -> None:
    loop = Loop(Admission(TARGET))
    for lateness, asked in turns:
        assert loop.turn(lateness, asked) == asked


@given(turns=st.lists(st.tuples(st.lists(late, max_size=WINDOW_PROBES), in_time, asks), max_size=20))
def test_pauses_refuse_nobody_however_long_and_many(turns: list[tuple[list[float], float, int]]) -> None:
    """A collection, a stopped process, a burst: late in a row for a few turns, then in time again."""
    loop = Loop(Admission(TARGET))
    for pauses, lateness, asked in turns:
        for pause in pauses:
            assert loop.turn(pause, asked) == asked
        assert loop.turn(lateness, max(1, asked)) == max(1, asked)


@given(latenesses=st.lists(late, min_size=100, max_size=100), asked=st.integers(1, 30))
def test_a_standing_queue_refuses_within_a_window(latenesses: list[float], asked: int) -> None:
    loop = Loop(Admission(TARGET))
    began = None
    for number, lateness in enumerate(latenesses):
        before = loop.now
        admitted = loop.turn(lateness, asked)
        if admitted < asked:
            assert number > WINDOW_PROBES
            break
        began = loop.now if began is None else began
        assert before - began < WINDOW_SECONDS or number <= WINDOW_PROBES
    else:
        pytest.fail("never refused")


@given(
    lateness=late,
    asked=st.integers(1, 30),
    more=st.lists(st.tuples(st.floats(0, 20), st.integers(0, 500)), max_size=80),
)
def test_what_one_turn_admits_is_bounded_however_many_ask(
    lateness: float, asked: int, more: list[tuple[float, int]]
) -> None:
    """By what the turns before it admitted: a burst, or a turn that takes long, gets no more."""
    loop = overloaded(lateness, asked)
    most = max(1.0, float(asked))
    for later, burst in more:
        if loop.admission.gate is Gate.OPEN:
            break
        assert loop.turn(later, burst) <= most
        most = 1.1 * most + 0.02


@given(lateness=late, asked=st.integers(1, 200), wanted=st.integers(0, 20))
def test_when_the_queue_is_gone_all_are_let_in_again(lateness: float, asked: int, wanted: int) -> None:
    """At once where few ask, and in the time that the number needs to grow where many do."""
    loop = overloaded(lateness, asked)
    least_growth = math.log(max(wanted, 1) / 0.01) / math.log(1.1)
    windows = least_growth + CALM_WINDOWS + 2
    turns = windows * math.ceil(WINDOW_SECONDS / PROBE_SECONDS + 1)
    while loop.admission.gate is Gate.SHEDDING:
        loop.turn(0, wanted)
        turns -= 1
        assert turns > 0
    assert loop.turn(0, 1_000) == 1_000


def test_nothing_is_probed_while_nobody_asks() -> None:
    loop = overloaded()
    for _ in range(10_000):
        if loop.admission.due == math.inf:
            break
        loop.turn(0, 0)
    assert loop.admission.due == math.inf
    assert loop.admission.refusal(loop.now) is None
    assert loop.admission.due == loop.now + PROBE_SECONDS
    assert loop.admission.probe(loop.admission.due) == math.inf


def test_without_a_limit_nobody_is_refused_or_probed() -> None:
    admission = Admission(math.inf)
    assert admission.refusal(0) is None
    assert admission.due == math.inf


def test_what_streams_alone_make_late_is_not_made_later() -> None:
    """All of the load is in runs that go on: nearly nobody is admitted, but somebody, now and then."""
    loop = overloaded()
    for _ in range(200):
        loop.turn(2 * TARGET, 1)
    began = loop.now
    admitted = sum(loop.turn(2 * TARGET, 1) for _ in range(2_000))
    assert 0 < admitted < 1 + (loop.now - began) / 2


@pytest.mark.once
@pytest.mark.parametrize(("asked", "tries"), [(8, 1.14), (14, 2), (70, 10), (7_000, 30)])
def test_who_is_refused_is_told_to_come_back_spread_and_the_later_the_more_there_are(asked: int, tries: float) -> None:
    """Seven are admitted in a turn: so often does one have to try, and so many seconds are between the tries."""
    loop = overloaded(asked=10)
    for _ in range(1_000):
        loop.turn(TARGET * 1.001, asked)
    assert {error.code for error in loop.refusals} == {ErrorCode.OVERLOADED}
    assert all(error.retryable for error in loop.refusals)
    assert min(error.retry_after_ms or 0 for error in loop.refusals) >= 1_000
    waits = sorted(error.retry_after_ms or 0 for error in loop.refusals[-50:])
    least = waits[0]
    assert least == pytest.approx(tries * 1000, rel=0.1)
    assert waits[-1] == pytest.approx(2 * least, rel=0.1)
    assert max(later - sooner for sooner, later in pairwise(waits)) < least / 10


def test_a_limit_of_nothing_is_refused_with_its_name() -> None:
    with pytest.raises(ValueError, match="max_lateness_seconds: must be more than 0"):
        RunOptions(max_lateness_seconds=0)
