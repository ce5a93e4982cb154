"""The laws of the usage spool: whatever happens to its files, what is whole is found and nothing is settled twice."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Final
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sluicegate.machine.deltas import Usage
from sluicegate.machine.errors import ErrorCode
from sluicegate.runtime.ledger import Intent, Settlement, Source
from sluicegate.runtime.spool import Spool, SpoolOptions
from sluicegate.runtime.spool_files import segment_numbers, segment_path
from sluicegate.runtime.spool_format import Entry, Unreadable, decode_line, encode_entry
from sluicegate.runtime.spool_reader import audit_spool, read_spool

NOW = 1_700_000_000.0
EXAMPLES = 150
LEAST_BYTES = 900
FLIPS = (1, 32, 128, 255)


def intent(run_id: str, prompt_tokens: int = 7) -> Intent:
    return Intent(run_id, "anna", "m", prompt_tokens, at=NOW)


def settlement(run_id: str, output_tokens: int = 5) -> Settlement:
    return Settlement(run_id, "anna", "m", 2, Usage(9, output_tokens), Source.PROVIDER, "stop", at=NOW)


def recovered(run_id: str, prompt_tokens: int = 7) -> Settlement:
    usage = Usage(input_tokens=prompt_tokens, estimated=True)
    return Settlement(run_id, "anna", "m", 1, usage, Source.ESTIMATED, ErrorCode.REPLICA_LOST, at=NOW)


SMALL: Final[tuple[Entry, ...]] = (
    intent("a"),
    intent("b"),
    settlement("a"),
    intent("c"),
    settlement("c"),
    intent("d"),
    settlement("b"),
)


def open_spool(directory: Path, **options: int) -> Spool:
    return Spool(SpoolOptions(directory, **options), lambda: NOW)


def expected(whole: list[Entry]) -> dict[str, Settlement]:
    """What must stand in a spool after a recovery, where these entries are whole."""
    found = {entry.run_id: entry for entry in whole if isinstance(entry, Settlement)}
    for entry in whole:
        if isinstance(entry, Intent) and entry.run_id not in found:
            found[entry.run_id] = recovered(entry.run_id)
    return found


def check_damaged(directory: Path, data: bytes, whole: list[Entry], spoilt: str) -> None:
    """Check what is read, recovered and appended where `data` is the spool and `whole` is what is whole of it.

    Of the run `spoilt` an entry is broken: what is whole of it may be seen or not, but nothing else.
    """
    path = segment_path(directory, 1)
    path.write_bytes(data)
    read = list(read_spool(directory))
    assert [entry for entry in read if entry.run_id != spoilt] == [
        entry for entry in whole if isinstance(entry, Settlement) and entry.run_id != spoilt
    ]
    spool = open_spool(directory)
    spool.intend(intent("new"))
    spool.settle(settlement("new"))
    spool.close()
    again = open_spool(directory)
    assert again.recovered == 0
    again.close()
    after = list(read_spool(directory))
    found = {entry.run_id: entry for entry in after}
    assert len(found) == len(after)
    assert audit_spool(directory).orphans == 0
    assert audit_spool(directory).repeats == 0
    must = expected([*whole, settlement("new")])
    for run_id in must.keys() | found.keys():
        if run_id == spoilt:
            assert found.get(run_id) in (None, settlement(run_id), recovered(run_id))
        else:
            assert found.get(run_id) == must.get(run_id), run_id


def spans(entries: tuple[Entry, ...]) -> list[tuple[int, int]]:
    """Where each entry begins and ends, its newlines included."""
    ends = [0]
    for entry in entries:
        ends.append(ends[-1] + len(encode_entry(entry)))
    return list(pairwise(ends))


@pytest.mark.sweep
def test_cut_at_every_byte(tmp_path: Path, note: Callable[[str], None]) -> None:
    data = b"".join(map(encode_entry, SMALL))
    for cut in range(len(data) + 1):
        # An entry is whole without the newline behind it.
        whole = [entry for entry, (_, end) in zip(SMALL, spans(SMALL), strict=True) if end - 1 <= cut]
        check_damaged(tmp_path, data[:cut], whole, "")
    note(f"spool: {len(data) + 1} truncations")
    assert len(data) >= LEAST_BYTES


@pytest.mark.sweep
def test_every_byte_flipped(tmp_path: Path, note: Callable[[str], None]) -> None:
    data = b"".join(map(encode_entry, SMALL))
    for broken, (start, end) in zip(SMALL, spans(SMALL), strict=True):
        whole = [entry for entry in SMALL if entry is not broken]
        for at in range(start, end):
            for flip in FLIPS:
                spoilt = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
                check_damaged(tmp_path, spoilt, whole, broken.run_id)
    note(f"spool: {len(data) * len(FLIPS)} flipped bytes")
    assert len(data) >= LEAST_BYTES


def test_no_broken_byte_makes_an_entry() -> None:
    for entry in SMALL:
        line = encode_entry(entry)[1:-1]
        assert decode_line(line) == entry
        for at in range(len(line)):
            for flip in range(1, 256):
                broken = decode_line(line[:at] + bytes([line[at] ^ flip]) + line[at + 1 :])
                assert broken is Unreadable.DAMAGED, (at, flip)


class Disk:
    """Has `room` bytes for the segments of spools, None: any number. What is too much for it is written in part."""

    def __init__(self) -> None:
        self.room: int | None = None
        self._segments: set[int] = set()
        self._calls = (os.open, os.write, os.close)

    @contextmanager
    def inserted(self) -> Iterator[None]:
        with patch.multiple(os, open=self._open, write=self._write, close=self._close):
            yield

    def _open(self, path: Any, *more: Any, **named: Any) -> int:
        descriptor = self._calls[0](path, *more, **named)
        if str(path).endswith(".usage"):
            self._segments.add(descriptor)
        return descriptor

    def _write(self, descriptor: int, data: Any) -> int:
        if self.room is None or descriptor not in self._segments:
            return self._calls[1](descriptor, data)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._calls[1](descriptor, data[: self.room])
        self.room -= taken
        return taken

    def _close(self, descriptor: int) -> None:
        self._segments.discard(descriptor)
        self._calls[2](descriptor)


class Books(RuleBasedStateMachine):
    """A spool and what must be in it: `whole` are the entries in its files, also those of segments long deleted."""

    steps: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.directory = Path(self.stack.enter_context(TemporaryDirectory()))
        self.disk = Disk()
        self.stack.enter_context(self.disk.inserted())
        self.numbers = count(1)
        self.whole: list[Entry] = []
        self.waiting: dict[str, Entry] = {}
        self.open: dict[str, Intent] = {}
        self.room: int | None = None
        self.options: SpoolOptions
        self.spool: Spool

    @initialize(segment_bytes=st.sampled_from([1, 300, 900, 100_000]), kept=st.sampled_from([1, 3, 30]))
    def begin(self, segment_bytes: int, kept: int) -> None:
        self.options = SpoolOptions(self.directory, segment_bytes, kept)
        self.spool = Spool(self.options, lambda: NOW)

    @rule(runs=st.integers(1, 5))
    def intend(self, runs: int) -> None:
        for _ in range(runs):
            entry = intent(f"run-{next(self.numbers)}")
            self.open[entry.run_id] = entry
            self.spool.intend(entry)
            self.note("intend", entry)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def intend_again(self, data: st.DataObject) -> None:
        self.spool.intend(intent(data.draw(st.sampled_from(sorted(self.open))), 1000))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), output_tokens=st.integers(0, 10**9))
    def settle(self, data: st.DataObject, output_tokens: int) -> None:
        for run_id in data.draw(st.lists(st.sampled_from(sorted(self.open)), min_size=1, max_size=5, unique=True)):
            entry = settlement(run_id, output_tokens)
            del self.open[run_id]
            self.spool.settle(entry)
            self.note("settle", entry)

    @precondition(lambda self: self.whole)
    @rule(data=st.data())
    def settle_what_is_not_open(self, data: st.DataObject) -> None:
        run_id = data.draw(st.sampled_from(["never", *(entry.run_id for entry in self.whole)]))
        if run_id not in self.open:
            self.spool.settle(settlement(run_id, 1))

    @rule(room=st.integers(0, 700))
    def fill_the_disk(self, room: int) -> None:
        self.disk.room = self.room = room

    @rule()
    def make_room(self) -> None:
        self.disk.room = self.room = None

    @rule()
    def close(self) -> None:
        self.steps["close"] += 1
        self.spool.close()
        self.write()
        self.reopen()

    @rule(share=st.floats(0, 1))
    def crash(self, share: float) -> None:
        """The process is gone, perhaps in the middle of its last entry; then it had deleted nothing on its account."""
        self.steps["crash"] += 1
        self.disk.room = 0
        self.spool.close()
        numbers = segment_numbers(self.directory)
        if numbers[0] == 1:
            self.cut(segment_path(self.directory, numbers[-1]), share)
        self.reopen()

    def cut(self, path: Path, share: float) -> None:
        data = path.read_bytes()
        start = data.rfind(b"\n", 0, len(data) - 1) if data else 0
        last = decode_line(data[start + 1 :])
        end = len(data) - round((len(data) - start) * share)
        path.write_bytes(data[:end])
        if isinstance(last, Entry) and decode_line(data[start + 1 : end]) != last:
            self.steps["torn"] += 1
            assert self.whole.pop() == last

    def reopen(self) -> None:
        self.waiting.clear()
        self.open.clear()
        self.make_room()
        self.spool = Spool(self.options, lambda: NOW)
        settled = {entry.run_id for entry in self.whole if isinstance(entry, Settlement)}
        orphans = [entry for entry in self.whole if entry.run_id not in settled]
        self.whole += [recovered(entry.run_id) for entry in orphans]
        self.steps["recovered"] += len(orphans)
        assert self.spool.recovered == len(orphans)
        assert len(segment_numbers(self.directory)) <= self.options.kept_segments

    def note(self, what: str, entry: Entry) -> None:
        self.steps[what] += 1
        self.waiting[entry.run_id] = entry
        self.write()

    def write(self) -> None:
        for entry in list(self.waiting.values()):
            size = len(encode_entry(entry))
            if self.room is not None:
                if self.room < size - 1:  # without its last newline it is whole
                    self.steps["refused"] += 1
                    self.room = 0
                    return
                self.room -= min(size, self.room)
            self.whole.append(self.waiting.pop(entry.run_id))

    @invariant()
    def every_settlement_is_there_once(self) -> None:
        if not hasattr(self, "spool"):
            return
        found = list(read_spool(self.directory))
        settled = [entry for entry in self.whole if isinstance(entry, Settlement)]
        assert found == settled[len(settled) - len(found) :]
        numbers = segment_numbers(self.directory)
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert len(numbers) >= min(numbers[-1], self.options.kept_segments)
        assert numbers[0] > 1 or found == settled
        self.steps["dropped"] += numbers[0] > 1
        assert self.spool.open_intents == self.open.keys()
        assert self.spool.unwritten == len(self.waiting)
        assert audit_spool(self.directory).repeats == 0

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
        self.stack.close()


@pytest.mark.sweep
def test_any_sequence_of_what_may_happen(note: Callable[[str], None]) -> None:
    Books.steps.clear()
    # Hypothesis would call a busy machine a fault of ours.
    calm = settings(max_examples=EXAMPLES, stateful_step_count=40)
    run_state_machine_as_test(Books, settings=calm)
    note(f"spool: {dict(Books.steps)} in {EXAMPLES} random lives")
    for what in ("intend", "settle", "close", "crash", "torn", "recovered", "refused", "dropped"):
        assert Books.steps[what] >= EXAMPLES / 10, what
