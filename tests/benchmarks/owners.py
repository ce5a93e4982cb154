"""Who owns the CPU time: `python -m tests.benchmarks.owners [token|request] [--seconds 30] [--no-page]`.

Runs `sluicegate serve` in this process as a user would (spool, one log line per run), provider and clients of the
yardstick in processes of their own, and samples: for a token, the steady state, with no request in the window that
begins or ends; for a request, short ones, one after another. Before the window and behind it the CPU time is measured
without samples; the shares of the samples are shares of that.

Writes specs/performance.md, or prints. Needs gcc and OpenSSL's headers.
"""

import argparse
import linecache
import os
import re
import signal
import socket
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sluicegate import cli

from .harness import harness
from .sampler import Place, Sampler, main_clock
from .yardstick import page, proc
from .yardstick.provider import HOST, Provider, free_port
from .yardstick.results import OURS
from .yardstick.service import Asked, Service
from .yardstick.targets import TARGETS

QUIET_SECONDS = 8.0  # measured without samples, before and behind the samples
START_SECONDS = 30.0
SETTLE_SECONDS = 2.0  # from the first request until the streams are steady
STREAMS, PACE_MS = 32, 20
CLIENTS = 8
ENDLESS = 1_000_000
TOP = 25
COLLECTOR = "garbage collector"
CLIENTS_MAX = 80.0  # s, what the clients may take
_ROOT = re.compile(r".*/(site-packages|src|python3\.\d+)/")
_ROOM = re.compile(r"/sluicegate/(\w+)/")
_PACKAGE = re.compile(r"/site-packages/(\w+)")
_GENERATED = re.compile(r"<attrs generated methods (\w+)")
_LIBRARY = re.compile(r"python3\.\d+/(\w+)")
# What a line that calls into C spends is the callee's. System calls are named as they are called: on a plain socket.
_CALLEES = (
    (re.compile(r"_epoll\.poll\("), "kernel: epoll_wait"),
    (re.compile(r"_epoll\.(modify|register)\("), "kernel: epoll_ctl"),
    (re.compile(r"_?sock(et)?\.send\("), "kernel: send"),
    (re.compile(r"_?sock(et)?\.recv\("), "kernel: recv"),
    (re.compile(r"\.feed_data\("), "httptools"),
)


class Subject(NamedTuple):
    """What is looked at: `section` of the page, what the clients do, in words and as asked, and how many of the
    provider's tokens make one.
    """

    section: str
    doing: str
    asked: Asked
    tokens: int


SUBJECTS = {
    "token": Subject(
        "owners",
        f"{STREAMS} streams of {1000 // PACE_MS} tokens/s",
        Asked(f"bench-n{ENDLESS}-d{PACE_MS}-b1", STREAMS, STREAMS, CLIENTS_MAX, ("--ramp-ms", "700")),
        1,
    ),
    "request": Subject(
        "owners-request",
        f"{CLIENTS} clients, each with one request of two tokens after another",
        Asked("bench-n2-d0-b1", CLIENTS, ENDLESS, CLIENTS_MAX),
        2,
    ),
}


class Window(NamedTuple):
    """CPU seconds of the main thread, and how many of the subject there were meanwhile."""

    spent: float
    number: float

    @property
    def each(self) -> float:
        """CPU microseconds for each."""
        return self.spent / max(1, self.number) * 1e6


class Found(NamedTuple):
    """Three windows, and what the samples of the middle one came to."""

    before: Window
    sampled: Window
    behind: Window
    sampler: Sampler


def owner(place: Place) -> str:
    """Return the room, the package, or what stands below the line that was running."""
    path = place.code.co_filename
    if "CALL" in place.instruction:
        text = linecache.getline(path, place.line)
        for pattern, callee in _CALLEES:
            if pattern.search(text):
                return callee
    if found := _ROOM.search(path):
        return f"sluicegate: {found[1]}"
    if found := _PACKAGE.search(path) or _GENERATED.match(path):
        return found[1]
    found = _LIBRARY.search(path)
    return f"standard library: {found[1] if found else path.strip('<>')}"


def function(place: Place) -> str:
    """Return the function and its module, in short."""
    path = _ROOT.sub("", place.code.co_filename)
    name = f"`{place.code.co_qualname}`, {path.removeprefix('sluicegate/')}"
    callee = owner(place)
    return f"{name}: {callee}" if callee.startswith("kernel") or callee == "httptools" else name


