"""specs/performance.md: its figures are written between markers, none by hand."""

import os
import platform
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from tests import shared

from ..page import put
from .interpreter import about, output
from .results import Conditions, Figures, Noise, Results
from .targets import Target

PAGE = shared.CHECKOUT / "specs" / "performance.md"
BUSY = 1.25  # load average per core; the harness itself keeps a machine of two cores at 0.7 to 1


def write(name: str, text: str) -> None:
    """Put `text` between the markers of that name on the page."""
    put(PAGE, name, text)


def conditions(
    python: str, targets: Sequence[Target], versions: dict[str, str], command: str, rounds: int
) -> Conditions:
    """Return on what is measured, and when."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return Conditions(
        machine=f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release().partition('-')[0]}",
        cores=os.cpu_count() or 1,
        python=about(python),
        commit=_commit(),
        targets=[target.name for target in targets],
        versions=versions,
        command=command,
        date=time.strftime("%Y-%m-%d"),
        rounds=rounds,
    )


def describe(results: Results, figures: Figures) -> list[str]:
    """Return the lines that say on what was measured, how noisy it was, and what failed."""
    found = results.conditions
    lines = [
        f"- machine: {found.machine}; the load generator and the provider run on the same cores",
        f"- sluicegate and Python peers: {found.python}",
        f"- sluicegate: commit {found.commit}; {found.versions['sluicegate']}",
        *(f"- {name}: {versions}" for name, versions in found.versions.items() if name != "sluicegate"),
        f"- command: `{found.command}`, {found.date}, {found.rounds} interleaved rounds; median (least–most), ¹ one "
        "round only",
        *_noise(results.noise, found.cores),
        *(f"- requests that failed or were refused: {failed}" for failed in figures.failed()),
        *(f"- failed: {bad.target}, {bad.scenario}, round {bad.round + 1}: {bad.reason}" for bad in results.failures),
    ]
    return [line.replace("\n", " ") for line in lines]


def _noise(noise: Sequence[Noise], cores: int) -> list[str]:
    if not noise:
        return []
    load, stolen = [entry.load for entry in noise], [entry.stolen for entry in noise]
    lines = [
        f"- noise: load average {statistics.median(load):.1f} (up to {max(load):.1f}), CPU stolen from the virtual "
        f"machine {statistics.median(stolen):.1%} (up to {max(stolen):.1%})"
    ]
    if statistics.median(load) > BUSY * cores:
        lines.append(
            "- **the machine was busy with other work**: tokens then wait and arrive in bunches, which flatters "
            "whoever is slowest; the steady and paced rows do not count"
        )
    return lines


def _commit() -> str:
    commit = output("git", "-C", shared.CHECKOUT, "rev-parse", "--short", "HEAD")
    changed = output("git", "-C", shared.CHECKOUT, "status", "--porcelain", "--", "src")
    return f"{commit} with uncommitted changes" if changed else commit
