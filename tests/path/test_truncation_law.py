"""The truncation law on the whole path: a stream that ends early never looks like one that ended well.

Cut before the last byte of its terminal symbol (`terminal.py` says where that is), a stream gives a prefix of what the
whole gives, then what becomes of the calls that were under way, then one error, marked as truncated. Cut behind it, it
gives what the whole gives; only usage may be estimated, and words after the finish reason may be missing.
"""

import copy
import re
from collections.abc import Callable, Iterator

import pytest

from sluicegate.machine.deltas import Delta
from sluicegate.machine.errors import ErrorCode
from tests.path import path, recorded
from tests.path.path import Frame
from tests.path.recorded import SMALL
from tests.path.terminal import Symbol, Verdict, symbols, verdict

pytestmark = pytest.mark.sweep

FLOORS = {"every byte": 380_000, "around blank lines": 80_000}
AROUND = 2


class Oracle:
    """What each cut of one stream may give."""

    def __init__(self, dialect: str, data: bytes) -> None:
        self.symbols: list[Symbol] = symbols(dialect, data)
        self.data = data
        self.full = path.frames_of(path.walk(dialect, [data]).wire)

    def check(self, cut: int, walk: path.Walk) -> None:
        """Raises AssertionError unless `walk` is what the first `cut` bytes may give."""
        found = path.frames_of(walk.wire)
        said = verdict(self.symbols, cut)
        if said is Verdict.CUT:
            self._check_cut(found)
        elif said is Verdict.FAILED or found == self.full:
            assert found == self.full
        else:
            self._check_answered(found, complete=cut >= self.symbols[-1].at)
            # Two usages in one stream: the first is the provider's word too.
            assert found[-1]["usage"].get("estimated") or b'"prompt_tokens"' in self.data[:cut]

    def _check_cut(self, found: list[Frame]) -> None:
        *said, last = found
        error = last["error"]
        assert (error["code"], error["truncated"]) == (ErrorCode.UPSTREAM_ERROR, True)
        assert last["usage"]["estimated"]
        same = _common(said, self.full)
        if same < len(said) and _is_begun(said[same], self.full[same]):
            same += 1
        calls = _under_way(said[:same])
        for frame in said[same:]:
            (call,) = frame.values()
            assert list(frame) == ["tool_call"]
            assert call["id"] in calls, "a verdict on a call that is not under way"
            calls.remove(call["id"])
            # Whoever hears of complete arguments will never hear of others.
            assert call.get("fault") or frame in self.full, "the arguments of a call that was cut"
        assert not calls, "calls without a verdict"

    def _check_answered(self, found: list[Frame], *, complete: bool) -> None:
        same = _common(found, self.full)
        if not complete:
            # Words after the finish reason: some are missing, what follows them is all there.
            same += same < len(found) and _is_begun(found[same], self.full[same])
            rest = len(found) - same
            assert _without_usage(found[same:]) == _without_usage(self.full[-rest:])
            return
        assert same == len(self.full) - 1
        assert _without_usage(found[same:]) == _without_usage(self.full[same:])


def _common(some: list[Frame], other: list[Frame]) -> int:
    return next((at for at, (a, b) in enumerate(zip(some, other, strict=False)) if a != b), min(len(some), len(other)))


def _is_begun(found: Frame, full: Frame) -> bool:
    """True if `found` is the beginning of the words of `full`."""
    (key, words), (_, all_words) = *found.items(), *full.items()
    if found.keys() != full.keys():
        return False
    if key == "tool_call" and "delta" in words and words["id"] == all_words["id"]:
        words, all_words = words["delta"], all_words.get("delta")
    return isinstance(words, str) and isinstance(all_words, str) and all_words.startswith(words)


def _under_way(frames: list[Frame]) -> set[str]:
    calls: set[str] = set()
    for frame in frames:
        if call := frame.get("tool_call"):
            (calls.discard if "fault" in call or "arguments" in call else calls.add)(call["id"])
    return calls


