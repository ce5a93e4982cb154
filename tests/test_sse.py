"""The event-stream codec against vectors, recorded streams and an independent reader of the whole bytes."""

import base64
import itertools
import random
import re
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Buffer

from sluicegate.wire import sse
from sluicegate.wire.sse import SseDecoder, SseEvent, SseFault, encode_comment, encode_event
from tests.laws import byte_by_byte, check_split_law, chunkings, decode, near_boundaries, pieces
from tests.shared import streams, vectors

BOM = b"\xef\xbb\xbf"
NO_LIMIT = 1 << 40
CUT_CHARACTER = "the stream ended inside a UTF-8 character"

Out = SseEvent | SseFault | tuple[object, ...]


def feed(decoder: SseDecoder, data: bytes) -> Iterable[Out]:
    return decoder.feed(data)


def finish(decoder: SseDecoder) -> Iterator[Out]:
    """The end of input, with all the state that a caller can see, so that the split law covers it."""
    yield from decoder.eof()
    yield ("pending", decoder.take_pending(), decoder.last_event_id, decoder.retry)


def read_all(data: bytes, limit: int = NO_LIMIT) -> list[Out]:
    return decode(SseDecoder(limit), feed, finish, [data])


def events(data: bytes) -> list[SseEvent]:
    decoder = SseDecoder()
    out = decoder.feed(data)
    assert decoder.eof() == []
    assert all(isinstance(event, SseEvent) for event in out)
    return cast("list[SseEvent]", out)


def check(data: bytes, limit: int = NO_LIMIT) -> list[Out]:
    """Split law and reference reader at once."""
    whole = check_split_law(lambda: SseDecoder(limit), feed, finish, data)
    assert whole == reference(data, limit)
    return whole


def reference(data: bytes, limit: int = NO_LIMIT) -> list[Out]:
    """The WHATWG text applied to all the bytes at once, sharing nothing with the decoder: what `finish` lists."""
    out: list[Out] = []
    lines = re.split(rb"\r\n|\n|\r", data[3:] if data[:3] == BOM else data)
    unended = len(lines) - 1
    name, id_buffer, last_id, retry, size = "", "", "", cast("int | None", None), 0
    values: list[bytes] = []
    for number, line in enumerate(lines):
        if line and size + len(line) > limit:
            return [*out, SseFault(f"an event is larger than {limit} bytes"), ("pending", None, last_id, retry)]
        if number == unended:
            if CUT_SHORT.search(line[-3:]):
                return [*out, SseFault(CUT_CHARACTER), ("pending", None, last_id, retry)]
            if line != b"data" and not line.startswith(b"data:"):
                break
        if line == b"":
            last_id = id_buffer
            if values:
                out.append(SseEvent(name, b"\n".join(values), last_id))
            name, values, size = "", [], 0
            continue
        if line.startswith(b":"):
            continue
        size += len(line) + 1
        field, value = line.split(b":", 1) if b":" in line else (line, b"")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            values.append(value)
        elif field == b"event":
            name = str(value, "utf-8", "replace")
        elif field == b"id" and 0 not in value:
            id_buffer = str(value, "utf-8", "replace")
        elif field == b"retry" and re.fullmatch(rb"0*[0-9]{1,15}", value):
            retry = int(value)
    pending = None
    if values:
        last_id = id_buffer
        pending = SseEvent(name, b"\n".join(values), last_id)
    return [*out, ("pending", pending, last_id, retry)]


# Every beginning of a well-formed character, at the end of the bytes (Unicode table 3-7).
CUT_SHORT = re.compile(
    rb"(?:[\xc2-\xf4]|\xe0[\xa0-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]|\xed[\x80-\x9f]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]?|[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?)\Z"
)

