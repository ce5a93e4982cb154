"""The split law on the whole path: how the provider's bytes are cut into reads says nothing to anybody.

For all recorded streams, from bytes to the native wire, the events, the history and the usage: every cut into two of
the small streams, and cuts into two around the blank lines of the larger ones; byte by byte; and any cuts at all.

What the machine and the wire do is a function of the deltas that each read brings, so a cut that brings the same
deltas as the cut before it need not be run again.
"""

import math
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.laws import byte_by_byte, chunkings, near_boundaries, splits2
from tests.path import path, recorded
from tests.path.conftest import Tally
from tests.path.recorded import SMALL

pytestmark = pytest.mark.sweep

LONG = 64 * 1024
"""Of streams of at least this many bytes only some blank lines are cut around: the cost is quadratic."""
BOUNDARIES_OF_LONG = 25
EXAMPLES = 30
FLOORS = {"2-splits": 380_000, "k-splits": 8_000, "byte by byte": 400}


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


@pytest.mark.parametrize("key", recorded.sized(0, SMALL))
def test_every_cut_into_two(key: str, tally: Tally) -> None:
    stream = recorded.load(key)
    data = stream.read()
    count = check(stream.dialect, data, splits2(data))
    assert count == len(data) - 1
    tally("2-splits at every byte", count)


def boundaries(data: bytes) -> list[int]:
    found = near_boundaries(data)
    if len(data) < LONG:
        return found
    ends = near_boundaries(data, around=0)
    kept = set(ends[:: math.ceil(len(ends) / BOUNDARIES_OF_LONG)])
    return [cut for cut in found if any(cut + shift in kept for shift in range(-2, 3))]


@pytest.mark.parametrize("key", recorded.sized(SMALL, math.inf))
def test_cuts_into_two_around_blank_lines(key: str, tally: Tally) -> None:
    stream = recorded.load(key)
    data = stream.read()
    cuts = boundaries(data)
    assert len(cuts) >= 10
    tally("2-splits around blank lines", check(stream.dialect, data, splits2(data, cuts)))


@pytest.mark.parametrize("key", recorded.keys())
def test_byte_by_byte(key: str, tally: Tally) -> None:
    stream = recorded.load(key)
    data = stream.read()
    tally("byte by byte", check(stream.dialect, data, [byte_by_byte(data)]))


@pytest.mark.parametrize("key", recorded.sized(SMALL, math.inf))
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, print_blob=True,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])  # fmt: skip
@given(choice=st.data())
def test_any_cuts(key: str, choice: st.DataObject) -> None:
    """Shrinks to few cuts; the note is the way back: `pieces(data, cuts)`."""
    stream = recorded.load(key)
    data = stream.read()
    reads = choice.draw(chunkings(data))
    note(f"{key}: {[len(read) for read in reads]}")
    check(stream.dialect, data, [reads])


def test_floors() -> None:
    """The tests above check that they try all that is counted here."""
    small, large = recorded.lengths(0, SMALL), recorded.lengths(SMALL, math.inf)
    assert sum(small) - len(small) >= FLOORS["2-splits"]
    assert len(large) * EXAMPLES >= FLOORS["k-splits"]
    assert len(small) + len(large) >= FLOORS["byte by byte"]


