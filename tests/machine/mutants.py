"""Every single-arrow mutant of a table: the arrow deleted, and the arrow led to every other state."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeVar

from sluicegate.machine.table import Arrow, Table, arrows

S = TypeVar("S", bound=StrEnum)
Y = TypeVar("Y", bound=StrEnum)


def mutants(table: Table[S, Y]) -> Iterator[tuple[str, S, Y, Table[S, Y]]]:
    """Yield (name, state, symbol, table) for every mutant of `table`."""
    for state, symbol, arrow in arrows(table):
        row = {key: value for key, value in table[state].items() if key is not symbol}
        yield f"{state} {symbol} deleted", state, symbol, _with(table, state, row)
        for target in table:
            if target is not arrow.target:
                changed = {**table[state], symbol: Arrow(target, arrow.actions)}
                yield f"{state} {symbol} -> {target}", state, symbol, _with(table, state, changed)


def _with(table: Table[S, Y], state: S, row: Mapping[Y, Arrow]) -> Table[S, Y]:
    return {**table, state: row}