ATOMS = [
    b"data: ", b"data:", b"data", b"data:x", b"data: {}", b"\ndata: \xf0\x9f\x98\x80", b'"\\ud83d\\ude00"', b"\\ud8",
    b"event: x", b"event:", b"event", b"id: 7", b"id", b"id: \0", b"retry: 50", b"retry:5x", b": hm", b":", b" ", b"x",
    b"\n", b"\n\n", b"\r", b"\r\r", b"\r\n", b"\r\n\r\n", b"\n\r", b"\r\n\n", b"\n", b"\n\n", BOM, BOM[:2],
    "é".encode(), "\u2028\x85\x0b".encode(), b"\xff", b"\xe2\x98", b"\0", b"datax: 1\n", b"DATA: 1\n",
    b"event: x\ndata: y\n\n",
]  # fmt: skip

DATA_LINES = [b"data: 1\n", b"data:2\r\n", b"data: 3\n\n", b"data: 4\r", b"event: x\ndata: 5\n\n", b"\ndata:\r\r\n"]


def nasty_fragments(count: int) -> list[bytes]:
    """The same fragments in every run: 60 bytes, cut off wherever that falls."""
    rng = random.Random(20)
    made: list[bytes] = []
    while len(made) < count:
        fragment = BOM if rng.random() < 0.2 else b""
        while len(fragment) < 60:
            fragment += rng.choice(ATOMS if rng.random() < 0.8 else DATA_LINES)
        made.append(fragment[:60])
    return made


# The named cases: what goes wrong in the wild.


def test_case_01_character_split_over_reads() -> None:
    text = "aé☃😀\u2028z".encode()
    assert check(b"event: \xe2\x98\x83\ndata: " + text + b"\n\n")[0] == SseEvent("☃", text, "")


@pytest.mark.parametrize("text", ["é", "☃", "😀"])
def test_case_01_incomplete_character_at_the_end_is_a_fault(text: str) -> None:
    character = text.encode()
    for n in range(1, len(character)):
        out = check(b"data: 1\n\ndata: 2" + character[:n])
        assert out == [SseEvent("", b"1", ""), SseFault(CUT_CHARACTER), ("pending", None, "", None)]
    assert check(b"data: 2" + character) == [("pending", SseEvent("", b"2" + character, ""), "", None)]


def test_case_01_without_eof_a_cut_character_is_not_taken_either() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\ndata: \xf0\x9f") == []
    assert decoder.take_pending() is None
    assert decoder.take_pending() is None
    assert decoder.eof() == []


def test_case_02_data_line_split_over_reads_is_kept() -> None:
    frame = b'event: message_delta\ndata: {"usage":{"output_tokens":8}}\n\n'
    out = check(frame * 3)
    assert out[:-1] == [SseEvent("message_delta", b'{"usage":{"output_tokens":8}}', "")] * 3


def test_case_03_cr_lf_split_is_one_line_end() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\r") == []
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\r\n\r") == [SseEvent("", b"a\nb", "")]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: c\r") == []
    assert decoder.feed(b"\r") == [SseEvent("", b"c", "")]
    check(b"data: a\r\ndata: b\r\n\r\ndata: c\r\r\n\n")


def test_case_03_a_cr_swallows_only_the_lf_that_follows_it() -> None:
    reads = [b"data: 1\r\r", b"data: 2", b"\n\n"]
    assert decode(SseDecoder(), feed, finish, reads) == reference(b"".join(reads))


def test_case_04_cr_lf_servers_are_understood_and_only_lf_is_sent() -> None:
    lf = b"id: 1\nevent: x\ndata: a\ndata: b\n\n: hm\n\ndata: c\n\n"
    expected = check(lf)
    assert len(expected) == 3
    assert check(lf.replace(b"\n", b"\r\n")) == expected
    assert check(lf.replace(b"\n", b"\r")) == expected
    assert b"\r" not in encode_event(b"a\r\nb\rc\n", event="x", id="1") + encode_comment(b"a\r\nb\r")


