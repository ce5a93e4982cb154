"""What leaves a native log is folded into the parts of the answer: nothing of it is lost, and it reads the same."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.deltas import Usage
from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.events import (
    CallBroken,
    CallFault,
    CallReady,
    CitationAdded,
    Event,
    PartDelta,
    PartKind,
    PartStarted,
    RunFailed,
    RunStarted,
    StepStarted,
    ToolActivity,
    ToolProgress,
    ToolResult,
    ToolsStarted,
)
from sluicegate.wire.downstream.native import MAX_TEXT, NativeEncoder
from tests.wire.test_native import RAW, TEXT, WORDS, datas, validator

TERMINAL = RunFailed(RunError(ErrorCode.CANCELLED, "m"), Usage())


def story(data: st.DataObject) -> list[Event]:
    """The events of a run, in an order that a run may have; call ids come again in every step."""
    events: list[Event] = [RunStarted("r", "m")]
    for step in range(1, data.draw(st.integers(1, 3)) + 1):
        events.append(StepStarted(step))
        for part in range(data.draw(st.integers(0, 5))):
            events += data.draw(st.sampled_from((_words, _call, _citation, _provider_tool)))(part, data)
    return [*events, TERMINAL] if data.draw(st.booleans()) else events


def _words(part: int, data: st.DataObject) -> list[Event]:
    kind = data.draw(st.sampled_from(WORDS))
    texts = data.draw(st.lists(TEXT | st.just("é" * (MAX_TEXT + 1)), max_size=4))
    return [PartStarted(part, kind), *(PartDelta(part, kind, text) for text in texts)]


def _citation(_part: int, data: st.DataObject) -> list[Event]:
    return [CitationAdded(data.draw(RAW))]


def _provider_tool(part: int, data: st.DataObject) -> list[Event]:
    return [PartStarted(part, PartKind.PROVIDER, "", data.draw(TEXT))]


def _call(part: int, data: st.DataObject) -> list[Event]:
    call_id, name, raw = f"call_{part}", data.draw(TEXT), data.draw(RAW)
    events: list[Event] = [PartStarted(part, PartKind.CALL, call_id, name)]
    events += [PartDelta(part, PartKind.CALL, text) for text in data.draw(st.lists(TEXT, max_size=3))]
    ready = CallReady(part, call_id, name, raw.decode())
    ends: list[list[Event]] = [
        [],
        [CallBroken(part, call_id, name, "{", CallFault.TRUNCATED)],
        [ready],
        [ready, ToolsStarted((ready,)), ToolActivity(call_id, name, "Looking"), ToolResult(call_id, name, "result")],
        [ready, ToolProgress(call_id, name, msgspec.Raw(raw)), ToolResult(call_id, name, "no", is_error=True)],
        [ready, ToolResult("of another", name, "lost")],
    ]
    return events + data.draw(st.sampled_from(ends))


def fold(frames: list[Any]) -> list[dict[str, Any]]:
    """What a client shows after `frames`, told without any cleverness."""
    shown: list[dict[str, Any]] = []
    since = 0  # where the step began: only calls behind it are meant
    for frame in frames:
        calls = {part["id"]: part for part in shown[since:] if part["type"] == "tool_call"}
        for key, kind in (("content", "text"), ("reasoning", "reasoning"), ("refusal", "refusal")):
            if frame.get(key):
                if not shown or shown[-1]["type"] != kind:
                    shown.append({"type": kind, "text": ""})
                shown[-1]["text"] += frame[key]
        if "step" in frame:
            since = len(shown)
        if "citation" in frame:
            shown.append({"type": "citation", "citation": frame["citation"]})
        if "provider_tool" in frame:
            shown.append({"type": "provider_tool", "name": frame["provider_tool"].get("name", "")})
        if "tool_call" in frame:
            call = frame["tool_call"]
            if call["id"] not in calls:
                calls[call["id"]] = {"type": "tool_call", "id": call["id"]}
                shown.append(calls[call["id"]])
            part = calls[call["id"]]
            for key in ("name", "fault"):
                if call.get(key):
                    part[key] = call[key]
            if call.get("delta"):
                part["delta"] = part.get("delta", "") + call["delta"]
            if "arguments" in call:
                part.pop("delta", None)
                part["arguments"] = call["arguments"]
        if "activity" in frame and frame["call_id"] in calls and frame["activity"]:
            calls[frame["call_id"]]["activity"] = frame["activity"]
        if "tool_progress" in frame and frame["tool_progress"]["id"] in calls:
            calls[frame["tool_progress"]["id"]]["progress"] = frame["tool_progress"]["data"]
        if "tool_result" in frame and frame["tool_result"]["id"] in calls:
            result = {key: frame["tool_result"][key] for key in ("content", "is_error") if key in frame["tool_result"]}
            calls[frame["tool_result"]["id"]]["result"] = result
    return shown


@given(st.data())
def test_a_gap_says_what_the_frames_before_it_said(data: st.DataObject) -> None:
    """Whatever was folded, in however many goes, and whoever asked in between."""
    encoder = NativeEncoder("e")
    frames = [frame for event in story(data) for frame in encoder.frames(event)]
    folded = 0
    for _ in range(data.draw(st.integers(0, 4))):
        end = data.draw(st.integers(folded, len(frames)))
        encoder.fold(frames[folded:end])
        folded = end
        [(gap_id, gap)] = datas([encoder.gap(3, folded)])
        validator().validate(gap)
        assert gap_id == f"e-{folded}"
        told = gap["gap"]
        assert (told["after"], told["until"]) == (3, folded)
        before = [json for _, json in datas(frames[:folded]) if json != b"[DONE]"]
        assert told["parts"] == fold(before)
        assert told.get("step", 0) == max([json["step"] for json in before if "step" in json], default=0)
        assert told.get("run") == next((json["run"] for json in before if "run" in json), None)


@given(st.data())
def test_what_is_kept_is_no_more_than_what_was_said(data: st.DataObject) -> None:
    encoder = NativeEncoder("e")
    frames = [frame for event in story(data) for frame in encoder.frames(event)]
    size = 0
    for frame in frames:
        grown = encoder.fold([frame])
        assert grown <= size + len(frame)
        size = grown
    assert size <= sum(map(len, frames))


def test_folding_is_linear() -> None:
    """Deltas are joined when somebody asks, not one by one; a snapshot of a long answer is one string, not many."""
    encoder = NativeEncoder("e")
    encoder.frames(PartStarted(0, PartKind.CALL, "A", "f"))
    frames = [encoder.frames(PartDelta(0, PartKind.CALL, "x" * 8))[0] for _ in range(10_000)]
    assert encoder.fold(frames) == 80_000
    [(_, first)] = datas([encoder.gap(0, 10_000)])
    assert first["gap"]["parts"] == [{"type": "tool_call", "id": "A", "delta": "x" * 80_000}]
