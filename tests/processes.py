"""The processes of this machine as a test sees them in /proc."""

import os
from pathlib import Path


def of_session(session: int) -> list[int]:
    """Return the live processes of a session. How long orphans remain as zombies is up to process 1."""
    return [pid for pid, fields in _all() if int(fields[3]) == session and fields[0] not in "ZX"]


def children() -> list[int]:
    """Return the children of this process, zombies among them."""
    return [pid for pid, fields in _all() if int(fields[1]) == os.getpid()]


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def _all() -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            found.append((int(entry.name), text.rpartition(")")[2].split()))  # state, parent, group, session, ...
    return found
