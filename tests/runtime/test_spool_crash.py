"""kill -9 at named points: no run that reached the provider goes without a settlement, and none has two."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sluicegate.runtime.ledger import Settlement, Source
from sluicegate.runtime.spool import Spool
from sluicegate.runtime.spool_reader import audit_spool, read_spool
from tests.runtime.crash import IN_RECOVERY, IN_RUNS, LEFT, LOST, Point
from tests.shared import CHECKOUT

pytestmark = pytest.mark.sweep

LEAST_POINTS = 20


def kill(point: Point, directory: Path) -> None:
    """Let a process live until the point."""
    command = [sys.executable, "-m", "tests.runtime.crash_child", point.name, str(directory)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, f"{point.name} was not met: {done.returncode} {done.stderr}"


def witnessed(path: Path) -> set[str]:
    return set(path.read_text().split()) if path.exists() else set()


def settled(directory: Path) -> list[Settlement]:
    return [entry for entry in read_spool(directory) if entry.run_id.startswith("run-")]


def audit(point: Point, directory: Path) -> list[Settlement]:
    """Recover as the next process does, check the laws, and return what stands in the spool then."""
    folder = directory / "spool"
    before = settled(folder)
    options = point.options(folder)
    spool = Spool(options)
    recovered = spool.recovered
    spool.close()
    found = settled(folder)
    books = audit_spool(folder)
    by_run = {entry.run_id: entry for entry in found}
    reached, heard = witnessed(directory / "reached"), witnessed(directory / "heard")
    assert books.orphans == 0
    assert books.repeats == 0, "an entry was written twice"
    assert books.unknown == 0
    assert len(by_run) == len(found)
    assert reached <= by_run.keys(), "reached the provider, and is not settled"
    assert found[: len(before)] == before, "recovery changes nothing that is there"
    assert len(found) == len(before) + recovered
    assert all((entry.outcome, entry.source) == (LOST, Source.ESTIMATED) for entry in found[len(before) :])
    for run_id in heard:
        assert by_run[run_id].outcome != LOST, "a client heard of an end that the books do not know"
    again = Spool(options)
    assert again.recovered == 0
    again.close()
    assert settled(folder) == found, "a second recovery changes nothing"
    return found


@pytest.mark.parametrize("point", IN_RUNS, ids=lambda point: point.name)
def test_killed_in_runs(point: Point, tmp_path: Path) -> None:
    kill(point, tmp_path)
    found = audit(point, tmp_path)
    if point.outcome is not None:
        assert [entry.outcome for entry in found] == ([point.outcome] if point.outcome else [])
    assert audit_spool(tmp_path / "spool").damaged == (point.event.startswith("half"))


@pytest.mark.parametrize("point", IN_RECOVERY, ids=lambda point: point.name)
def test_killed_in_recovery(point: Point, tmp_path: Path) -> None:
    kill(LEFT, tmp_path)
    kill(point, tmp_path)
    found = audit(point, tmp_path)
    assert [entry.outcome for entry in found] == [LOST] * 3
    assert {entry.run_id for entry in found} == {"run-0", "run-1", "run-2"}


def test_the_points_are_many_and_none_stands_twice(note: Callable[[str], None]) -> None:
    points = (*IN_RUNS, *IN_RECOVERY)
    assert len({point.name for point in points}) == len(points) >= LEAST_POINTS
    note(f"kill -9: {len(points)} named points")
