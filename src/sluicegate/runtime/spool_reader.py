"""A usage spool for those who bill: its settlements, each run once, and whether the books are whole.

Reading takes no lock and may go on beside the process that writes; what is read is then as of some moment.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from .ledger import Intent, Settlement
from .spool_files import read_segment, segment_numbers
from .spool_format import Line, Unreadable


class SpoolAudit(msgspec.Struct, frozen=True):
    """What stands in a spool. `orphans` are runs with an intent and no settlement: alive, or to be settled when the
    spool is opened next. `repeats` are entries that say again what is known; `damaged` and `unknown` are lines.
    """

    intents: int
    settlements: int
    orphans: int
    repeats: int
    damaged: int
    unknown: int


def read_spool(directory: Path) -> Iterator[Settlement]:
    """Yield the settlements in the order in which they were made, one for each run id. Raises OSError."""
    seen = set()
    for line in _lines(directory):
        if isinstance(line, Settlement) and line.run_id not in seen:
            seen.add(line.run_id)
            yield line


def audit_spool(directory: Path) -> SpoolAudit:
    """Count what stands in the spool. Raises OSError."""
    intents: set[str] = set()
    settlements: set[str] = set()
    repeats, unreadable = 0, dict.fromkeys(Unreadable, 0)
    for line in _lines(directory):
        match line:
            case Intent(run_id=run_id):
                repeats += run_id in intents
                intents.add(run_id)
            case Settlement(run_id=run_id):
                repeats += run_id in settlements
                settlements.add(run_id)
            case _:
                unreadable[line] += 1
    return SpoolAudit(
        intents=len(intents),
        settlements=len(settlements),
        orphans=len(intents - settlements),
        repeats=repeats,
        damaged=unreadable[Unreadable.DAMAGED],
        unknown=unreadable[Unreadable.UNKNOWN],
    )


def _lines(directory: Path) -> Iterator[Line]:
    for number in segment_numbers(directory):
        yield from read_segment(directory, number)
