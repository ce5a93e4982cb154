"""More runs than can be carried: `python -m tests.benchmarks.goodput --rounds 3`.

Three processes on loopback: the yardstick's provider and clients, and between them `sluicegate serve` of this checkout.
First what the service does for clients that wait for one another, then open loops at shares of that: runs that come
whether others have ended or not. With the limit on lateness and without it, in turns. A run is good if it is whole, its
first token came within a second and no gap was long. Needs gcc and OpenSSL's headers.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.processes import serving
from tests.benchmarks.yardstick import provider
from tests.benchmarks.yardstick.crowds import LOADS, goodput
from tests.benchmarks.yardstick.installing import HARNESS, TOOLS
from tests.benchmarks.yardstick.service import Service
from tests.benchmarks.yardstick.targets import TARGETS

LIMITS: dict[str, dict[str, float]] = {"with the limit": {}, "without": {"max_lateness_seconds": float("inf")}}
COLUMNS = ("", "_refused", "_late", "_failed", "_ttft_p99", "_refused_p99", "_util")
TITLES = ("good runs/s", "refused/s", "late/s", "failed/s", "first token p99 ms", "refusal p99 ms", "CPU")
ENOUGH = 0.9  # of the peak, at twice the load


def main() -> int:
    """Run the benchmark; 1 if the goodput at twice the load is less than it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.goodput")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in LIMITS}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for tool in ("upstream", "load"):
            command = ["gcc", "-O2", "-o", str(scratch / tool), str(HARNESS / f"{tool}.c"), *TOOLS[tool]]
            subprocess.run(command, check=True)
        with provider.running(scratch / "upstream", scratch) as upstream:
            for number in range(options.rounds):
                for name, settings in LIMITS.items():
                    print(f"round {number + 1}, {name}", file=sys.stderr, flush=True)
                    with serving(upstream.port, subprocess.DEVNULL, **settings) as (process, port):
                        service = Service(TARGETS["sluicegate"], process.pid, port, scratch / "load", scratch)
                        figures = goodput(service, upstream)
                    figures |= _shares(figures)
                    for metric, value in figures.items():
                        found[name][metric].append(value)
    print("\n".join(_table(found)))
    return 0 if statistics.median(found["with the limit"]["share_2"]) >= ENOUGH else 1


def _shares(figures: dict[str, float]) -> dict[str, float]:
    """Goodput at each load as a share of the best in the same round."""
    peak = max(figures[f"goodput_{load:g}"] for load in LOADS) or 1.0
    return {f"share_{load:g}": figures[f"goodput_{load:g}"] / peak for load in LOADS}


def _table(found: dict[str, dict[str, list[float]]]) -> list[str]:
    lines = ["| limit | load | " + " | ".join(TITLES) + " | of the peak |", "|---" * (len(TITLES) + 3) + "|"]
    for name, metrics in found.items():
        for load in LOADS:
            cells = [_spread(metrics[f"goodput_{load:g}{column}"]) for column in COLUMNS]
            lines.append(f"| {name} | {load:g} x | {' | '.join(cells)} | {_spread(metrics[f'share_{load:g}'])} |")
    return lines


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
