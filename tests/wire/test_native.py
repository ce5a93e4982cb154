"""The native wire: every event becomes frames that the schema describes, that decode again and that stay small."""

from functools import cache
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from sluicegate.machine.deltas import FinishReason, Usage
from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.events import (
    CallBroken,
    CallFault,
    CallReady,
    CitationAdded,
    Event,
    Machine,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    RunDone,
    RunFailed,
    RunStarted,
    StepStarted,
    ToolActivity,
    ToolProgress,
    ToolResult,
    ToolsStarted,
    Transition,
)
from sluicegate.wire.downstream.native import (
    DONE,
    FRAMES,
    MAX_TEXT,
    ContentFrame,
    NativeEncoder,
    ReasoningFrame,
    RefusalFrame,
    schema,
)
from sluicegate.wire.sse import SseDecoder, SseFault

TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)
RAW = JSON.map(lambda value: msgspec.json.format(msgspec.json.encode(value)))  # with line ends inside, as models do
CALL = st.builds(CallReady, st.just(0), TEXT, TEXT, RAW.map(bytes.decode))
USAGE = st.builds(Usage, *(st.integers(0, 10**12) for _ in range(5)), st.booleans())
ERROR = st.builds(
    RunError,
    st.sampled_from(ErrorCode),
    TEXT,
    retryable=st.booleans(),
    retry_after_ms=st.none() | st.integers(0, 10**9),
    truncated=st.booleans(),
    raw=TEXT,
)
WORDS = (PartKind.TEXT, PartKind.REASONING, PartKind.REFUSAL)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(RunStarted, TEXT, TEXT),
    st.builds(StepStarted, st.integers(1, 99)),
    st.builds(PartStarted, st.just(0), st.sampled_from(PartKind), TEXT, TEXT),
    st.builds(PartDelta, st.just(0), st.sampled_from((*WORDS, PartKind.PROVIDER)), TEXT),
    st.builds(PartEnded, st.just(0), st.sampled_from(PartKind)),
    st.builds(CitationAdded, RAW),
    CALL,
    st.builds(CallBroken, st.just(0), TEXT, TEXT, TEXT, st.sampled_from(CallFault)),
    st.builds(ToolsStarted, st.lists(CALL, max_size=3).map(tuple)),
    st.builds(ToolActivity, TEXT, TEXT, TEXT),
    st.builds(ToolProgress, TEXT, TEXT, RAW.map(msgspec.Raw)),
    st.builds(ToolResult, TEXT, TEXT, TEXT, st.booleans()),
    st.builds(Transition, st.sampled_from(Machine), TEXT, TEXT, TEXT),
    st.builds(RunDone, st.sampled_from(FinishReason), TEXT, USAGE),
    st.builds(RunFailed, ERROR, USAGE),
)


def test_a_cost_is_told_with_the_terminal_where_that_is_wanted_and_known() -> None:
    usage = Usage(3, 5, estimated=True)
    for terminal in (RunDone(FinishReason.STOP, "stop", usage), RunFailed(RunError(ErrorCode.TIMEOUT, "late"), usage)):
        for tells, cost in ((True, 0.25), (True, 0.0), (True, None), (False, 0.25)):
            encoder = NativeEncoder("e", tells_cost=tells)
            encoder.note_cost(cost)
            told = datas(encoder.frames(terminal))[0][1]["usage"]
            assert told.get("cost") == (cost if tells else None)
            assert ("cost" in told) == (tells and cost is not None)
            assert told["output_tokens"] == 5


@cache
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


def datas(frames: list[bytes]) -> list[tuple[str | None, Any]]:
    """(id, JSON) of each event that `frames` hold; [DONE] as it is."""
    decoder = SseDecoder()
    out: list[tuple[str | None, Any]] = []
    for event in decoder.feed(b"".join(frames)):
        assert not isinstance(event, SseFault)
        out.append((event.id, event.data if event.data == b"[DONE]" else msgspec.json.decode(event.data)))
    return out


@given(st.lists(EVENTS, max_size=8))
def test_every_frame_is_one_that_the_schema_describes(events: list[Event]) -> None:
    encoder = NativeEncoder("e")
    frames = [frame for event in events for frame in encoder.frames(event)]
    for _, data in datas(frames):
        if data != b"[DONE]":
            validator().validate(data)


@given(st.lists(EVENTS, max_size=8))
def test_each_frame_is_one_whole_event_with_the_next_id(events: list[Event]) -> None:
    encoder = NativeEncoder("e")
    seq = 0
    for event in events:
        frames = encoder.frames(event)
        for frame in frames:
            seq += 1
            assert b"\r" not in frame
            assert frame.endswith(b"\n\n")
            [(event_id, _), *rest] = datas([frame])
            assert event_id == f"e-{seq}"
            assert frame.endswith(DONE) == bool(rest) == isinstance(event, RunDone | RunFailed)
    assert encoder.seq == seq


@given(st.text(), st.sampled_from(list(zip(WORDS, (ContentFrame, ReasoningFrame, RefusalFrame), strict=True))))
def test_the_short_way_of_words_writes_what_the_general_way_would(text: str, kind: tuple[PartKind, type]) -> None:
    short, general = NativeEncoder("e"), NativeEncoder("e")
    event = PartDelta(0, kind[0], text)
    assert short.frames(event) == [general._frame(kind[1](text), event)]


@pytest.mark.parametrize("kind", [*WORDS, PartKind.CALL])
@pytest.mark.parametrize("size", [0, 1, MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1, 3 * MAX_TEXT + 7])
def test_long_words_are_cut_into_frames_that_say_the_same(kind: PartKind, size: int) -> None:
    encoder = NativeEncoder("e")
    encoder.frames(PartStarted(0, kind, "A", "f"))
    text = "é" * size
    frames = encoder.frames(PartDelta(0, kind, text))
    assert len(frames) == max(1, -(-size // MAX_TEXT))
    assert all(len(frame) < 2 * MAX_TEXT + 100 for frame in frames)
    key = {PartKind.TEXT: "content", PartKind.REASONING: "reasoning", PartKind.REFUSAL: "refusal"}.get(kind)
    said = [data[key] if key else data["tool_call"].get("delta", "") for _, data in datas(frames)]
    assert "".join(said) == text


def test_each_key_names_one_kind_of_frame() -> None:
    keys = [frame.__struct_encode_fields__[0] for frame in FRAMES]
    assert len(keys) == len(set(keys))
    assert {"content", "error", "done", "tool_calls"} <= set(keys)


def test_what_the_schema_refuses() -> None:
    wrong: list[Any] = [
        {},
        [],
        {"content": 1},
        {"done": True},
        {"tool_call": {}},
        {"error": {"code": "ODD", "message": ""}},
    ]
    for data in wrong:
        assert not validator().is_valid(data), data


def test_calls_are_known_by_their_part_until_the_next_step() -> None:
    encoder = NativeEncoder("e")
    for step, call_id in ((1, "A"), (2, "B")):
        encoder.frames(StepStarted(step))
        encoder.frames(PartStarted(0, PartKind.CALL, call_id, "f"))
        [(_, data)] = datas(encoder.frames(PartDelta(0, PartKind.CALL, "{")))
        assert data == {"tool_call": {"id": call_id, "delta": "{"}}
