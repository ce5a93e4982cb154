"""What /proc tells about process trees and about the machine."""

import os
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Ticks(NamedTuple):
    """CPU time of the machine since it started, in ticks: all of it, idle, and stolen by its host."""

    all: int
    idle: int
    stolen: int


def tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants that are there; a process that ends meanwhile is left out."""
    found = [pid]
    try:
        for task in (PROC / str(pid) / "task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    except OSError:
        pass
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that the threads of the tree have spent, from schedstat: nanoseconds, not ticks."""
    spent = 0
    for process in tree(pid):
        try:
            for task in (PROC / str(process) / "task").iterdir():
                spent += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return spent / 1e9


def anonymous_kib(pid: int) -> int:
    """Return the resident anonymous memory of the tree: no files, no shared libraries."""
    return _status(pid, "RssAnon")


def resident_kib(pid: int) -> int:
    """Return the resident memory of the tree; pages that its processes share count for each."""
    return _status(pid, "VmRSS")


def ticks() -> Ticks:
    """Return the machine's CPU time."""
    fields = [int(field) for field in (PROC / "stat").read_text().partition("\n")[0].split()[1:]]
    return Ticks(sum(fields), fields[3], fields[7])


def load_average() -> float:
    """Return the load average over a minute."""
    return os.getloadavg()[0]


def _status(pid: int, name: str) -> int:
    total = 0
    for process in tree(pid):
        try:
            lines = (PROC / str(process) / "status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
    return total
