"""Clients that come and go for a long time: `python -m tests.benchmarks.soak --minutes 2 [--streams 100] [--write]`.

Two processes on loopback: the service (`soak_server`), and here its clients and a provider that paces, fails and hangs
up. Each stream plays one role after the other (`roles`), all drawn from the seed. Fails if a law of the wire breaks for
any client, if memory, tasks, threads or descriptors of the service grow, if anything is left at the end, or if the
service does not stop in time. `--write` puts the figures into specs/reliability.md.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import IO, Final, NamedTuple

import msgspec
import trio

from tests.benchmarks import page
from tests.benchmarks.faulty_provider import Provider, running_provider
from tests.benchmarks.flat import Trend, trend
from tests.benchmarks.links import Lost
from tests.benchmarks.log import Broken
from tests.benchmarks.processes import line, process
from tests.benchmarks.roles import Client
from tests.benchmarks.soak_server import SERVICE, Counts

MIB: Final = 1024 * 1024
INTERVAL: Final = 10.0  # seconds between samples, less in a short soak
SAMPLES: Final = 24  # that there are at least
WARM_UP: Final = 0.5  # of the time; the allocator needs some hundred runs to settle
LONGEST: Final = 120.0  # seconds that a client may take
FIRST: Final = 100  # clients before the service is seen clean
FULL: Final = 20  # long replies after which the service keeps as much of ended runs as it may
QUIET: Final = 30.0  # seconds until nothing is left at the end
LIMITS: Final = {"memory": (0.05, 8 * MIB), "tasks": (0.1, 10), "threads": (0.1, 2), "descriptors": (0.1, 10)}
STOP_SECONDS: Final = SERVICE.drain_seconds + 2.0


class Sample(NamedTuple):
    """Seconds since the start, runs that clients are through with, and what there was in the service."""

    at: float
    runs: int
    counts: Counts


class Soak:
    """The clients. `broken` are the laws that did not hold, in words; `seen` counts what came about."""

    def __init__(self, options: argparse.Namespace, child: "subprocess.Popen[str]", port: int) -> None:
        self.broken: list[str] = []
        self.seen: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self._options = options
        self._child = child
        self._port = port
        self._next = 0

    async def run(self, provider: Provider) -> None:
        """Warm up, keep the streams busy for the time, and see that nothing is left."""
        await self._until_quiet(None)
        async with trio.open_nursery() as nursery:
            for _ in range(FIRST):
                nursery.start_soon(self._one)
        for _ in range(FULL):
            await self._one("fill")
        clean = await self._until_quiet(None)
        began = trio.current_time()
        seconds = self._options.minutes * 60
        async with trio.open_nursery() as nursery:
            for _ in range(self._options.streams):
                nursery.start_soon(self._stream, began + seconds)
            interval = min(INTERVAL, seconds / SAMPLES)
            while trio.current_time() < began + seconds:
                await trio.sleep(interval)
                self.samples.append(Sample(trio.current_time() - began, self.seen["runs"], await self.count()))
                print(msgspec.json.encode(self.samples[-1]).decode(), flush=True)
        left = await self._until_quiet(clean)
        with trio.move_on_after(QUIET):
            while provider.exchanges:  # noqa: ASYNC110  # sockets that close by themselves
                await trio.sleep(0.05)
        if provider.exchanges:
            self.broken.append(f"{provider.exchanges} requests at the provider were never closed")
        if left.intended != left.settled:
            self.broken.append(f"{left.intended} intents, {left.settled} settlements")
        self.seen.update({f"provider: {fault.value}": count for fault, count in provider.faults.items()})

    async def count(self) -> Counts:
        """Ask the service for its counts."""
        assert self._child.stdin is not None
        self._child.stdin.write("?\n")
        self._child.stdin.flush()
        return msgspec.json.decode(await trio.to_thread.run_sync(line, self._child), type=Counts)

    async def _stream(self, until: float) -> None:
        while trio.current_time() < until:
            await self._one()

    async def _one(self, role: str = "") -> None:
        number, self._next = self._next, self._next + 1
        client = Client(self._port, number, self._options.seed, self._options.http2, self.seen, role)
        try:
            with trio.fail_after(LONGEST):
                await client.run()
        except (Broken, Lost, trio.TooSlowError) as error:
            self.broken.append(f"run {number} ({client.role}, {client.plan}): {type(error).__name__}: {error}")
        self.seen["runs"] += 1
        self.seen[f"role {client.role}"] += 1

    async def _until_quiet(self, clean: Counts | None) -> Counts:
        """Wait until no run is live and tasks, threads and descriptors are no more than when `clean`, or for the first
        time: until they stay as they are. Return the counts.
        """
        counts, before = await self.count(), None
        with trio.move_on_after(QUIET):
            while counts.runs or counts.upstreams or _is_more(counts, clean or before):
                await trio.sleep(1.0)
                before, counts = counts, await self.count()
        if counts.runs or counts.upstreams or (clean is not None and _is_more(counts, clean)):
            self.broken.append(f"left behind: {counts}, when clean: {clean}")
        return counts


def _is_more(counts: Counts, clean: Counts | None) -> bool:
    return clean is None or any(
        getattr(counts, name) > getattr(clean, name) for name in ("tasks", "threads", "descriptors")
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the soak; 1 if anything broke or grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--http2", type=float, default=0.2, help="share of the clients that speak HTTP/2")
    parser.add_argument("--write", action="store_true", help="write the figures into specs/reliability.md")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryFile("w+") as errors:
        soak, trends = _soak(options, errors)
        errors.seek(0)
        soak.broken += [f"the service logged: {entry.strip()}" for entry in errors][:20]
    for what in soak.broken[:50]:
        print("BROKEN:", what)
    print(json.dumps({"broken": len(soak.broken), **soak.seen}))
    figures = table(options, soak, trends)
    print(figures)
    if options.write and not soak.broken:
        page.write("soak", figures)
    return 1 if soak.broken else 0


def _soak(options: argparse.Namespace, errors: IO[str]) -> tuple[Soak, dict[str, Trend]]:
    async def run() -> Soak:
        async with running_provider() as provider:
            command = [sys.executable, "-m", "tests.benchmarks.soak_server", str(provider.port)]
            with process(command, os.environ, errors.fileno()) as child:
                soak = Soak(options, child, int(line(child)))
                await soak.run(provider)
                await _stop(soak, child)
        return soak

    soak = trio.run(run)
    used = soak.samples[int(WARM_UP * len(soak.samples)) :]
    times = [sample.at for sample in used]
    trends = {name: trend(times, [getattr(sample.counts, name) for sample in used]) for name in LIMITS}
    grown = [name for name, limits in LIMITS.items() if not trends[name].is_flat(*limits)]
    soak.broken += [f"{name} grew: {trends[name]}" for name in grown]
    return soak, trends


async def _stop(soak: Soak, child: "subprocess.Popen[str]") -> None:
    """Stop the service: it must be out in time and without a fault."""
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    with trio.move_on_after(STOP_SECONDS + QUIET):
        while child.poll() is None:  # noqa: ASYNC110  # another process
            await trio.sleep(0.02)
    took = time.monotonic() - began
    if child.poll() != 0 or took > STOP_SECONDS:
        soak.broken.append(f"the service ended {took:.1f} s after SIGTERM with {child.poll()}")


def table(options: argparse.Namespace, soak: Soak, trends: dict[str, Trend]) -> str:
    """Return the figures as Markdown."""
    seen, last = soak.seen, soak.samples[-1]
    lines = [
        *page.conditions(f"python -m tests.benchmarks.soak --minutes {options.minutes:g} --streams {options.streams} "
                         f"--seed {options.seed} --http2 {options.http2:g} --write"),
        f"- {seen['runs']} runs ({seen['over HTTP/2']} over HTTP/2): {seen['done']} done, {seen['failed']} failed as "
        f"planned, {seen['cancelled']} cancelled, {seen['refused']} refused by status; {seen['cut off']} stalled "
        f"readers cut off and back; {seen['read again']} logs read a second time; {len(soak.broken)} laws broken",
        f"- CPU of the service {last.counts.cpu / last.at:.0%} of a core; {len(soak.samples)} samples, "
        f"the first {WARM_UP:.0%} of them left out below",
        "",
        "| | median | least | most | growth over the time (median slope) | allowed |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, found in trends.items():
        share, least = LIMITS[name]
        allowed = max(share * found.median, least)
        cells = (found.median, found.least, found.most, found.growth, allowed)
        lines.append(f"| {name} | " + " | ".join(_show(name, value) for value in cells) + " |")
    return "\n".join(lines)


def _show(name: str, value: float) -> str:
    return f"{value / MIB:.1f} MiB" if name == "memory" else f"{value:.0f}"


if __name__ == "__main__":
    sys.exit(main())
