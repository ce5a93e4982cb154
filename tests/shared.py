"""Finds the shared folder of recorded streams and vectors, which is not part of the project and never committed.

It is named by the environment variable SLUICEGATE_SHARED, by default `../shared` beside the checkout. A test that needs
it calls `require`: without the folder the test is skipped, saying so; in CI (the variable CI is set) it fails.
"""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def root() -> Path:
    """Where the shared folder should be; it need not exist."""
    named = os.environ.get("SLUICEGATE_SHARED")
    return Path(named) if named else CHECKOUT.parent / "shared"


def require(path: str) -> Path:
    """Returns the file or folder `path` of the shared folder; skips the test where it is absent, in CI fails it."""
    found = root() / path
    if found.exists():
        return found
    reason = f"shared data not found: {path} (set SLUICEGATE_SHARED to the folder that holds it)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@dataclass(frozen=True)
class Stream:
    """One recorded provider reply; `about` is its parsed JSON, see the shared corpus README for its fields."""

    dialect: str
    name: str
    path: Path
    about: dict[str, Any]

    @property
    def expected(self) -> dict[str, Any]:
        found: dict[str, Any] = self.about["expected"]
        return found

    @property
    def contested(self) -> bool:
        return bool(self.about["contested"])

    def read(self) -> bytes:
        return self.path.read_bytes()


def streams(dialect: str | None = None) -> list[Stream]:
    """Every recorded stream, or those of one dialect, ordered by name. Call it inside a test: it may skip."""
    return [stream for stream in _load(require("corpus/streams")) if dialect in (None, stream.dialect)]


@functools.cache
def _load(folder: Path) -> tuple[Stream, ...]:
    return tuple(
        Stream(path.parent.name, path.stem, path, json.loads(path.with_suffix(".json").read_bytes()))
        for path in sorted(folder.glob("*/*.sse"))
    )


def vectors(path: str) -> list[dict[str, Any]]:
    """The objects of one JSON Lines file of the shared folder. Call it inside a test: it may skip."""
    return [json.loads(line) for line in require(path).read_bytes().splitlines()]
