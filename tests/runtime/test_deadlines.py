"""Deadlines of a run: the first one that passes ends it, at its time and in its own words."""

import math

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.errors import ErrorCode
from sluicegate.runtime.deadlines import ABANDONED, NO_FIRST_DELTA, RUN_LATE, STALLED, STEP_LATE, Deadlines
from sluicegate.runtime.options import RunOptions

OPTIONS = RunOptions(first_delta_seconds=3, stall_seconds=5, step_seconds=20, run_seconds=50, grace_seconds=7)
WORDS = {
    "run_seconds": RUN_LATE,
    "step_seconds": STEP_LATE,
    "first_delta_seconds": NO_FIRST_DELTA,
    "stall_seconds": STALLED,
    "grace_seconds": ABANDONED,
}
moves = st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["step", "hear", "deaf", "left", "joined"])), max_size=20)


@given(moves=moves)
def test_the_earliest_deadline_is_told_with_its_words(moves: list[tuple[int, str]]) -> None:
    deadlines = Deadlines(OPTIONS)
    deadlines.begin_run(0)
    due = {"run_seconds": 50.0}
    now = 0
    for pause, move in moves:
        now += pause
        match move:
            case "step":
                deadlines.begin_step(now)
                due |= {"step_seconds": now + 20, "first_delta_seconds": now + 3}
                due.pop("stall_seconds", None)
            case "hear":
                deadlines.hear(now)
                due.pop("first_delta_seconds", None)
                due["stall_seconds"] = now + 5
            case "deaf":
                deadlines.stop_listening()
                due.pop("first_delta_seconds", None)
                due.pop("stall_seconds", None)
            case "left":
                deadlines.be_left(now)
                due["grace_seconds"] = now + 7
            case _:
                deadlines.be_joined()
                due.pop("grace_seconds", None)
        when, error = deadlines.earliest()
        assert when == min(due.values())
        assert error in [WORDS[name] for name, at in due.items() if at == when]


def test_before_a_run_begins_nothing_is_due() -> None:
    assert Deadlines(OPTIONS).earliest()[0] == math.inf


def test_every_deadline_names_its_option() -> None:
    for option, error in WORDS.items():
        assert option in error.message
        assert hasattr(OPTIONS, option)
        assert error.code is (ErrorCode.CANCELLED if error is ABANDONED else ErrorCode.TIMEOUT)
    assert len({error.message for error in WORDS.values()}) == len(WORDS)
