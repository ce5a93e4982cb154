"""The split law on the whole path: how the provider's bytes are cut into reads says nothing to anybody.

For all recorded streams, from bytes to the native wire, the events, the history and the usage: every cut into two of
the small streams, and cuts into two around the blank lines of the larger ones; byte by byte; and any cuts at all.

What the machine and the wire do is a function of the deltas that each read brings, so a cut that brings the same
deltas as the cut before it need not be run again.
"""

import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings

from tests.laws import byte_by_byte, chunkings, near_boundaries, splits2
from tests.path import path, recorded
from tests.path.recorded import SMALL

pytestmark = pytest.mark.sweep

LONG = 64 * 1024
"""Of streams of at least this many bytes only some blank lines are cut around: the cost is quadratic."""
BOUNDARIES_OF_LONG = 25
EXAMPLES = 30
FLOORS = {"2-splits": 435_000, "k-splits": 8_000, "byte by byte": 400}


def check(dialect: str, data: bytes, cuttings: Iterable[list[bytes]]) -> int:
    """Demands that every cutting of `data` gives what the whole gives; returns their number."""
    whole = path.walk(dialect, [data]).said()
    last: path.Reads = []
    count = 0
    for reads in cuttings:
        count += 1
        brought = path.decode(dialect, reads)
        if brought != last:
            assert path.run(dialect, brought).said() == whole, f"cut into {[len(read) for read in reads]}"
            last = brought
    return count


@recorded.each(below=SMALL)
def test_every_cut_into_two(key: str) -> None:
    stream = recorded.load(key)
    data = stream.read()
    assert check(stream.dialect, data, splits2(data)) == len(data) - 1


def boundaries(data: bytes) -> list[int]:
    found = near_boundaries(data)
    if len(data) < LONG:
        return found
    ends = near_boundaries(data, around=0)
    kept = set(ends[:: math.ceil(len(ends) / BOUNDARIES_OF_LONG)])
    return [cut for cut in found if any(cut + shift in kept for shift in range(-2, 3))]


@recorded.each(SMALL)
def test_cuts_into_two_around_blank_lines(key: str) -> None:
    stream = recorded.load(key)
    data = stream.read()
    cuts = boundaries(data)
    assert check(stream.dialect, data, splits2(data, cuts)) == len(cuts)


@recorded.each()
def test_byte_by_byte(key: str) -> None:
    stream = recorded.load(key)
    data = stream.read()
    assert check(stream.dialect, data, [byte_by_byte(data)]) == 1


@recorded.each(SMALL)
def test_any_cuts(key: str) -> None:
    """A failure shrinks to few cuts and prints them as `pieces(data, cuts)`, which makes the same reads again."""
    stream = recorded.load(key)
    data = stream.read()
    tried = 0

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(reads=chunkings(data))
    def law(reads: list[bytes]) -> None:
        nonlocal tried
        tried += check(stream.dialect, data, [reads])

    law()
    assert tried >= EXAMPLES


def test_floors(note: Callable[[str], None]) -> None:
    """The tests above check that they try all that is counted here."""
    small, large = recorded.lengths(below=SMALL), recorded.names(SMALL)
    counts = {
        "2-splits": sum(small) - len(small) + sum(len(boundaries(recorded.load(key).read())) for key in large),
        "k-splits": len(large) * EXAMPLES,
        "byte by byte": len(small) + len(large),
    }
    note(f"whole path, split law: {counts}")
    assert {law: count for law, count in counts.items() if count < FLOORS[law]} == {}
