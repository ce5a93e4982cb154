"""`sluicegate usage`: every run of the days asked for is counted once, where it belongs."""

from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.cli import main
from sluicegate.cli.usage import Line, table, totals
from sluicegate.machine.deltas import Usage
from sluicegate.runtime.ledger import Intent, Settlement, Source
from sluicegate.runtime.spool import Spool, SpoolOptions

DAY = 86_400.0
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
SETTLED = st.builds(
    Settlement,
    run_id=st.uuids().map(str),
    owner=st.sampled_from(["", "ann", "ben"]),
    model=st.sampled_from(["fast", "good"]),
    steps=st.just(1),
    usage=st.builds(Usage, st.integers(0, 10**9), st.integers(0, 10**9)),
    source=st.sampled_from(Source),
    outcome=st.just("stop"),
    cost=st.none() | st.floats(0, 1000),
    key=st.sampled_from(["", "k1", "k2"]),
    at=st.floats(NOW - 5 * DAY, NOW),
)


@given(st.lists(SETTLED, max_size=30), st.integers(0, 6))
def test_each_run_since_then_is_counted_once_and_with_its_own(runs: list[Settlement], days: int) -> None:
    since = datetime.fromtimestamp(NOW - days * DAY, UTC).date()
    found = totals(runs, since)
    meant = [run for run in runs if datetime.fromtimestamp(run.at, UTC).date() >= since]
    assert sum(total.runs for total in found.values()) == len(meant)
    for line, total in found.items():
        own = [run for run in meant if (run.owner, run.key, run.model) == line[1:] and day_of(run) == line.day]
        assert total.runs == len(own) > 0
        assert total.input_tokens == sum(run.usage.input_tokens for run in own)
        assert total.output_tokens == sum(run.usage.output_tokens for run in own)
        assert total.estimated == sum(run.source is Source.ESTIMATED for run in own)
        assert total.unpriced == sum(run.cost is None for run in own)
        assert total.dollars == pytest.approx(sum(run.cost or 0 for run in own))
    assert list(found) == sorted(found)
    assert len({len(row) for row in table(found)}) == 1, "the columns stand under each other"


def day_of(run: Settlement) -> date:
    return datetime.fromtimestamp(run.at, UTC).date()


def test_a_spool_that_is_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = Spool(SpoolOptions(tmp_path))
    try:
        for number, cost in enumerate((0.25, 0.5, None)):
            spool.intend(Intent(f"r{number}", "ann", "fast", 10))
            spool.settle(
                Settlement(f"r{number}", "ann", "fast", 1, Usage(1000, 20), Source.PROVIDER, "stop", cost, "k1")
            )
        assert main(["usage", "--spool", str(tmp_path)]) == 0
    finally:
        spool.close()
    shown, told = capsys.readouterr()
    assert shown.splitlines()[1].split()[1:] == ["ann", "k1", "fast", "3", "3,000", "60", "0", "0.7500+"]
    assert "price" in told


def test_what_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--spool", str(tmp_path / "none")]) == 1
    assert "none: cannot be read (No such file or directory)" in capsys.readouterr().err
    assert main(["usage"]) == 2
    assert "--spool DIRECTORY" in capsys.readouterr().err


def test_a_line_is_a_day_an_owner_a_key_and_a_model() -> None:
    run = msgspec.structs.replace(Settlement("r", "ann", "fast", 1, Usage(), Source.PROVIDER, "stop"), at=0.0)
    assert list(totals([run], date(1970, 1, 1))) == [Line(date(1970, 1, 1), "ann", "", "fast")]
