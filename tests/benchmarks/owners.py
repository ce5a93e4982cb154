"""Who owns the CPU time of a token: `python -m tests.benchmarks.owners [--seconds 30] [--streams 32] [--no-page]`.

Runs `sluicegate serve` in this process as a user would (spool, one log line per run), provider and clients of the
yardstick in processes of their own, and samples the steady state: no request begins or ends in the window. Before the
window and behind it the CPU time is measured without samples; the shares of the samples are shares of that.

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
from .yardstick import page
from .yardstick.provider import HOST, Provider, free_port
from .yardstick.results import OURS
from .yardstick.service import Asked, Service
from .yardstick.targets import TARGETS

QUIET_SECONDS = 8.0  # measured without samples, before and behind the samples
START_SECONDS = 30.0
SETTLE_SECONDS = 2.0  # from the first request until the streams are steady
PACE_MS = 20
TOP = 25
CLIENTS_MAX = 80.0  # s, what the clients may take
_ROOM = re.compile(r"/sluicegate/(\w+)/")
_PACKAGE = re.compile(r"/site-packages/(\w+)")
# What a line that calls into C spends is the callee's. System calls are named as they are called: on a plain socket.
_CALLEES = (
    (re.compile(r"_epoll\.poll\("), "kernel: epoll_wait"),
    (re.compile(r"_epoll\.(modify|register)\("), "kernel: epoll_ctl"),
    (re.compile(r"_?sock(et)?\.send\("), "kernel: send"),
    (re.compile(r"_?sock(et)?\.recv\("), "kernel: recv"),
    (re.compile(r"\.feed_data\("), "httptools"),
)


class Window(NamedTuple):
    """CPU seconds of the main thread, and tokens that the provider sent meanwhile."""

    spent: float
    tokens: int

    @property
    def each(self) -> float:
        """CPU microseconds for each token."""
        return self.spent / max(1, self.tokens) * 1e6


class Found(NamedTuple):
    """Three windows, and what the samples of the middle one came to."""

    before: Window
    sampled: Window
    behind: Window
    sampler: Sampler
    streams: int


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
    if found := _PACKAGE.search(path):
        return found[1]
    return "standard library"


def function(place: Place) -> str:
    """Return the function and its module, in short."""
    path = place.code.co_filename
    for root in ("/site-packages/", "/src/"):
        path = path.rpartition(root)[2]
    name = f"`{place.code.co_qualname}`, {path.removeprefix('sluicegate/')}"
    callee = owner(place)
    return f"{name}: {callee}" if callee.startswith("kernel") or callee == "httptools" else name


def measure(seconds: float, streams: int) -> Found:
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
                found.append(_windows(service, port, provider, sampler, seconds, streams))
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


def _windows(service: Service, port: int, provider: Provider, sampler: Sampler, seconds: float, streams: int) -> Found:
    _wait_listening(port)
    tokens = round(CLIENTS_MAX / PACE_MS * 1e3)
    asked = Asked(f"bench-n{tokens}-d{PACE_MS}-b1", streams, streams, CLIENTS_MAX, ("--ramp-ms", "700"))
    with service.loading(asked):
        time.sleep(SETTLE_SECONDS)
        if provider.stats().open != streams:
            raise SystemExit("owners: the streams did not begin")
        before = _window(provider, QUIET_SECONDS)
        with sampler.sampling():
            sampled = _window(provider, seconds)
        return Found(before, sampled, _window(provider, QUIET_SECONDS), sampler, streams)


def _wait_listening(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            return socket.create_connection((HOST, port), 1).close()
        except OSError:
            time.sleep(0.1)
    raise SystemExit("owners: the service does not listen")


def _window(provider: Provider, seconds: float) -> Window:
    clock = main_clock()
    tokens, spent = provider.stats().tokens, time.clock_gettime(clock)
    time.sleep(seconds)
    return Window(time.clock_gettime(clock) - spent, provider.stats().tokens - tokens)


def report(found: Found, command: str) -> str:
    """Return conditions and both tables in Markdown."""
    seconds = found.sampler.seconds
    sum_ = sum(seconds.values())
    each = statistics.mean((found.before.each, found.behind.each))
    here = page.conditions(sys.executable, (), {}, command, 1)
    lines = [
        f"- machine: {here.machine}; the load generator and the provider run on the same cores",
        f"- {here.python}; sluicegate: commit {here.commit}; command: `{command}`, {here.date}",
        f"- {found.streams} streams of {1000 // PACE_MS} tokens/s: **{each:.0f} µs of CPU per token** "
        f"({found.before.each:.0f} before the samples, {found.behind.each:.0f} behind them, "
        f"{found.sampled.each:.0f} with them)",
        f"- {found.sampler.samples:,} samples by {found.sampler.timer}; meanwhile "
        f"{found.sampler.collections} garbage collections",
        "",
        *_table("owner", seconds, owner, each / sum_, 0.05),
        "",
        f"The {TOP} dearest functions, without what they call; a system call is a row of its own:",
        "",
        *_table("function", seconds, function, each / sum_, 0)[: TOP + 2],
    ]
    return "\n".join(lines)


def _table(
    title: str, seconds: Mapping[Place, float], name: Callable[[Place], str], scale: float, least: float
) -> list[str]:
    """Rows of what is worth at least so many microseconds per token, dearest first."""
    found: dict[str, float] = defaultdict(float)
    for place, spent in seconds.items():
        found[name(place)] += spent
    whole = sum(found.values())
    rows = sorted(found.items(), key=lambda row: -row[1])
    return [
        f"| {title} | CPU µs per token | share |",
        "|---|---|---|",
        *(f"| {text} | {spent * scale:.1f} | {spent / whole:.1%} |" for text, spent in rows if spent * scale >= least),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write or print; 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.owners", usage=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args(arguments)
    command = f"python -m tests.benchmarks.owners --seconds {options.seconds:g} --streams {options.streams}"
    text = report(measure(options.seconds, options.streams), command)
    if options.no_page:
        print(text)
    else:
        page.write("owners", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
