"""Usage of runs, in files: the ledger that survives its process.

Theory of operation: each entry is one `write` to a segment opened for appending, so it is with the system when the call
returns, and a process that is killed loses nothing that it noted. Nothing is synced to the disk, which would hold up
every stream: a machine that loses power may lose its last moments. A new process settles what the last one left open
by its intents' estimates. Segments are dropped from the oldest on, and never one whose intent is not settled: in that
order a settlement can only outlive its intent, so nothing is ever settled again.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ..machine.deltas import Usage
from ..machine.errors import ErrorCode
from ..machine.quantities import DOCUMENTED, Count
from .ledger import Intent, Settlement, Source
from .spool_files import Segments, SpoolError, lock_directory, read_segment, segment_numbers
from .spool_format import Entry, Unreadable, encode_entry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpoolOptions:
    """Where usage is kept, and how much of it. A run takes some 400 bytes, and a process that starts reads all of them:
    the defaults keep about 170,000 runs, which takes a second or two.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    directory: Path
    """The directory, one for each process."""
    segment_bytes: Count = 8 * 1024 * 1024
    """A segment that holds as much or more is closed and a new one begun."""
    kept_segments: Count = 8
    """How many of the last segments stay; older ones with open intents stay as well."""
    unwritten_runs: Count = 10_000
    """Runs that are kept in memory where the files refuse them; past that the oldest is lost."""

    def __post_init__(self) -> None:
        for field in ("segment_bytes", "kept_segments", "unwritten_runs"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: is {getattr(self, field)}; it must be 1 or more.")


class Spool:
    """A `Ledger` of files. Opening it reads all segments, settles what an earlier process left open, and takes the
    directory for this process until `close`; it blocks meanwhile. To be used from one thread.

    `recovered` counts the runs that were settled then, `damaged` and `unknown` the lines that could not be read. Since
    then `failures` counts what the files refused, `lost` the runs that were given up.

    `now` gives Unix seconds, `seen` is told of each settlement that is there. Raises SpoolError if the directory cannot
    be used.
    """

    def __init__(
        self,
        options: SpoolOptions,
        now: Callable[[], float] = time.time,
        seen: Callable[[Settlement], None] = lambda _settlement: None,
    ) -> None:
        self.recovered = 0
        self.damaged = 0
        self.unknown = 0
        self.failures = 0
        self.lost = 0
        self._options = options
        self._now = now
        self._seen = seen
        self._open: set[str] = set()
        # Of each run whose intent is in a file and whose settlement is not: that file's number.
        self._held: dict[str, int] = {}
        self._unwritten: dict[str, Entry] = {}
        self._refused = 0  # attempts since the last one that succeeded
        self._lock = lock_directory(options.directory)
        try:
            left = self._replay()
            self._segments = Segments(options.directory, options.segment_bytes)
        except OSError as error:
            os.close(self._lock)
            raise SpoolError(
                f"usage spool {options.directory}: cannot be used ({error.strerror}); see to its rights and room."
            ) from error
        self._recover(left)

    @property
    def open_intents(self) -> frozenset[str]:
        """The runs that asked a provider and are not settled."""
        return frozenset(self._open)

    @property
    def unwritten(self) -> int:
        """How many runs have an entry that the files have refused so far. Each new entry tries again."""
        return len(self._unwritten)

    def intend(self, intent: Intent) -> None:
        """Append that a run is about to ask a provider. Takes microseconds; the files never make it raise."""
        if intent.run_id not in self._open:
            self._open.add(intent.run_id)
            self._append(msgspec.structs.replace(intent, at=self._now()))

    def settle(self, settlement: Settlement) -> None:
        """Append what a run cost, if it is open. Takes microseconds; the files never make it raise."""
        if settlement.run_id in self._open:
            self._open.remove(settlement.run_id)
            self._append(msgspec.structs.replace(settlement, at=self._now()))

    def close(self) -> None:
        """Try once more what is not written, and let go of the directory. A second time does nothing.

        End the runs before: what they note afterwards stays in memory.
        """
        if self._lock < 0:
            return
        self._write()
        if self._unwritten:
            log.error("usage spool %s: closed without %d runs", self._options.directory, len(self._unwritten))
        self._segments.close()
        os.close(self._lock)
        self._lock = -1

    def _replay(self) -> list[Intent]:
        """Read what is there; return the intents without a settlement."""
        left: dict[str, Intent] = {}
        for number in segment_numbers(self._options.directory):
            for line in read_segment(self._options.directory, number):
                match line:
                    case Intent(run_id=run_id):
                        left.setdefault(run_id, line)
                        self._held.setdefault(run_id, number)
                    case Settlement(run_id=run_id):
                        self._seen(line)
                        left.pop(run_id, None)
                        self._held.pop(run_id, None)
                    case Unreadable.DAMAGED:
                        self.damaged += 1
                    case Unreadable.UNKNOWN:
                        self.unknown += 1
        return list(left.values())

    def _recover(self, left: list[Intent]) -> None:
        for intent in left:
            settlement = _settlement_of(intent, self._now())
            self._append(settlement)
            self._seen(settlement)
        self._drop()
        self.recovered = len(left)
        if left or self.damaged or self.unknown:
            log.warning(
                "usage spool %s: %d runs of an earlier process settled by estimate, %d damaged lines, %d unknown ones",
                self._options.directory,
                len(left),
                self.damaged,
                self.unknown,
            )

    def _append(self, entry: Entry) -> None:
        # One entry of each run: where the intent could not be written, the settlement takes its place.
        self._unwritten[entry.run_id] = entry
        self._write()
        while len(self._unwritten) > self._options.unwritten_runs:
            run_id = next(iter(self._unwritten))
            del self._unwritten[run_id]
            self._held.pop(run_id, None)
            self.lost += 1

    def _write(self) -> None:
        try:
            while self._unwritten:
                if self._segments.is_full:
                    self._rotate()
                entry = next(iter(self._unwritten.values()))
                number = self._segments.append(encode_entry(entry))
                del self._unwritten[entry.run_id]
                if isinstance(entry, Intent):
                    self._held[entry.run_id] = number
                else:
                    self._held.pop(entry.run_id, None)
        except OSError as error:
            self.failures += 1
            self._refused += 1
            if self._refused == 1:
                self._complain("entries cannot be written and are kept in memory", error)
        else:
            if self._refused:
                log.warning(
                    "usage spool %s: written to again, after %d failures", self._options.directory, self._refused
                )
            self._refused = 0

    def _rotate(self) -> None:
        try:
            self._segments.begin()
        except OSError as error:
            self.failures += 1
            self._complain("no new segment can be begun, and the old one grows", error)
        self._drop()

    def _drop(self) -> None:
        try:
            self._segments.drop(self._options.kept_segments, min(self._held.values(), default=None))
        except OSError as error:
            self.failures += 1
            self._complain("an old segment cannot be deleted", error)

    def _complain(self, what: str, error: OSError) -> None:
        log.error("usage spool %s: %s (%s)", self._options.directory, what, error.strerror)


def _settlement_of(orphan: Intent, at: float) -> Settlement:
    """What a run cost whose process died: nobody knows more than that its prompt was on its way."""
    usage = Usage(input_tokens=orphan.prompt_tokens, estimated=True)
    run_id, owner, model, cost, key = orphan.run_id, orphan.owner, orphan.model, orphan.cost, orphan.key
    return Settlement(run_id, owner, model, 1, usage, Source.ESTIMATED, ErrorCode.REPLICA_LOST, cost, key, at=at)
