"""Counts what the laws were tried on, and says so at the end of the test run."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

_CASES = "path cases: "
_SECONDS = "path seconds"

Tally = Callable[[str, int], None]


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Records that a law was tried on so many cases."""
    return lambda law, cases: record_property(_CASES + law, cases)


@pytest.fixture(autouse=True)
def _cpu(record_property: Callable[[str, object], None]) -> Iterator[None]:
    before = time.process_time()
    yield
    record_property(_SECONDS, time.process_time() - before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    cases: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name.startswith(_CASES):
                cases[name.removeprefix(_CASES)] += value
            elif name == _SECONDS:
                seconds[report.nodeid.partition("::")[0]] += value
    if seconds:
        terminalreporter.section("the whole path")
    for law, count in sorted(cases.items()):
        terminalreporter.write_line(f"{count:>9,} {law}")
    for file, spent in sorted(seconds.items()):
        terminalreporter.write_line(f"{spent:>9.1f} s CPU {file}")