def _without_usage(frames: list[Frame]) -> list[Frame]:
    return [{key: value for key, value in frame.items() if key != "usage"} for frame in frames]


@recorded.each(below=SMALL)
def test_every_cut(key: str) -> None:
    """One read, cut anywhere."""
    stream = recorded.load(key)
    data, dialect = stream.read(), stream.dialect
    oracle = Oracle(dialect, data)
    last: path.Reads = []
    said = None
    for cut in range(len(data) + 1):
        brought, now = path.decode(dialect, [data[:cut]]), verdict(oracle.symbols, cut)
        # What brings the same deltas gives the same run; the oracle is asked again where its mind has changed.
        if brought != last or now is not said:
            oracle.check(cut, path.run(dialect, brought))
            last, said = brought, now


@recorded.each(SMALL)
def test_cuts_around_blank_lines(key: str) -> None:
    """One event to a read, cut around each blank line."""
    stream = recorded.load(key)
    data = stream.read()
    oracle = Oracle(stream.dialect, data)
    tried = []
    for cut, walk in truncations(stream.dialect, data):
        oracle.check(cut, walk)
        tried.append(cut)
    assert tried == cuts_of(data)


def truncations(dialect: str, data: bytes) -> Iterator[tuple[int, path.Walk]]:
    """Each cut within `AROUND` bytes of a blank line's end, and the run whose first reply ends there.

    The run up to the event before is not repeated but copied, and so is what two cuts have in common.
    """
    decoder, upstream = path.DECODERS[dialect](), path.Upstream(dialect)
    listening, start, done = True, 0, -1
    walk: path.Walk | None = None
    for end in ends_of_blocks(data):
        last: list[Delta] | None = None
        for cut in range(max(start, end - AROUND, done + 1), min(end + AROUND, len(data)) + 1):
            done = cut
            if listening:
                other = copy.deepcopy(decoder)
                said, rest = other.feed(data[start:cut]), other.eof()
                if [*said, *rest] != last:
                    last = [*said, *rest]
                    fork = upstream.fork()
                    if fork.feed(said):
                        fork.feed(rest)
                    walk = fork.end()
            assert walk is not None
            yield cut, walk
        if listening:
            listening = upstream.feed(decoder.feed(data[start:end]))
            if not listening:
                # Nothing is read any more.
                walk = upstream.end()
        start = end


def ends_of_blocks(data: bytes) -> list[int]:
    """The offsets behind each blank line, and the end."""
    ends = [match.end() for match in re.finditer(b"\n\n", data)]
    return ends if ends[-1:] == [len(data)] else [*ends, len(data)]


def cuts_of(data: bytes) -> list[int]:
    """The offsets within `AROUND` bytes of each of them."""
    around = range(-AROUND, AROUND + 1)
    return sorted({cut for end in ends_of_blocks(data) for by in around if 0 <= (cut := end + by) <= len(data)})


def test_floors(note: Callable[[str], None]) -> None:
    """The tests above check that they try all that is counted here."""
    small = recorded.lengths(below=SMALL)
    counts = {
        "every byte": sum(small) + len(small),
        "around blank lines": sum(len(cuts_of(recorded.load(key).read())) for key in recorded.names(SMALL)),
    }
    note(f"whole path, truncation law: {counts}")
    assert {law: count for law, count in counts.items() if count < FLOORS[law]} == {}


# -- the oracle itself ------------------------------------------------------------------------------------------------


def test_the_oracle_finds_the_end_of_every_stream() -> None:
    """It says of every whole stream what the machine says, from the JSON alone."""
    for key in recorded.names():
        stream = recorded.load(key)
        data = stream.read()
        last = path.frames_of(path.walk(stream.dialect, [data]).wire)[-1]
        found = symbols(stream.dialect, data)
        refused = last.get("error", {}).get("code") == ErrorCode.CONTENT_FILTER
        assert (verdict(found, len(data)) is Verdict.ANSWERED) == ("done" in last or refused), key
        assert verdict(found, found[0].at - 1) is Verdict.CUT
