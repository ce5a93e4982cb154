"""The split law as one helper: how bytes are cut into reads never changes what a decoder returns.

`check_split_law` turns any decoder test into a chunk-boundary test; the other functions make the cuts, for tests that
choose them. A cut list is what a failure prints: `pieces(data, cuts)` makes the same reads again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

from hypothesis import strategies as st

D = TypeVar("D")
T = TypeVar("T")


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cuts `data` at the ascending offsets `cuts`; an offset given twice makes an empty read."""
    return [data[start:stop] for start, stop in pairwise((0, *cuts, len(data)))]


def splits2(data: bytes, at: Iterable[int] | None = None) -> Iterator[list[bytes]]:
    """Every cut of `data` into two non-empty reads, or only those at the offsets `at`."""
    for cut in range(1, len(data)) if at is None else at:
        yield [data[:cut], data[cut:]]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def near_boundaries(data: bytes, around: int = 2) -> list[int]:
    """The offsets within `around` bytes of each blank line: for streams too long for all their 2-splits."""
    found: set[int] = set()
    end = data.find(b"\n\n")
    while end >= 0:
        found.update(range(end + 2 - around, end + 3 + around))
        end = data.find(b"\n\n", end + 2)
    return sorted(offset for offset in found if 0 < offset < len(data))


def chunkings(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Any way of cutting `data` into reads, empty ones included; shrinks to few cuts, in the end to one read."""
    return st.lists(st.integers(0, len(data)), max_size=12).map(lambda cuts: pieces(data, sorted(cuts)))


def decode(decoder: D, feed: Callable[[D, bytes], Iterable[T]], finish: Callable[[D], Iterable[T]],
           reads: Iterable[bytes]) -> list[T]:  # fmt: skip
    """All that `decoder` returns for `reads` and for the end of input, in order."""
    out: list[T] = []
    for read in reads:
        out.extend(feed(decoder, read))
    out.extend(finish(decoder))
    return out


def check_split_law(
    make_decoder: Callable[[], D],
    feed: Callable[[D, bytes], Iterable[T]],
    finish: Callable[[D], Iterable[T]],
    data: bytes,
    normalise: Callable[[list[T]], object] = list,
    chunkings: Iterable[Sequence[bytes]] | None = None,
) -> list[T]:
    """Decodes `data` whole and cut up, demands equal results after `normalise`, and returns the result of the whole.

    The cuts are every 2-split, byte by byte, and byte by byte with an empty read before each; or those in `chunkings`.
    `feed` and `finish` return what the decoder gave for one read and at the end of input. `normalise` merges what may
    be cut differently (adjacent deltas); its result may include state that `finish` put into the list.
    """
    whole = decode(make_decoder(), feed, finish, [data])
    expected = normalise(whole)
    if chunkings is None:
        singles = byte_by_byte(data)
        chunkings = [*splits2(data), singles, [read for single in singles for read in (b"", single)]]
    for reads in chunkings:
        assert b"".join(reads) == data, "these reads are not this data"
        got = normalise(decode(make_decoder(), feed, finish, reads))
        assert got == expected, f"cut into {[len(read) for read in reads]}: {data!r}"
    return whole
