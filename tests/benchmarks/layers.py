"""What a short request costs, layer by layer: `python -m tests.benchmarks.layers [--rounds 11] [--no-page]`.

Each layer is a process that serves the same reply of two tokens, and all of what the layers before it have. Provider
and clients are those of the yardstick, in processes of their own. In each round every layer is asked for a while, in an
order that rotates; CPU by 8 clients at once, the time until the first token by one client alone.

Writes specs/performance.md, or prints. Needs gcc and OpenSSL's headers.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from .harness import harness
from .layered import LAYERS
from .yardstick import page, proc
from .yardstick.provider import HOST, STOP_SECONDS
from .yardstick.results import OURS
from .yardstick.service import Asked, Service
from .yardstick.targets import TARGETS

CLIENTS = 8
MODEL = "bench-n2-d0-b1"
BUSY = Asked(MODEL, CLIENTS, 1_000_000, 1.0)
WARM_UP = Asked(MODEL, CLIENTS, 200, 10.0)
LONE = Asked(MODEL, 1, 100, 10.0)


class Sample(NamedTuple):
    """Of one layer in one round: CPU milliseconds for each request, and until the first token, median."""

    cpu: float
    first: float


@contextmanager
def serving(layer: str, provider_port: int, load: Path, scratch: Path) -> Iterator[Service]:
    """Run the layer as long as the context lasts."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
    env |= {"OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": f"http://{HOST}:{provider_port}/v1"}
    command = [sys.executable, "-m", "tests.benchmarks.layered", layer]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        try:
            assert child.stdout is not None
            port = int(child.stdout.readline())
            yield Service(TARGETS[OURS], child.pid, port, load, scratch)
        finally:
            child.terminate()
            child.wait(STOP_SECONDS)


def measure(rounds: int) -> dict[str, list[Sample]]:
    """Return the samples of each layer, round by round."""
    found: dict[str, list[Sample]] = defaultdict(list)
    with harness() as (provider, load, scratch), ExitStack() as stack:
        services = {layer: stack.enter_context(serving(layer, provider.port, load, scratch)) for layer in LAYERS}
        for service in services.values():
            service.load(WARM_UP)
        layers = list(LAYERS)
        for number in range(rounds):
            for layer in layers[number % len(layers) :] + layers[: number % len(layers)]:
                found[layer].append(_sample(services[layer]))
    return found


def _sample(service: Service) -> Sample:
    busy, spent = service.load(BUSY)
    lone, _ = service.load(LONE)
    if busy.errors or lone.errors or not busy.ok:
        raise SystemExit(f"layers: {busy.errors + lone.errors} requests failed")
    return Sample(spent / busy.ok * 1e3, lone.ttft_ms.p50)


def report(found: Mapping[str, list[Sample]], command: str) -> str:
    """Return conditions and table in Markdown: of each layer what it adds, within the same round."""
    rounds = len(next(iter(found.values())))
    here = page.conditions(sys.executable, (), {}, command, rounds)
    lines = [
        f"- machine: {here.machine}; the load generator and the provider run on the same cores; load average "
        f"at the end {proc.load_average():.1f}",
        f"- {here.python}; sluicegate: commit {here.commit}",
        f"- command: `{command}`, {here.date}, {rounds} interleaved rounds; what a layer adds within a "
        "round: median (least–most)",
        "",
        f"| layer | CPU ms per request, {CLIENTS} clients | it adds | first token ms, one client | it adds |",
        "|---|---|---|---|---|",
    ]
    below = [Sample(0.0, 0.0)] * rounds
    for layer, samples in found.items():
        cells = [layer]
        for whole, base in (
            ([sample.cpu for sample in samples], [sample.cpu for sample in below]),
            ([sample.first for sample in samples], [sample.first for sample in below]),
        ):
            added = [here - there for here, there in zip(whole, base, strict=True)]
            cells.append(f"{statistics.median(whole):.2f}")
            cells.append(f"{statistics.median(added):.2f} ({min(added):.2f}–{max(added):.2f})")
        lines.append(f"| {' | '.join(cells)} |")
        below = samples
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write or print; 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.layers", usage=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args(arguments)
    text = report(measure(options.rounds), f"python -m tests.benchmarks.layers --rounds {options.rounds}")
    if options.no_page:
        print(text)
    else:
        page.write("layers", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