def measure(subject: Subject, seconds: float) -> Found:
    """Serve, let the clients listen, and measure; blocks until the service has drained."""
    sampler = Sampler()
    found: list[Found] = []
    with harness() as (provider, load, scratch), sampler.installed():
        port = free_port()
        for name in [name for name in os.environ if name.startswith(("OPENAI_", "ANTHROPIC_"))]:
            del os.environ[name]
        os.environ |= {"OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": f"http://{HOST}:{provider.port}/v1"}
        service = Service(TARGETS[OURS], os.getpid(), port, load, scratch)

        def watch() -> None:
            try:
                found.append(_windows(subject, service, port, provider, sampler, seconds))
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        watcher = threading.Thread(target=watch)
        watcher.start()
        with TemporaryDirectory() as spool:
            cli.main(["serve", "--port", str(port), "--spool", spool, "--set", "drain_seconds=1"])
        watcher.join()
    if not found:
        raise SystemExit("owners: the measurement failed")
    return found[0]


def _windows(
    subject: Subject, service: Service, port: int, provider: Provider, sampler: Sampler, seconds: float
) -> Found:
    _wait_listening(port)

    def window(seconds: float) -> Window:
        clock = main_clock()
        tokens, spent = provider.stats().tokens, time.clock_gettime(clock)
        time.sleep(seconds)
        spent, tokens = time.clock_gettime(clock) - spent, provider.stats().tokens - tokens
        return Window(spent, tokens / subject.tokens)

    with service.loading(subject.asked):
        time.sleep(SETTLE_SECONDS)
        before = window(QUIET_SECONDS)
        with sampler.sampling():
            sampled = window(seconds)
        return Found(before, sampled, window(QUIET_SECONDS), sampler)


def _wait_listening(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            return socket.create_connection((HOST, port), 1).close()
        except OSError:
            time.sleep(0.1)
    raise SystemExit("owners: the service does not listen")


def report(name: str, found: Found, command: str) -> str:
    """Return conditions and both tables in Markdown."""
    seconds = found.sampler.seconds
    owners, functions = _sums(seconds, owner), _sums(seconds, function)
    owners[COLLECTOR] = functions[COLLECTOR] = found.sampler.collecting
    each = statistics.mean((found.before.each, found.behind.each))
    here = page.conditions(sys.executable, (), {}, command, 1)
    lines = [
        f"- machine: {here.machine}; the load generator and the provider run on the same cores; load average "
        f"at the end {proc.load_average():.1f}",
        f"- {here.python}; sluicegate: commit {here.commit}; command: `{command}`, {here.date}",
        f"- {SUBJECTS[name].doing}: **{each:.0f} µs of CPU per {name}** "
        f"({found.before.each:.0f} before the samples, {found.behind.each:.0f} behind them, "
        f"{found.sampled.each:.0f} with them)",
        f"- {found.sampler.samples:,} samples by {found.sampler.timer}",
        "",
        *_table(name, owners, each),
        "",
        f"The {TOP} dearest functions, without what they call; a system call is a row of its own:",
        "",
        *_table(name, functions, each),
    ]
    return "\n".join(lines)


def _sums(seconds: Mapping[Place, float], name: Callable[[Place], str]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for place, spent in seconds.items():
        found[name(place)] += spent
    return found


def _table(unit: str, seconds: Mapping[str, float], each: float) -> list[str]:
    """The dearest rows, dearest first; `each` is the whole in microseconds."""
    whole = sum(seconds.values())
    rows = sorted(seconds.items(), key=lambda row: -row[1])
    return [
        f"| | CPU µs per {unit} | share |",
        "|---|---|---|",
        *(f"| {text} | {spent / whole * each:.1f} | {spent / whole:.1%} |" for text, spent in rows[:TOP]),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write or print; 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.owners", usage=__doc__)
    parser.add_argument("of", nargs="?", choices=SUBJECTS, default="token")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args(arguments)
    subject = SUBJECTS[options.of]
    command = f"python -m tests.benchmarks.owners {options.of} --seconds {options.seconds:g}"
    text = report(options.of, measure(subject, options.seconds), command)
    if options.no_page:
        print(text)
    else:
        page.write(subject.section, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