def test_case_05_mixed_line_ends_in_one_read() -> None:
    ends = [b"\n", b"\r", b"\r\n"]
    for a, b, c, d in itertools.product(ends, repeat=4):
        data = b"data: 1" + a + b"data: 2" + b + c + b"data: 3" + d + d + b"data: 4\n\n"
        blank = b + c != b"\r\n"
        first = [b"1\n2", b"3"] if blank else [b"1\n2\n3"]
        if d + d == b"\r\n":
            first = []
        out = check(data)
        assert [event.data for event in out if isinstance(event, SseEvent)] == [*first, b"4"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"data:x\n\n", [b"x"]),
        (b"data:  x\n\n", [b" x"]),
        (b"data: a\ndata:b\ndata\n\n", [b"a\nb\n"]),
        (b": hm\ndata: a\n:\ndata: b\n: data: c\n\n", [b"a\nb"]),
        (b"retry: 9\n\n", []),
        (b"event: ping\n\n", []),
        (b"id: 4\n\n", []),
        (b"data\n\ndata:\n\ndata: \n\n", [b"", b"", b""]),
        (b"event: data: x\n\nevent: \ndata: data: \n\n", [b"data: "]),
        (b"\n\n\n\n\ndata: x\n\n\n\n\n\n", [b"x"]),
    ],
)
def test_case_06_odd_but_valid_frames(data: bytes, expected: list[bytes]) -> None:
    """An event without a data line is not dispatched; one with empty data is (vectors), and adapters skip it."""
    assert [event.data for event in check(data) if isinstance(event, SseEvent)] == expected


def test_case_06_retry_needs_digits_that_fit() -> None:
    for value, expected in [(b"0050", 50), (b"0", 0), (b"x", None), (b"", None), (b"-1", None), (b"\xd9\xa1", None)]:
        assert check(b"retry:" + value + b"\n")[-1] == ("pending", None, "", expected)
    assert read_all(b"retry:" + b"9" * 15 + b"\n")[-1] == ("pending", None, "", 10**15 - 1)
    assert read_all(b"retry:1\nretry:" + b"9" * 10_000 + b"\n")[-1] == ("pending", None, "", 1)
    assert read_all(b"retry:" + b"0" * 10_000 + b"5\n")[-1] == ("pending", None, "", 5)


def test_case_07_an_event_is_bounded_and_what_came_before_it_is_kept() -> None:
    largest = b"data: " + b"x" * 10 + b"\n"
    assert len(check(largest + b"\n" + largest + b"\n", limit=16)) == 3
    out = check(b"data: 1\n\n" + largest + b"data: 2\n\ndata: 3\n\n", limit=16)
    assert out == [
        SseEvent("", b"1", ""),
        SseFault("an event is larger than 16 bytes"),
        ("pending", None, "", None),
    ]
    assert check(b"data: 1\n\ndata: " + b"x" * 11, limit=16) == out
    assert check(b"data: 1\n\n:" + b"x" * 16, limit=16) == out
    assert check(b"data: 1\n\n" + b"id: 2\n" * 3, limit=16) == out


def test_case_07_comments_and_whole_events_do_not_add_up() -> None:
    out = check(b": ping\n" * 20 + b"data: 1\n" + b": ping\n" * 20 + b"\n" + b"data: 2\n\n" * 20, limit=16)
    assert len(out) == 22


def test_case_07_nothing_follows_a_fault() -> None:
    decoder = SseDecoder(8)
    assert decoder.feed(b"data: too long") == [SseFault("an event is larger than 8 bytes")]
    assert decoder.feed(b"\n\ndata: 1\n\n") == []
    assert decoder.feed(b"\r") == []
    assert decoder.eof() == []
    assert decoder.take_pending() is None


# The end of input.


@pytest.mark.parametrize(
    ("tail", "pending"),
    [
        (b"data: 1\n", SseEvent("", b"1", "")),
        (b"data: 1", SseEvent("", b"1", "")),
        (b"data: 1\r", SseEvent("", b"1", "")),
        (b"event: x\nid: 3\ndata: 1", SseEvent("x", b"1", "3")),
        (b"data: 1\ndata", SseEvent("", b"1\n", "")),
        (b"data: 1\nevent: x", SseEvent("", b"1", "")),
        (b"data: 1\nid: 3", SseEvent("", b"1", "")),
        (b"data: 1\n: done", SseEvent("", b"1", "")),
        (b"event: x\nid: 3\n", None),
        (b"event: x", None),
        (b"", None),
    ],
)
def test_only_take_pending_returns_an_event_without_its_blank_line(tail: bytes, pending: SseEvent | None) -> None:
    out = check(b"data: 0\n\n" + tail)
    assert out == [SseEvent("", b"0", ""), ("pending", pending, pending.id if pending else "", None)]


