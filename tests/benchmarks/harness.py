"""The programs of the yardstick's harness for other measurements: provider and clients, built where they are needed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from .yardstick.installing import HARNESS, TOOLS
from .yardstick.provider import Provider, running


@contextmanager
def harness() -> Iterator[tuple[Provider, Path, Path]]:
    """Build both, run the provider; yields it, the program of the clients, and a scratch folder."""
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        for tool in ("upstream", "load"):
            command: list[str | Path] = ["gcc", "-O2", "-o", scratch / tool, HARNESS / f"{tool}.c", *TOOLS[tool]]
            subprocess.run(command, check=True)
        with running(scratch / "upstream", scratch) as provider:
            yield provider, scratch / "load", scratch
