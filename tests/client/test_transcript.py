"""Frames folded into the answer: the same whatever was repeated, and whatever of it came as a snapshot."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.client import Frame, Misplaced, Transcript
from sluicegate.client.transcript import Citation, ProviderTool, Result, ToolCall, Words
from sluicegate.machine.deltas import FinishReason, Usage
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
    RunDone,
    RunFailed,
    RunStarted,
    StepStarted,
    ToolActivity,
    ToolProgress,
    ToolResult,
    ToolsStarted,
)
from sluicegate.wire.downstream.native import NativeEncoder

from .rig import TALK, decoded, frames_of

WHOLE = decoded(frames_of(TALK))


def step(number: int) -> list[Event]:
    """One of everything. Call ids are the same in each step, as some providers have them."""
    first = CallReady(3, "c1", "look", '{"at":"sea"}')
    return [
        StepStarted(number),
        PartDelta(0, PartKind.REASONING, f"Step {number}, "),
        PartDelta(0, PartKind.REASONING, "hm. "),
        PartDelta(1, PartKind.TEXT, f"Look {number}: "),
        CitationAdded(b'{"url":"u"}'),
        PartDelta(1, PartKind.TEXT, "é😀. "),
        PartStarted(2, PartKind.PROVIDER, name="web_search"),
        PartStarted(3, PartKind.CALL, "c1", "look"),
        PartStarted(4, PartKind.CALL, "c2", "break"),
        PartDelta(3, PartKind.CALL, '{"at":'),
        PartDelta(4, PartKind.CALL, '{"x'),
        PartDelta(3, PartKind.CALL, '"sea"}'),
        first,
        CallBroken(4, "c2", "break", '{"x', CallFault.TRUNCATED),
        ToolsStarted((first,)),
        ToolActivity("c1", "look", "Looking"),
        ToolProgress("c1", "look", msgspec.Raw(b'{"done":1}')),
        ToolProgress("c1", "look", msgspec.Raw(b'{"done":2}')),
        ToolResult("c1", "look", f"blue {number}", is_error=number == 2),
        PartDelta(5, PartKind.REFUSAL, "I will "),
        PartDelta(5, PartKind.REFUSAL, "not."),
    ]


DONE = RunDone(FinishReason.STOP, "stop", Usage(3, 4))
FAILED = RunFailed(RunError(ErrorCode.CANCELLED, "The run was stopped."), Usage(1, 2))


def talk(end: Event) -> list[Event]:
    return [RunStarted("r-1", "m"), *step(1), *step(2), end]


def folded(frames: list[Frame]) -> Transcript:
    transcript = Transcript()
    for frame in frames:
        assert transcript.add(frame)
    return transcript


def shown(transcript: Transcript) -> list[object]:
    """All that a transcript tells, as plain values."""
    parts: list[object] = []
    for part in transcript.parts:
        match part:
            case Words():
                parts.append((part.kind, part.text))
            case ToolCall():
                parts.append((part.id, part.name, part.delta, part.arguments, part.fault, part.activity, part.progress,
                              part.result))  # fmt: skip
            case _:
                parts.append(part)
    return [transcript.run, transcript.step, parts, transcript.finish_reason, transcript.error, transcript.usage,
            transcript.ended, transcript.after]  # fmt: skip


def test_the_answer_that_frames_make() -> None:
    transcript = folded(decoded(frames_of(talk(DONE))))
    assert transcript.run == {"id": "r-1", "model": "m"}
    assert transcript.step == 2
    assert transcript.text == "Look 1: é😀. Look 2: é😀. "
    assert transcript.reasoning == "Step 1, hm. Step 2, hm. "
    assert transcript.refusal == "I will not.I will not."
    assert [call.id for call in transcript.calls] == ["c1", "c2", "c1", "c2"]
    look, broken, again, _ = transcript.calls
    assert (look.name, look.arguments, look.delta, look.fault) == ("look", {"at": "sea"}, "", "")
    assert (look.activity, look.progress, look.result) == ("Looking", {"done": 2}, Result("blue 1"))
    assert (broken.name, broken.arguments, broken.delta, broken.fault) == ("break", None, '{"x', "truncated")
    assert again.result == Result("blue 2", is_error=True)
    assert transcript.parts[2] == Citation({"url": "u"})
    assert transcript.parts[4] == ProviderTool("web_search")
    assert (transcript.ended, transcript.finish_reason, transcript.error) == (True, "stop", None)
    assert transcript.usage == {"input_tokens": 3, "output_tokens": 4}


def test_an_error_terminal_is_an_end_without_a_finish_reason() -> None:
    transcript = folded(decoded(frames_of(talk(FAILED))))
    assert (transcript.ended, transcript.finish_reason) == (True, None)
    assert (transcript.error or {})["code"] == "CANCELLED"
    assert not folded(decoded(frames_of(talk(FAILED)))[:-1]).ended


@pytest.mark.parametrize("end", [DONE, FAILED], ids=["done", "failed"])
def test_a_snapshot_in_place_of_any_frames_makes_the_same_answer(end: Event) -> None:
    """Every place of a reader, every length of what the service no longer has: by the encoder that makes snapshots."""
    events = talk(end)
    raw = frames_of(events)
    whole = decoded(raw)
    complete = shown(folded(whole))
    count = 0
    for until in range(1, len(raw)):
        encoder = NativeEncoder("e0")
        encoder.fold(raw[:until])
        for after in range(until):
            (gap,) = decoded([encoder.gap(after, until)])
            transcript = folded([*whole[:after], gap])
            assert shown(transcript) == shown(folded(whole[:until])), (after, until)
            assert not transcript.add(gap), "twice is once"
            for frame in whole[until:]:
                assert transcript.add(frame)
            assert shown(transcript) == complete, (after, until)
            count += 1
    assert count == len(raw) * (len(raw) - 1) // 2
    assert count > 900


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))),
)
def test_case_56_frames_that_come_again_change_nothing(replays: list[tuple[int, int]]) -> None:
    """Any stretches of what has come are played again, in between and at the end."""
    transcript = Transcript()
    for start, stop in [*replays, (0, len(WHOLE))]:
        reached = int(transcript.after.rpartition("-")[2] or 0)
        for number, frame in enumerate(WHOLE[min(start, reached) : max(stop, start)], min(start, reached) + 1):
            assert transcript.add(frame) is (number > reached)
    assert shown(transcript) == shown(folded(WHOLE))


def test_what_is_out_of_place_is_refused_and_changes_nothing() -> None:
    transcript = folded(WHOLE[:3])
    before = shown(transcript)
    for stray in (WHOLE[4], decoded(frames_of(TALK, "e1"))[3], Frame(content="x")):
        with pytest.raises(Misplaced):
            transcript.add(stray)
        assert shown(transcript) == before


def test_parts_of_a_newer_service_are_passed_over() -> None:
    data = (
        b'id: e0-9\ndata: {"gap":{"after":0,"until":9,"step":3,"news":1,'
        b'"parts":[{"type":"text","text":"a"},{"type":"hologram"},{"type":"text","text":"b","news":1}]}}\n\n'
    )
    transcript = folded(decoded([data]))
    assert (transcript.text, transcript.step, transcript.after) == ("ab", 3, "e0-9")
    assert len(transcript.parts) == 1


def test_a_late_delta_costs_what_an_early_one_did() -> None:
    """No string is joined until somebody asks."""
    encoder = NativeEncoder("e0")
    events: list[Event] = [PartStarted(0, PartKind.CALL, "c", "f")]
    events += [PartDelta(0, PartKind.CALL, "x")] * 50 + [PartDelta(1, PartKind.TEXT, "y")] * 50
    transcript = folded(decoded([frame for event in events for frame in encoder.frames(event)]))
    call, words = transcript.parts
    assert isinstance(call, ToolCall)
    assert isinstance(words, Words)
    assert len(call._pieces) == 50
    assert len(words._pieces) == 50
    assert (call.delta, words.text) == ("x" * 50, "y" * 50)
