"""The table of `Run`: searched exhaustively, and every single-arrow change of it noticed."""

from collections.abc import Callable

import pytest

from sluicegate.machine.errors import LocalProtocolError
from sluicegate.machine.events import Machine, RunStarted, StepStarted, Transition
from sluicegate.machine.reply_table import TABLE as REPLY_TABLE
from sluicegate.machine.reply_table import State as ReplyState
from sluicegate.machine.run_inputs import Input
from sluicegate.machine.run_table import TABLE, State, Symbol
from sluicegate.machine.table import Table, arrows
from tests.machine.explore import Wrong
from tests.machine.explore_run import Found, Oracle, explore, new_run, step
from tests.machine.mutants import mutants

# One search for both tests, also where several processes run them.
pytestmark = pytest.mark.xdist_group("run search")


@pytest.fixture(scope="module")
def found() -> Found:
    return explore()


@pytest.mark.sweep
def test_every_order_of_inputs_obeys_the_oracle_and_takes_every_arrow(
    found: Found, note: Callable[[str], None]
) -> None:
    note(f"run: {found.states} states, {found.transitions} transitions, {len(found.witness)} arrows")
    assert found.witness.keys() == {(state, symbol) for state, symbol, _ in arrows(TABLE)}
    assert {symbol for _, symbol in found.witness} == set(Symbol)
    assert found.states >= 2_000
    assert found.transitions >= 40_000
    assert len(found.witness) >= 41


@pytest.mark.sweep
def test_every_single_arrow_mutant_is_caught(found: Found, note: Callable[[str], None]) -> None:
    survivors, count = [], 0
    for name, state, symbol, table in mutants(TABLE):
        count += 1
        if not _is_caught(table, found.witness[state, symbol]):
            survivors.append(name)
    note(f"run: {count} mutants, {count - len(survivors)} caught")
    assert survivors == []
    assert count >= 240


@pytest.mark.sweep
def test_transitions_are_told_beside_everything_else(found: Found) -> None:
    """Along the way to each arrow: nothing else differs, each machine goes on from where it was, none is left out."""
    told: set[tuple[str, str, str]] = set()
    for path in found.witness.values():
        plain, traced = new_run(TABLE), new_run(TABLE, traces=True)
        outputs = [output for happened in path for output in traced.receive(happened)]
        rest = [output for output in outputs if not isinstance(output, Transition)]
        assert rest == [output for happened in path for output in plain.receive(happened)]
        assert not outputs or isinstance(outputs[0], RunStarted)
        assert traced.terminal is None or outputs[-1] == traced.terminal
        at = {Machine.RUN: str(State.READY)}
        for output in outputs:
            if isinstance(output, StepStarted):
                at[Machine.REPLY] = ReplyState.WAITING
            elif isinstance(output, Transition):
                assert output.source == at[output.machine] != output.target
                at[output.machine] = output.target
                told.add((output.source, output.symbol, output.target))
        assert at[Machine.RUN] == traced.state
    moving = {(s, y, a.target) for s, y, a in arrows(TABLE) if a.target is not s}
    assert moving <= told
    replies = {(s, y, a.target) for s, y, a in arrows(REPLY_TABLE) if a.target is not s}
    assert told - moving <= replies
    assert len(told - moving) >= 8


def _is_caught(table: Table[State, Symbol], path: tuple[Input, ...]) -> bool:
    run, oracle = new_run(table), Oracle()
    try:
        for happened in path:
            step(run, oracle, happened)
    except (Wrong, LocalProtocolError, KeyError):
        return True
    return False
