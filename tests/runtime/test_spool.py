"""The usage spool: what it refuses, what it survives, how much it keeps; and that runs use it as they should."""

import errno
import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from zlib import crc32

import pytest
import trio

from sluicegate.machine.deltas import Usage
from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.events import Event
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.machine.run import Run
from sluicegate.machine.usage import estimate_prompt_tokens
from sluicegate.providers.environment import scripted_provider
from sluicegate.providers.script import Call, Reply, Say, Stall, Unreachable
from sluicegate.providers.scripted import ScriptedTransport
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.feed import Feed, FeedState
from sluicegate.runtime.ledger import Intent, Ledger, MemoryLedger, Settlement, Source
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.runs import Runs
from sluicegate.runtime.spool import Spool, SpoolOptions
from sluicegate.runtime.spool_files import SpoolError, segment_numbers, segment_path
from sluicegate.runtime.spool_format import Entry, encode_entry
from sluicegate.runtime.spool_reader import SpoolAudit, audit_spool, read_spool
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from tests.routes import route_to

NOW = 1_700_000_000.0
STOP = RunError(ErrorCode.CANCELLED, "The run was stopped.")
APPEND_SECONDS = 100e-6  # of one entry; a run has two


def intent(run_id: str) -> Intent:
    return Intent(run_id, "", "m", 7)


def settlement(run_id: str) -> Settlement:
    return Settlement(run_id, "", "m", 2, Usage(9, 5), Source.PROVIDER, "stop")


def open_spool(directory: Path, **options: int) -> Spool:
    return Spool(SpoolOptions(directory, **options), lambda: NOW)


def run_through(spool: Spool, *run_ids: str) -> None:
    for run_id in run_ids:
        spool.intend(intent(run_id))
        spool.settle(settlement(run_id))


def settled(directory: Path) -> list[str]:
    return [entry.run_id for entry in read_spool(directory)]


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> Callable[[], None]:
    """Let a system call fail for segments; return what ends that."""
    real = getattr(os, call)
    segments = set()

    def fail(what: Any, *more: Any, **named: Any) -> Any:
        is_segment = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else str(what)
        if is_segment.endswith(".usage"):
            segments.add(what)
            raise OSError(code, os.strerror(code))
        return real(what, *more, **named)

    monkeypatch.setattr(os, call, fail)

    def allow() -> None:
        assert segments, f"nothing called os.{call}"
        monkeypatch.setattr(os, call, real)

    return allow


# --- every ledger


