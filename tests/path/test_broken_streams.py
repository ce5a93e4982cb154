"""Bytes and events that no provider should send: whatever comes, the run ends, once, in order and in linear time.

Every recorded stream is damaged many times: bits flipped, bytes dropped, doubled and swapped, and events repeated,
swapped, left out and misnumbered. Seeded by the stream's name: a failure prints the damage, and it happens again.
"""

import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import pytest

from tests.laws import pieces
from tests.path import path, recorded
from tests.path.brackets import check_brackets

pytestmark = pytest.mark.sweep

# How many damages a stream of at least so many bytes gets.
SHARES: Final = {65536: 25, 16384: 40, 4096: 110, 0: 420}
FLOORS: Final = {"bytes": 100_000, "events": 1_500}
MEASURED_EVERY: Final = 50

Damage = Callable[[random.Random, bytearray], str]


def flip(chance: random.Random, data: bytearray) -> str:
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    data[at] ^= 1 << bit
    return f"bit {bit} of {at} flipped"


def drop(chance: random.Random, data: bytearray) -> str:
    at = chance.randrange(len(data))
    del data[at]
    return f"{at} dropped"


def double(chance: random.Random, data: bytearray) -> str:
    at = chance.randrange(len(data))
    data.insert(at, data[at])
    return f"{at} doubled"


def swap(chance: random.Random, data: bytearray) -> str:
    at = chance.randrange(len(data) - 1)
    data[at], data[at + 1] = data[at + 1], data[at]
    return f"{at} swapped with the next"


DAMAGES: Final[tuple[Damage, ...]] = (flip, drop, double, swap)


def share(size: int) -> int:
    return next(count for least, count in SHARES.items() if size >= least)


def check(dialect: str, reads: list[bytes]) -> path.Walk:
    """The laws of every run: nothing raises, one terminal event, last, on the wire too; parts are bracketed."""
    walk = path.walk(dialect, reads)
    check_brackets(walk.events)
    path.frames_of(walk.wire)
    return walk


def calls_made(dialect: str, reads: list[bytes]) -> int:
    """How many functions, of Python and of C, are called for `reads`: a clock that all computers agree on."""
    count = 0

    def see(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        path.walk(dialect, reads)
    finally:
        sys.setprofile(before)
    return count


@recorded.each()
def test_damaged_bytes(key: str) -> None:
    stream = recorded.load(key)
    whole = stream.read()
    chance = random.Random(key)
    for number in range(share(len(whole))):
        data = bytearray(whole)
        # One damage may hide another, so most streams get one only.
        done = [chance.choice(DAMAGES)(chance, data) for _ in range(chance.choice((1, 1, 1, 2, 8)))]
        damaged = bytes(data)
        cuts = sorted(chance.randrange(len(damaged)) for _ in range(chance.randrange(3)))
        try:
            check(stream.dialect, pieces(damaged, cuts))
            if number % MEASURED_EVERY == 0:
                assert calls_made(stream.dialect, [damaged]) <= len(damaged) + 2000, "more work than bytes"
        except Exception as error:
            error.add_note(f"REPRO {key}: {', '.join(done)}; cut at {cuts}")
            raise


# -- events -----------------------------------------------------------------------------------------------------------

_INDEX: Final = re.compile(rb'"((?:output_|content_|summary_)?index)":\s*(\d+)')


@dataclass
class Events:
    """A stream as its blocks; `at` is where the damage goes."""

    blocks: list[bytes]
    at: int

    def repeat(self, _chance: random.Random) -> None:
        self.blocks.insert(self.at, self.blocks[self.at])

    def exchange(self, _chance: random.Random) -> None:
        at = min(self.at, len(self.blocks) - 2)
        self.blocks[at : at + 2] = reversed(self.blocks[at : at + 2])

    def leave_out(self, _chance: random.Random) -> None:
        del self.blocks[self.at]

    def misnumber(self, chance: random.Random) -> None:
        """Change an index of the block, or of the next one that has any; a stream without gets one more of a block."""
        numbered = [at for at, block in enumerate(self.blocks) if _INDEX.search(block)]
        if not numbered:
            self.repeat(chance)
            return
        at = next((at for at in numbered if at >= self.at), numbered[-1])
        found = chance.choice(list(_INDEX.finditer(self.blocks[at])))
        wrong = chance.choice((b"%d" % (int(found[2]) + 1), b"0", b"99", b"-1", b"null", b'"1"'))
        self.blocks[at] = b"".join((self.blocks[at][: found.start(2)], wrong, self.blocks[at][found.end(2) :]))


WAYS: Final = (Events.repeat, Events.exchange, Events.leave_out, Events.misnumber)


@recorded.each()
def test_damaged_events(key: str) -> None:
    """As above, and however the damaged stream is cut into reads, it gives the same."""
    stream = recorded.load(key)
    whole = [block for block in stream.read().split(b"\n\n") if block.strip()]
    chance = random.Random(key)
    for way in WAYS:
        events = Events(list(whole), chance.randrange(len(whole)))
        way(events, chance)
        data = b"".join(block + b"\n\n" for block in events.blocks)
        cuts = sorted(chance.randrange(len(data)) for _ in range(8)) if data else []
        try:
            assert check(stream.dialect, pieces(data, cuts)).said() == check(stream.dialect, [data]).said()
        except Exception as error:
            error.add_note(f"REPRO {key}: {way.__name__} event {events.at}; cut at {cuts}")
            raise


def test_floors(note: Callable[[str], None]) -> None:
    """The tests above try all that is counted here."""
    sizes = recorded.lengths()
    counts = {"bytes": sum(map(share, sizes)), "events": len(sizes) * len(WAYS)}
    note(f"whole path, damaged streams: {counts}")
    assert {law: count for law, count in counts.items() if count < FLOORS[law]} == {}
