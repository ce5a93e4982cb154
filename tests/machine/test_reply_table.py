"""The table of `Reply`: searched exhaustively, and every single-arrow change of it noticed."""

from collections.abc import Callable

import pytest

from sluicegate.machine.deltas import Delta, Eof
from sluicegate.machine.errors import LocalProtocolError
from sluicegate.machine.reply import Reply
from sluicegate.machine.reply_table import TABLE, State, Symbol
from sluicegate.machine.table import Table, arrows
from tests.machine.explore import ALPHABET, LIMITS, Found, Oracle, Wrong, explore, step
from tests.machine.mutants import mutants

# One search for both tests, also where several processes run them.
pytestmark = pytest.mark.xdist_group("reply search")


@pytest.fixture(scope="module")
def found() -> Found:
    return explore()


@pytest.mark.sweep
def test_every_order_of_events_obeys_the_oracle_and_takes_every_arrow(
    found: Found, note: Callable[[str], None]
) -> None:
    note(f"reply: {found.states} states, {found.transitions} transitions, {len(found.witness)} arrows")
    assert found.witness.keys() == {(state, symbol) for state, symbol, _ in arrows(TABLE)}
    assert {symbol for _, symbol in found.witness} == set(Symbol)
    assert found.states >= 20_000
    assert found.transitions >= 600_000
    assert len(found.witness) >= 232


@pytest.mark.sweep
def test_every_single_arrow_mutant_is_caught(found: Found, note: Callable[[str], None]) -> None:
    survivors, count = [], 0
    for name, state, symbol, table in mutants(TABLE):
        count += 1
        if not _is_caught(table, found.witness[state, symbol]):
            survivors.append(name)
    note(f"reply: {count} mutants, {count - len(survivors)} caught")
    assert survivors == []
    assert count >= 2_550


def _is_caught(table: Table[State, Symbol], path: tuple[Delta, ...]) -> bool:
    reply, oracle = Reply(LIMITS, table=table), Oracle()
    try:
        for delta in path:
            step(reply, oracle, delta)
    except (Wrong, LocalProtocolError):
        return True
    return False


def test_end_of_input_ends_every_reply() -> None:
    for delta in ALPHABET:
        reply = Reply(LIMITS)
        for each in (delta, Eof()):
            if reply.classify(each) in TABLE[reply.state]:
                reply.receive(each)
        assert reply.state in (State.DONE, State.FAILED)
