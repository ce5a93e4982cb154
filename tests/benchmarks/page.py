"""specs/reliability.md: its figures are written between markers, none by hand."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

from tests import shared

PAGE = shared.CHECKOUT / "specs" / "reliability.md"


def write(name: str, text: str) -> None:
    """Put `text` between the markers of that name on the page."""
    put(PAGE, name, text)


def put(page: Path, name: str, text: str) -> None:
    """Put `text` between the markers of that name on `page`; SystemExit where it has none."""
    begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{page.name} has no markers for {name}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def conditions(command: str) -> list[str]:
    """Return the lines that say on what, with what and when it was measured."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return [
        f"- {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release().partition('-')[0]}, CPython {platform.python_version()}; service, provider and clients "
        "on the same cores",
        f"- sluicegate: commit {_commit()}",
        f"- command: `{command}`, {time.strftime('%Y-%m-%d')}; load average at the end {os.getloadavg()[0]:.1f}",
    ]


def _commit() -> str:
    commit = _git("rev-parse", "--short", "HEAD")
    return f"{commit} with uncommitted changes" if _git("status", "--porcelain", "--", "src") else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(shared.CHECKOUT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
