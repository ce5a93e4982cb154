"""What both machines share: the shape of a transition table, and the one place where it is looked up.

A table maps state and symbol to an arrow: the next state and the actions to perform, in order. Guards are symbols of
their own, chosen by a machine's `classify`; no action and no `if` picks a target state. A pair that is not in the
table is a protocol error and changes nothing.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple, TypeAlias, TypeVar


class Arrow(NamedTuple):
    """Where a transition leads and what it does on the way; action names are methods' names in the machine."""

    target: StrEnum
    actions: tuple[StrEnum, ...] = ()


S = TypeVar("S", bound=StrEnum)
Y = TypeVar("Y", bound=StrEnum)
Table: TypeAlias = Mapping[S, Mapping[Y, Arrow]]


def arrows(table: Table[S, Y]) -> Iterator[tuple[S, Y, Arrow]]:
    """Yield every arrow of `table` as (state, symbol, arrow), in the table's own order."""
    for state, row in table.items():
        for symbol, arrow in row.items():
            yield state, symbol, arrow
