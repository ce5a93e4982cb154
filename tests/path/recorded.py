"""The recorded streams as test parameters, one test per stream, so that workers share them."""

import math
from typing import Final

import pytest

from tests import shared

SMALL: Final = 4096
"""Streams below this many bytes are cut everywhere, larger ones around their blank lines."""

_ABSENT: Final = "absent"


def names(least: int = 0, below: float = math.inf) -> list[str]:
    """`dialect/name` of the streams of at least `least` and less than `below` bytes. Without the shared folder one that
    `load` skips.
    """
    folder = shared.root() / "corpus" / "streams"
    found = [path for path in folder.glob("*/*.sse") if least <= path.stat().st_size < below]
    return sorted(f"{path.parent.name}/{path.stem}" for path in found) or [_ABSENT]


def each(least: int = 0, below: float = math.inf) -> pytest.MarkDecorator:
    """Parametrizes a test with the `key` of each such stream."""
    found = names(least, below)
    return pytest.mark.parametrize("key", found, ids=found)


def load(key: str) -> shared.Stream:
    """The stream of that key. Skips the test where there are none, in CI fails it."""
    return {f"{stream.dialect}/{stream.name}": stream for stream in shared.streams()}[key]


def lengths(least: int = 0, below: float = math.inf) -> list[int]:
    """The sizes of such streams. Skips the test where there are none, in CI fails it."""
    return [size for stream in shared.streams() if least <= (size := stream.path.stat().st_size) < below]
