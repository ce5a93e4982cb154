"""Readers that stop reading: `python -m tests.benchmarks.stalled [--readers 500] [--rounds 3] [--write]`.

A real `sluicegate serve` with its default options, but for what concerns runs without a reader. Here its provider,
which sends 2 MiB replies as fast as they are taken, and its clients. In each round the first token of new clients is
timed, then so many readers stop reading behind the head of their response, then the first token of new clients is timed
again. In the last round the readers asked for `detach`: they wait until they are cut off, come back with
`Last-Event-ID`, and must get every byte. Fails if a reader costs more memory than its bound, if new clients wait more
than twice as long, or if a byte is missing. `--write` puts the figures into specs/reliability.md.
"""

import argparse
import math
import re
import statistics
import sys
from pathlib import Path
from typing import Final, NamedTuple

import trio

from sluicegate.runtime.options import RunOptions
from sluicegate.server.options import ServerOptions
from tests.benchmarks import page
from tests.benchmarks.faulty_provider import Plan, Provider, running_provider
from tests.benchmarks.links import linked
from tests.benchmarks.processes import resident, serving
from tests.benchmarks.stalling import JSON, Stalled, bound, wait_steady

KIB: Final = 1024
REPLY: Final = (512, 4096)  # words and their size: 2 MiB
SLOWER: Final = 2.0  # times that new clients may wait beside stalled readers
LATE: Final = 5.0  # seconds that the cut may be late by on a busy machine
AT_ONCE: Final = 50  # readers that come at the same time
PAGE_SIZE: Final = 4096
# The runs go on to their end while their readers are away, all at once: they are kept, and have time to be asked for.
SETTINGS: Final = {"kept_runs": 10_000, "kept_bytes": 4 * KIB * KIB * KIB, "grace_seconds": 200}


class Round(NamedTuple):
    """Seconds until the first token, without and beside stalled readers; bytes in the service and in the system."""

    calm: list[float]
    beside: list[float]
    memory: int
    kernel: int


class Bench:
    def __init__(self, options: argparse.Namespace, provider: Provider, pid: int, port: int) -> None:
        self.rounds: list[Round] = []
        self.stalled = Stalled(port)
        self._options = options
        self._provider = provider
        self._pid = pid
        self._port = port
        self._numbers = 0

    async def run(self) -> None:
        """Measure; raises Broken if what a reader gets is not the run's log."""
        await self._probe()
        for number in range(self._options.rounds):
            calm = await self._probe()
            self.stalled = Stalled(self._port)
            base, kernel = resident(self._pid), kernel_memory()
            last = number == self._options.rounds - 1
            async with trio.open_nursery() as nursery:
                await self._stall(nursery, last)
                await wait_steady(self._provider)
                memory, system = resident(self._pid) - base, kernel_memory() - kernel
                self.rounds.append(Round(calm, await self._probe(), memory, system))
                if last:
                    await trio.sleep(ServerOptions().write_seconds + LATE)
                self.stalled.read_on()
            await self._until_idle()

    async def _stall(self, nursery: trio.Nursery, last: bool) -> None:
        role = self.stalled.come_back if last else self.stalled.leave
        async with trio.open_nursery() as opening:
            gate = trio.CapacityLimiter(AT_ONCE)

            async def start() -> None:
                async with gate:
                    await nursery.start(role, self._plan(*REPLY))

            for _ in range(self._options.readers):
                opening.start_soon(start)

    async def _probe(self) -> list[float]:
        """Time the first token of new clients, one after another."""
        return [await self._first_token() for _ in range(self._options.probes)]

    async def _first_token(self) -> float:
        began = trio.current_time()
        async with linked(self._port) as link:
            await link.ask("POST", "/chat", JSON, self._plan(3, 12).body())
            heard = b""
            while b'"content"' not in heard:
                heard += await link.read()
            took = trio.current_time() - began
            while await link.read():
                pass
        return took

    def _plan(self, words: int, size: int) -> Plan:
        self._numbers += 1
        return Plan(self._numbers, words, size=size)

    async def _until_idle(self) -> None:
        while self._provider.exchanges:  # noqa: ASYNC110  # sockets that close by themselves
            await trio.sleep(0.1)


def kernel_memory() -> int:
    """Return the bytes that the system holds for TCP, of all connections."""
    found = re.search(r"TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text())
    return int(found[1]) * PAGE_SIZE if found else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stalled")
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--probes", type=int, default=200, help="new clients in each condition of a round")
    parser.add_argument("--write", action="store_true", help="write the figures into specs/reliability.md")
    options = parser.parse_args(arguments)

    async def run() -> Bench:
        async with running_provider() as provider:
            with serving(provider.port, **SETTINGS) as (service, port):
                bench = Bench(options, provider, service.pid, port)
                await bench.run()
        return bench

    figures, kept = report(options, trio.run(run))
    print(figures)
    if options.write and kept:
        page.write("stalled", figures)
    return 0 if kept else 1


def report(options: argparse.Namespace, bench: Bench) -> tuple[str, bool]:
    """Return the figures as Markdown, and whether all promises were kept."""
    server, run, readers = ServerOptions(), RunOptions(), options.readers
    memory = max(found.memory for found in bench.rounds) / readers
    kernel = max(found.kernel for found in bench.rounds) / readers
    most = bound(run, server)
    seen = bench.stalled.seen
    times = {
        name: [_at([getattr(found, side) for found in bench.rounds], share) for side in ("calm", "beside")]
        for name, share in (("median", 0.5), ("99th percentile", 0.99))
    }
    kept = (
        memory <= most
        and seen["cut off"] == seen["complete"] == readers
        and all(beside <= SLOWER * calm for calm, beside in times.values())
    )
    lines = [
        *page.conditions(f"python -m tests.benchmarks.stalled --readers {readers} --rounds {options.rounds} "
                         f"--probes {options.probes} --write"),
        f"- {readers} readers of {REPLY[0] * REPLY[1] // KIB} KiB each that stop behind the head, over HTTP/1.1: "
        f"{memory / KIB:.0f} KiB of memory each in the service (bound {most / KIB:.0f} KiB: twice the room of the log "
        f"and all buffers, and an open stream), {kernel / KIB:.0f} KiB each in the system's TCP buffers of all ends",
        f"- settings: {', '.join(f'`--set {name}={value}`' for name, value in SETTINGS.items())}; else the defaults",
        f"- cut off {server.write_seconds:g} s after they stopped: {seen['cut off']} of {readers}; back with "
        f"`Last-Event-ID`, every byte there: {seen['complete']} of {readers}",
        "",
        f"| first token of a new client, {options.rounds} x {options.probes} each | nobody else | beside {readers} "
        f"stalled readers | ratio (goal: up to {SLOWER:g}) |",
        "|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {name} | {calm * 1e3:.1f} ms | {beside * 1e3:.1f} ms | {beside / calm:.2f} |"
        for name, (calm, beside) in times.items()
    ]
    return "\n".join(lines), kept


def _at(rounds: list[list[float]], share: float) -> float:
    """The quantile of each round, of these the median."""
    return statistics.median(sorted(times)[math.ceil(share * len(times)) - 1] for times in rounds)


if __name__ == "__main__":
    sys.exit(main())