@pytest.fixture(params=["memory", "spool"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterable[Ledger]:
    if request.param == "memory":
        yield MemoryLedger()
    else:
        spool = open_spool(tmp_path)
        yield spool
        spool.close()


def settlements(ledger: Ledger, directory: Path) -> list[str]:
    if isinstance(ledger, MemoryLedger):
        return [entry.run_id for entry in ledger.settlements]
    return settled(directory)


def test_a_run_is_settled_once_and_only_if_it_asked(ledger: Ledger, tmp_path: Path) -> None:
    ledger.settle(settlement("a"))
    assert settlements(ledger, tmp_path) == []
    ledger.intend(intent("a"))
    ledger.intend(intent("a"))
    ledger.intend(intent("b"))
    assert ledger.open_intents == {"a", "b"}
    ledger.settle(settlement("a"))
    ledger.settle(settlement("a"))
    assert ledger.open_intents == {"b"}
    assert settlements(ledger, tmp_path) == ["a"]


# --- the directory


def test_one_process_at_a_time(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolError, match=re.escape(f"{tmp_path}: another process writes to it; stop that one")):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    spool = open_spool(directory)
    run_through(spool, "r")
    spool.close()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]


def test_a_file_in_its_place_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(SpoolError, match=r"file: cannot be used \(.+\); name a directory that may be written to"):
        open_spool(path)
    with pytest.raises(NotADirectoryError, match="file"):
        audit_spool(path)


@pytest.mark.parametrize("call", ["open", "listdir"])
def test_what_cannot_be_opened_leaves_no_lock_and_no_descriptor(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.listdir("/proc/self/fd")
    real = getattr(os, call)

    def fail(path: Any, *more: Any) -> Any:
        if str(path).endswith(".usage") or call == "listdir":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *more)

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(SpoolError, match=rf"{re.escape(str(tmp_path))}: cannot be used \(Permission denied\)"):
        open_spool(tmp_path)
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == before
    open_spool(tmp_path).close()


@pytest.mark.parametrize("field", ["segment_bytes", "kept_segments", "unwritten_runs"])
def test_options_have_a_least_value(field: str, tmp_path: Path) -> None:
    SpoolOptions(tmp_path, **{field: 1})
    with pytest.raises(ValueError, match=f"{field}: is 0; it must be 1 or more"):
        SpoolOptions(tmp_path, **{field: 0})


def test_nothing_is_left_open_and_a_second_close_does_nothing(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    spool = open_spool(tmp_path, segment_bytes=1)
    run_through(spool, "a", "b")
    spool.close()
    spool.close()
    assert os.listdir("/proc/self/fd") == before


def test_after_close_nothing_is_written_anywhere(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    spool.close()
    with (tmp_path / "other").open("wb"):  # has the descriptor now
        run_through(spool, "late")
    assert (tmp_path / "other").read_bytes() == b""
    assert settled(tmp_path / "spool") == []
    assert spool.unwritten == 1


# --- what is in the files


def test_time_and_all_fields_come_back(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    said = Settlement("r", "anna", "ein Modell\n", 3, Usage(1, 2, 3, 4, 5, estimated=True), Source.ESTIMATED, "stop")
    spool.intend(Intent("r", "anna", "ein Modell\n", 1))
    spool.settle(said)
    spool.close()
    assert list(read_spool(tmp_path)) == [
        Settlement("r", "anna", "ein Modell\n", 3, said.usage, Source.ESTIMATED, "stop", at=NOW)
    ]


def test_what_is_no_entry_hides_nothing_and_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = encode_entry(settlement("a"))
    newer = encode_entry(settlement("b")).replace(b'"settlement"', b'"newer"')[10:-1]
    junk = [b"\x00" * 5000, b"\xff\xfe", b"00000001 ", b"{}", b"1234567", encode_entry(intent("c"))[:-9].strip()]
    segment_path(tmp_path, 7).write_bytes(
        whole + b"\n".join(junk) + b"\n%08x %b\n" % (crc32(newer), newer) + encode_entry(settlement("d"))
    )
    (tmp_path / "8.usage").write_bytes(encode_entry(settlement("not a segment")))
    assert settled(tmp_path) == ["a", "d"]
    assert audit_spool(tmp_path) == SpoolAudit(0, 2, 0, 0, damaged=len(junk), unknown=1)
    spool = open_spool(tmp_path)
    assert (spool.recovered, spool.damaged, spool.unknown) == (0, len(junk), 1)
    spool.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_repeats_count_once(tmp_path: Path) -> None:
    entries: list[Entry] = [intent("a"), intent("a"), settlement("a"), settlement("a"), intent("b")]
    segment_path(tmp_path, 1).write_bytes(b"".join(map(encode_entry, entries)))
    assert settled(tmp_path) == ["a"]
    assert audit_spool(tmp_path) == SpoolAudit(2, 1, 1, 2, 0, 0)


def test_a_segment_that_is_deleted_meanwhile_is_passed_over(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=1)
    run_through(spool, "a", "b")
    reading = read_spool(tmp_path)
    assert next(reading).run_id == "a"
    segment_path(tmp_path, 3).unlink()
    assert [entry.run_id for entry in reading] == ["b"]
    spool.close()


# --- rotation


def test_segments_have_their_size_and_number(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=1000, kept_segments=3)
    for number in range(100):
        run_through(spool, f"run-{number:03}")
        assert len(segment_numbers(tmp_path)) <= 3
    spool.close()
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    assert all(1000 <= size < 1000 + len(encode_entry(settlement("run-000"))) + 30 for size in sizes[:-1])
    found = settled(tmp_path)
    assert found == [f"run-{number:03}" for number in range(100)][-len(found) :]
    assert len(found) >= 8


def test_no_segment_with_an_open_intent_is_deleted(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=1, kept_segments=2)
    spool.intend(intent("long"))
    run_through(spool, *map(str, range(20)))
    assert segment_numbers(tmp_path) == list(range(1, 42))
    spool.settle(settlement("long"))
    run_through(spool, "next")
    assert segment_numbers(tmp_path) == [43, 44]
    spool.close()


def test_the_next_process_goes_on_in_the_newest_segment_and_deletes_what_the_last_one_kept(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=1, kept_segments=9)
    run_through(spool, *"abcd")
    spool.close()
    spool = open_spool(tmp_path, kept_segments=3)
    assert segment_numbers(tmp_path) == [6, 7, 8]
    run_through(spool, "e")
    spool.close()
    assert segment_numbers(tmp_path) == [6, 7, 8]
    assert settled(tmp_path) == ["c", "d", "e"]


def test_without_a_new_segment_the_old_one_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path, segment_bytes=1000)
    run_through(spool, *"abcd")
    allow = refuse(monkeypatch, "open", errno.EMFILE)
    run_through(spool, *"efghijkl")
    allow()
    assert segment_numbers(tmp_path) == [1]
    assert 1 <= spool.failures == len(caplog.records) <= 3, "one attempt for each size"
    run_through(spool, *"mnopqrst")
    spool.close()
    assert settled(tmp_path) == list("abcdefghijklmnopqrst")
    assert len(segment_numbers(tmp_path)) > 1


def test_a_segment_that_cannot_be_deleted_is_deleted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path, segment_bytes=1, kept_segments=2)
    run_through(spool, "a")
    allow = refuse(monkeypatch, "unlink", errno.EPERM)
    run_through(spool, "b")
    allow()
    assert segment_numbers(tmp_path) == [1, 2, 3, 4]
    assert spool.failures == len(caplog.records) > 0
    run_through(spool, "c")
    assert segment_numbers(tmp_path) == [5, 6]
    spool.close()


# --- writes that fail


def test_a_full_disk_ends_nothing_and_is_caught_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path)
    spool.intend(intent("before"))
    allow = refuse(monkeypatch, "write", errno.ENOSPC)
    spool.settle(settlement("before"))
    run_through(spool, "a", "b")
    spool.intend(intent("c"))
    assert (spool.unwritten, spool.failures, spool.lost) == (4, 6, 0)
    assert spool.open_intents == {"c"}
    assert [record.levelname for record in caplog.records] == ["ERROR"], "said once"
    assert str(tmp_path) in caplog.text
    assert "No space left" in caplog.text
    allow()
    spool.settle(settlement("c"))
    assert spool.unwritten == 0
    assert settled(tmp_path) == ["before", "a", "b", "c"]
    run_through(spool, "d")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    allow = refuse(monkeypatch, "write", errno.ENOSPC)
    run_through(spool, "e")
    allow()
    spool.close()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"] * 2
    assert settled(tmp_path) == ["before", "a", "b", "c", "d", "e"]


@pytest.mark.parametrize("missing", [0, 1])
def test_an_entry_that_is_taken_in_parts_is_written_once(
    missing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk is full before its last newline."""
    spool = open_spool(tmp_path)
    write = os.write

    def take_a_third(descriptor: int, data: memoryview) -> int:
        if len(data) == missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: max(1, min(len(data) // 3, len(data) - missing))])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", take_a_third)
        run_through(spool, "a")
    assert (spool.unwritten, spool.failures) == (0, 0)
    run_through(spool, "b")
    spool.close()
    assert audit_spool(tmp_path) == SpoolAudit(2, 2, 0, 0, 0, 0)


def test_what_waits_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path, unwritten_runs=3)
    allow = refuse(monkeypatch, "write", errno.EIO)
    run_through(spool, *"abcde")
    assert (spool.unwritten, spool.lost) == (3, 2)
    allow()
    spool.close()
    assert settled(tmp_path) == ["c", "d", "e"]


def test_a_run_that_was_given_up_holds_no_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path, segment_bytes=1, kept_segments=2, unwritten_runs=1)
    for run_id in "ab":
        spool.intend(intent(run_id))
    allow = refuse(monkeypatch, "write", errno.ENOSPC)
    for run_id in "ab":
        spool.settle(settlement(run_id))
    allow()
    assert spool.lost == 1
    run_through(spool, *"cde")
    assert len(segment_numbers(tmp_path)) == 2
    spool.close()


def test_closed_with_entries_unwritten_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path)
    allow = refuse(monkeypatch, "write", errno.ENOSPC)
    run_through(spool, "a")
    spool.close()
    allow()
    assert "closed without 1 runs" in caplog.text


def test_recovery_on_a_full_disk_is_done_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path)
    spool.intend(intent("a"))
    spool.close()
    allow = refuse(monkeypatch, "write", errno.ENOSPC)
    spool = open_spool(tmp_path)
    assert spool.recovered == spool.unwritten == 1
    allow()
    run_through(spool, "b")
    spool.close()
    assert settled(tmp_path) == ["a", "b"]


# --- runs on a spool


def brain(asked: ScriptedRequest) -> Reply:
    """Two steps, the first one with a tool."""
    if asked.results:
        return [Say("It is 18 degrees.")]
    return [Say("Let me look."), Call("look", {"city": "Oslo"})]


@tool
async def look(city: str) -> str:
    """Look."""
    await trio.lowlevel.checkpoint()
    return city


class Rig:
    """Drives one run on a ledger. In real time: the SDK's first request waits for a thread."""

    def __init__(self, ledger: Ledger, script: Any = brain) -> None:
        self.transport = ScriptedTransport(script)
        self.provider = scripted_provider("openai_chat", self.transport)
        self.options = RunOptions()
        registry = Registry([look])
        request = Request("m", (UserMessage((TextPart("How warm is Oslo?"),)),), registry.specs())
        self.prompt_tokens = estimate_prompt_tokens(request.messages)
        self.ledger = ledger
        self.feed = Feed(NativeEncoder("e"), self.options.log_room)
        run = Run("r", request, None, registry.eager)
        self.driver = Driver(run, route_to(self.provider, "m"), registry, self.feed, self.options, ledger)

    async def drive(self, stop_at: bytes | None = None) -> None:
        """Drive to the end; stop the run when a reader sees the words `stop_at`."""
        async with trio.open_nursery() as nursery:
            runs = Runs(nursery, self.options, self.ledger)
            runs.start(self.driver)
            if stop_at is not None:
                reader = self.driver.attach()
                while stop_at not in (await reader.next() or stop_at):
                    pass
                self.driver.cancel(STOP)
            await runs.wait_none()
            nursery.cancel_scope.cancel()
        await self.provider.aclose()


async def test_case_63_a_run_that_is_stopped_reaches_the_spool_as_estimated(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    rig = Rig(spool, [[Say("Well, it is"), Stall()]])
    await rig.drive(stop_at=b'is"}')
    [found] = read_spool(tmp_path)
    spool.close()
    assert (found.outcome, found.source, found.steps) == ("CANCELLED", Source.ESTIMATED, 1)
    assert found.usage == Usage(rig.prompt_tokens, 3, estimated=True)
    assert rig.transport.active == 0


async def test_a_run_that_ends_well_is_settled_with_what_the_provider_said(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    await Rig(spool).drive()
    [found] = read_spool(tmp_path)
    assert (found.outcome, found.source, found.steps) == ("stop", Source.PROVIDER, 2)
    assert audit_spool(tmp_path) == SpoolAudit(1, 1, 0, 0, 0, 0)
    spool.close()


async def test_a_provider_out_of_reach_is_settled_too(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    await Rig(spool, [[Unreachable()]]).drive()
    assert [entry.outcome for entry in read_spool(tmp_path)] == ["UPSTREAM_ERROR"]
    assert spool.open_intents == frozenset()
    spool.close()


async def test_the_intent_is_in_the_file_before_the_first_request_and_is_the_only_one(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    seen: list[SpoolAudit] = []

    def look_then_answer(asked: ScriptedRequest) -> Reply:
        seen.append(audit_spool(tmp_path))
        return brain(asked)

    rig = Rig(spool, look_then_answer)
    await rig.drive()
    spool.close()
    assert seen == [SpoolAudit(1, 0, 1, 0, 0, 0)] * 2
    data = segment_path(tmp_path, 1).read_bytes()
    assert f'"prompt_tokens":{rig.prompt_tokens},'.encode() in data


async def test_no_reader_knows_of_an_end_that_the_ledger_does_not() -> None:
    states: list[FeedState] = []

    class Watching(MemoryLedger):
        def settle(self, settlement: Settlement) -> None:
            if settlement.run_id in self.open_intents:
                states.append(rig.feed.state)
            super().settle(settlement)

    rig = Rig(Watching())
    await rig.drive()
    assert states == [FeedState.OPEN]
    assert rig.feed.state is FeedState.ENDED


async def test_a_terminal_that_cannot_be_published_is_settled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger()
    rig = Rig(ledger)
    publish = rig.feed.publish

    def break_at_the_end(events: Iterable[Event]) -> None:
        if rig.driver.run.terminal is not None:
            raise RuntimeError
        publish(events)

    monkeypatch.setattr(rig.feed, "publish", break_at_the_end)
    await rig.drive()
    assert [entry.outcome for entry in ledger.settlements] == ["stop"]


async def test_a_full_disk_ends_no_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spool = open_spool(tmp_path)
    allow = refuse(monkeypatch, "write", errno.ENOSPC)
    rig = Rig(spool)
    await rig.drive()
    allow()
    assert b'"done":true' in b"".join(rig.feed.frames)
    spool.close()
    assert settled(tmp_path) == ["r"]
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["sluicegate.runtime.spool"]


@pytest.mark.alone
def test_an_entry_takes_microseconds(tmp_path: Path, note: Callable[[str], None]) -> None:
    spool = open_spool(tmp_path)
    taken: list[float] = []
    for number in range(5000):
        run_id = f"{number:032x}"
        start = perf_counter()
        run_through(spool, run_id)
        taken.append((perf_counter() - start) / 2)
    spool.close()
    note(f"spool: an entry takes {median(taken) * 1e6:.1f} us")
    assert median(taken) < APPEND_SECONDS


def test_a_run_that_died_costs_at_least_its_prompt(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.intend(Intent("r", "anna", "m", 1000, "key-1", 0.25))
    spool.close()
    seen: list[Settlement] = []
    Spool(SpoolOptions(tmp_path), lambda: NOW, seen.append).close()
    [orphan] = seen
    assert (orphan.cost, orphan.key, orphan.outcome) == (0.25, "key-1", "REPLICA_LOST")
    assert list(read_spool(tmp_path)) == seen
