"""For all tests: Hypothesis runs the same examples every time, without a clock; sweeps come last; counts are shown."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

_COUNT = "count"
EXPORTER_SECONDS = 10.0

settings.register_profile(
    "sluicegate", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sluicegate")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Commands set up logging for the whole process; what they set ends with the test."""
    root, own, source = logging.getLogger(), logging.getLogger("sluicegate"), logging._srcfile
    handlers, level, own_level = root.handlers[:], root.level, own.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)
    logging._srcfile = source
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = True


@pytest.fixture(autouse=True)
def no_exporter_goes_on() -> Iterator[None]:
    """Threads of OpenTelemetry that outlive their test draw random numbers and connect in the midst of others."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("Otel"):
            thread.join(EXPORTER_SECONDS)
            assert not thread.is_alive(), f"{thread.name} goes on"


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Shows a line in the summary of the test run, also where a worker process runs the test."""
    return lambda line: record_property(_COUNT, line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("sweep") is not None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())]
    lines = [value for report in reports for name, value in getattr(report, "user_properties", ()) if name == _COUNT]
    if lines:
        terminalreporter.section("what was counted")
    for line in sorted(map(str, lines)):
        terminalreporter.write_line(line)