def test_after_the_end_the_decoder_returns_nothing() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: 1\n") == []
    assert decoder.eof() == []
    assert decoder.feed(b"\ndata: 2\n\n") == []
    assert decoder.eof() == []
    assert decoder.take_pending() == SseEvent("", b"1", "")
    assert decoder.take_pending() is None
    assert decoder.feed(b"data: 2\n\n") == []


def test_bom_is_dropped_once_at_the_start_only() -> None:
    assert check(BOM + b"data: 1\n\n" + BOM + b"data: 2\n\n")[:-1] == [SseEvent("", b"1", "")]
    assert check(BOM + BOM + b"data: 1\n\n") == [("pending", None, "", None)]
    assert check(BOM) == [("pending", None, "", None)]
    assert check(BOM[:2]) == [SseFault(CUT_CHARACTER), ("pending", None, "", None)]
    assert check(BOM[:2] + b"\ndata: 1\n\n")[0] == SseEvent("", b"1", "")


# Vectors, recorded streams, sweeps.


def test_vectors_whole_as_cut_there_and_at_every_boundary() -> None:
    checked = 0
    for vector in vectors("corpus/sse/vectors.jsonl"):
        data = base64.b64decode(vector["bytes_b64"])
        recorded = [base64.b64decode(chunk) for chunk in vector["chunks_b64"]]
        decoder = SseDecoder()
        out = [event for read in recorded for event in decoder.feed(read)]
        assert decoder.eof() == [], vector["name"]
        got = [(e.event or "message", e.data.decode(), e.id) for e in out if isinstance(e, SseEvent)]
        assert got == [(e["event"], e["data"], e["id"]) for e in vector["expected"]], vector["name"]
        assert decoder.last_event_id == (vector["expected_last_event_id"] or ""), vector["name"]
        assert decoder.retry == vector["expected_retry"], vector["name"]
        assert check(data)[: len(out)] == out, vector["name"]
        checked += 1
    assert checked >= 38


def test_vectors_give_retry_with_the_event_that_follows_it() -> None:
    for vector in vectors("corpus/sse/vectors.jsonl"):
        decoder = SseDecoder()
        at_event = [
            decoder.retry
            for read in byte_by_byte(base64.b64decode(vector["bytes_b64"]))
            for _ in decoder.feed(read)
        ]  # fmt: skip
        assert at_event == [event["retry"] for event in vector["expected"]], vector["name"]


