"""`sluicegate usage`: what the runs of the last days have cost, from the spool."""

import argparse
import sys
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from ..runtime.ledger import Settlement, Source
from ..runtime.spool_reader import read_spool
from ..settings import BadSettings, read
from .settings import config_of

_HEAD: Final = ("DAY (UTC)", "OWNER", "KEY", "MODEL", "RUNS", "INPUT", "OUTPUT", "ESTIMATED", "DOLLARS")
_TEXTS: Final = 4  # columns that are no numbers


class Line(NamedTuple):
    """Whose runs are counted together."""

    day: date
    owner: str
    key: str
    model: str


class Total:
    """What runs came to. `unpriced` are those whose price is not known: `dollars` is without them."""

    def __init__(self) -> None:
        self.runs = self.input_tokens = self.output_tokens = self.estimated = self.unpriced = 0
        self.dollars = 0.0

    def add(self, run: Settlement) -> None:
        """Count one run more."""
        self.runs += 1
        self.input_tokens += run.usage.input_tokens
        self.output_tokens += run.usage.output_tokens
        self.estimated += run.source is Source.ESTIMATED
        self.unpriced += run.cost is None
        self.dollars += run.cost or 0.0

    @property
    def cells(self) -> tuple[str, ...]:
        """The numbers as they are shown; dollars with a `+` where some of it has no price."""
        numbers = (self.runs, self.input_tokens, self.output_tokens, self.estimated)
        return *(f"{number:,}" for number in numbers), f"{self.dollars:.4f}{'+' if self.unpriced else ''}"


def add_usage(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--spool", type=Path, metavar="DIRECTORY", help="default: spool.directory of the settings")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the file of settings")
    parser.add_argument("--days", type=_days, default=1, metavar="N", help="how many, today included (default: 1)")
    parser.set_defaults(run=_run)


def totals(runs: Iterable[Settlement], since: date) -> dict[Line, Total]:
    """Return what each owner, key and model came to on each day from `since` on, by UTC."""
    found: dict[Line, Total] = {}
    for run in runs:
        day = datetime.fromtimestamp(run.at, UTC).date()
        if day >= since:
            found.setdefault(Line(day, run.owner, run.key, run.model), Total()).add(run)
    return dict(sorted(found.items()))


def table(found: dict[Line, Total]) -> list[str]:
    """Return the lines to print."""
    rows = [_HEAD, *((line.day.isoformat(), *line[1:], *total.cells) for line, total in found.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if column < _TEXTS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _run(options: argparse.Namespace) -> int:
    try:
        spool = options.spool
        if spool is None and (known := read(config_of(options)).spool) is not None:
            spool = known.directory
        if spool is None:
            where = "--spool DIRECTORY or spool.directory in the settings"
            print(f"sluicegate usage: name the spool, {where}.", file=sys.stderr)
            return 2
        today = datetime.fromtimestamp(time.time(), UTC).date()
        found = totals(read_spool(spool), today - timedelta(days=options.days - 1))
    except BadSettings as error:
        print(f"sluicegate usage: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sluicegate usage: {spool}: cannot be read ({error.strerror}).", file=sys.stderr)
        return 1
    print("\n".join(table(found)))
    if any(total.unpriced for total in found.values()):
        print("+: and runs of models whose price is not known (name it in the provider's `prices`).", file=sys.stderr)
    return 0


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 10_000:
        raise argparse.ArgumentTypeError("must be a number of days, 1 to 10000")
    return days
