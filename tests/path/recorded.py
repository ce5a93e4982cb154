"""The recorded streams as test parameters, one test per stream, so that workers share them."""

from typing import Final

from tests import shared

SMALL: Final = 4096
"""Streams below this many bytes are cut everywhere, larger ones around their blank lines."""

ABSENT: Final = "absent"


def keys(dialect: str = "*") -> list[str]:
    """`dialect/name` of every recorded stream; without the shared folder, one that `load` skips."""
    folder = shared.root() / "corpus" / "streams"
    return sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob(f"{dialect}/*.sse")) or [ABSENT]


def sized(low: int, high: float) -> list[str]:
    """The keys of the streams of at least `low` and less than `high` bytes."""
    folder = shared.root() / "corpus" / "streams"
    found = [key for key in keys() if key != ABSENT and low <= (folder / f"{key}.sse").stat().st_size < high]
    return found or [ABSENT]


def load(key: str) -> shared.Stream:
    """The stream of that key. Skips the test where there are none, in CI fails it."""
    return _by_key()[key]


def lengths(low: int, high: float) -> list[int]:
    """The sizes of the streams of at least `low` and less than `high` bytes."""
    return [size for stream in shared.streams() if low <= (size := stream.path.stat().st_size) < high]


def _by_key() -> dict[str, shared.Stream]:
    return {f"{stream.dialect}/{stream.name}": stream for stream in shared.streams()}