@pytest.mark.once
def test_recorded_streams_with_every_line_end() -> None:
    total = 0
    for number, stream in enumerate(streams()):
        lf = stream.read()
        expected = reference(lf)
        rng = random.Random(number)
        for end in (b"\n", b"\r\n", b"\r"):
            data = lf.replace(b"\n", end)
            cuts = sorted(rng.randrange(len(data) + 1) for _ in range(len(data) // 400 + 1))
            reads = [[data], pieces(data, cuts), pieces(data, range(1460, len(data), 1460))]
            whole = check_split_law(SseDecoder, feed, finish, data, chunkings=reads)
            assert whole == expected, stream.name
        total += len(expected) - 1
    assert total >= 18_000


def test_recorded_streams_cut_near_each_blank_line() -> None:
    shortest = sorted((stream.read() for stream in streams()), key=len)[:60]
    for data in shortest:
        cuts = near_boundaries(data)
        check_split_law(SseDecoder, feed, finish, data, chunkings=[pieces(data, [cut]) for cut in cuts])


@pytest.mark.sweep
def test_all_3_splits_of_nasty_fragments() -> None:
    cases = dispatched = 0
    for fragment in nasty_fragments(200):
        expected = reference(fragment)
        *before, last = expected
        fault = [out for out in before if isinstance(out, SseFault)]
        good = before[: len(before) - len(fault)]
        dispatched += len(good)
        for i, j in itertools.combinations(range(1, len(fragment)), 2):
            decoder = SseDecoder()
            out = decoder.feed(fragment[:i])
            out += decoder.feed(fragment[i:j])
            out += decoder.feed(fragment[j:])
            cases += 1
            assert out == good, (fragment, i, j)
            assert decoder.eof() == fault, (fragment, i, j)
            assert ("pending", decoder.take_pending(), decoder.last_event_id, decoder.retry) == last, (fragment, i, j)
    assert cases >= 300_000
    assert dispatched >= 200


def test_nasty_fragments_with_small_limits() -> None:
    for number, fragment in enumerate(nasty_fragments(40)):
        check(fragment, limit=number)


@given(st.lists(st.sampled_from(ATOMS) | st.binary(max_size=4)).map(b"".join), st.integers(0, 80), st.data())
def test_any_bytes_in_any_reads_give_what_the_reference_gives(data: bytes, limit: int, draw: st.DataObject) -> None:
    reads = draw.draw(chunkings(data))
    assert decode(SseDecoder(limit), feed, finish, reads) == reference(data, limit)


# Cost.


@pytest.mark.once
def test_cost_is_linear_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the bytes that the decoder touches in what it holds, so that no clock is needed."""
    monkeypatch.setattr(sse, "bytearray", CountedBytearray, raising=False)
    for shape in (one_long_line, many_lines):
        small, large = touched(shape(20_000)), touched(shape(80_000))
        assert small >= 20_000
        assert large >= 80_000
        assert large < 8 * 80_000
        assert large < 4.1 * small


def test_the_counter_sees_quadratic_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "bytearray", CountedBytearray, raising=False)

    class Rescanning(SseDecoder):
        def feed(self, data: bytes) -> list[SseEvent | SseFault]:
            self._partial.find(b"\n")
            return super().feed(data)

    assert touched(one_long_line(4000), Rescanning) > 100 * 4000


def one_long_line(size: int) -> bytes:
    return b"data: " + b"x" * size + b"\n\n"


def many_lines(size: int) -> bytes:
    return b"data: xxx\n" * (size // 10) + b"\n"


def touched(data: bytes, make_decoder: Callable[[], SseDecoder] = SseDecoder) -> int:
    CountedBytearray.touched = 0
    decoder = make_decoder()
    assert sum(len(decoder.feed(read)) for read in byte_by_byte(data)) == 1
    return CountedBytearray.touched


class CountedBytearray(bytearray):
    """Counts the bytes that each operation reads or copies."""

    touched = 0

    def count_all(self, extra: int = 0) -> None:
        CountedBytearray.touched += len(self) + extra

    def __iadd__(self, more: Buffer) -> "CountedBytearray":  # type: ignore[override,misc,unused-ignore]
        CountedBytearray.touched += memoryview(more).nbytes
        self.extend(memoryview(more))
        return self

    def __add__(self, more: Buffer) -> bytearray:
        self.count_all(memoryview(more).nbytes)
        return super().__add__(more)

    def __bytes__(self) -> bytes:
        self.count_all()
        return memoryview(self).tobytes()

    def __contains__(self, key: object) -> bool:
        self.count_all()
        return super().__contains__(key)  # type: ignore[operator]

    def find(self, *args: object) -> int:
        self.count_all()
        return super().find(*args)  # type: ignore[arg-type]

    def split(self, *args: object) -> list[bytearray]:
        self.count_all()
        return super().split(*args)  # type: ignore[arg-type]

    def replace(self, *args: object) -> bytearray:
        self.count_all()
        return super().replace(*args)  # type: ignore[arg-type]

    def partition(self, separator: Buffer) -> tuple[bytearray, bytearray, bytearray]:
        self.count_all()
        return super().partition(separator)


@pytest.mark.once
@pytest.mark.parametrize("unit", [b"x", b"data: x\n", b"data\n", b": hm\n", b"id: 77\n", b"zz\n", b"\r", b"\n\n"])
def test_endless_input_is_held_within_the_limit(unit: bytes) -> None:
    limit, read = 1 << 16, unit * (4096 // len(unit))
    decoder = SseDecoder(limit)
    tracemalloc.start()
    try:
        for _ in range(200):
            decoder.feed(read)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * limit
    assert peak < 6 * limit


# The encoder.

TOKENS = st.just("") | st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
TEXTS = st.lists(st.sampled_from(ATOMS) | st.binary(max_size=8)).map(b"".join)


def with_lf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


@given(st.lists(st.tuples(TEXTS, TOKENS, TOKENS), max_size=4), st.data())
def test_what_is_encoded_is_decoded_again(frames: list[tuple[bytes, str, str]], draw: st.DataObject) -> None:
    stream, expected, last_id = b"", [], ""
    for data, event, id_ in frames:
        stream += encode_event(data, event=event, id=id_) + encode_comment(data)
        last_id = id_ or last_id
        expected.append(SseEvent(event, with_lf(data), last_id))
    reads = draw.draw(chunkings(stream))
    assert decode(SseDecoder(), feed, finish, reads) == [*expected, ("pending", None, last_id, None)]


def test_encoded_data_cannot_leave_its_event() -> None:
    rng = random.Random(8)
    parts = ["\r", "\n", "\r\n", "\0", "\u2028", "\u2029", "\x85", "\ufeff", "data: ", "event: x", "id: 1", ":", "é"]
    for _ in range(10_000):
        data = "".join(rng.choice(parts) for _ in range(rng.randrange(12))).encode()
        frame = encode_event(data, event="e", id="1")
        assert reference(frame) == [SseEvent("e", with_lf(data), "1"), ("pending", None, "1", None)]
        assert reference(encode_comment(data)) == [("pending", None, "", None)]
        assert frame.endswith(b"\n\n")


@given(st.text(max_size=70) | st.from_regex(r"[A-Za-z0-9._-]{60,70}", fullmatch=True))
def test_names_and_ids_outside_the_alphabet_are_refused(text: str) -> None:
    alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    if len(text) <= 64 and set(text) <= alphabet:
        assert reference(encode_event(b"", event=text, id=text))[0] == SseEvent(text, b"", text)
        return
    with pytest.raises(ValueError, match="not an event name"):
        encode_event(b"", event=text)
    with pytest.raises(ValueError, match="not an event id"):
        encode_event(b"", id=text)


def test_frames_are_byte_exact() -> None:
    assert encode_event(b"{}") == b"data: {}\n\n"
    assert encode_event(b"") == b"data: \n\n"
    assert encode_event(b"a\r\nb\rc\n", event="x") == b"event: x\ndata: a\ndata: b\ndata: c\ndata: \n\n"
    assert encode_event(b"{}", id="e-1") == b"id: e-1\ndata: {}\n\n"
    assert encode_event(b"{}", event="x", id="e-1") == b"id: e-1\nevent: x\ndata: {}\n\n"
    assert encode_comment() == b":\n\n"
    assert encode_comment(b"stream-open") == b": stream-open\n\n"
    assert encode_comment(b"a\nb\r\nc") == b": a\n: b\n: c\n\n"


@pytest.mark.once
def test_a_stream_of_many_event_names_keeps_its_cache_small_and_its_names_right() -> None:
    names = [f"e{n}" for n in range(200)] + ["n" * 200, " lead"]
    stream = b"".join(b"event: %b\ndata: {}\n\n" % name.encode() for name in names)
    assert [event.event for event in events(stream * 2)] == names * 2
    endless = b"".join(b"event: %d\ndata: {}\n\n" % n for n in range(20_000))
    decoder = SseDecoder()
    tracemalloc.start()
    try:
        assert len(decoder.feed(endless)) == 20_000
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000
