"""Whatever a text holds, it stays within its event: read back by a reader of the whole bytes that shares no code."""

import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec
import pytest

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
    ToolActivity,
    ToolProgress,
    ToolResult,
    ToolsStarted,
)
from sluicegate.providers.script import Call, Reply, Say, Think
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.tools.context import ToolContext
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from sluicegate.wire.sse import SseEvent, encode_event
from tests.security.rows import COUNTS
from tests.service.harness import DIALECTS, DONE, read_frames, stack, text_of, virtually
from tests.test_sse import reference

ATOMS = (
    "\r", "\n", "\r\n", "\n\n", "\r\r", "\r\n\r\n", "\0", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\ufeff",
    "\ufffe", "\U0010ffff", "data: ", "data: [DONE]\n\n", "\ndata:", "id: 1", "\nid: x-9\n", "event: error\n",
    "retry: 0\n", ": ", ":\n\n", '"', '"}', "\\", "\\n", "\\u000a", "\\r\\n", "%0d%0a", "</script>", "\x1b[2J", "\x7f",
    "\u202e", "é", "😀", " ", "x", '"}\n\ndata: {"done":true,"finish_reason":"stop"}\n\n',
)  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
TELLING = RunError(ErrorCode.INTERNAL, "")
USAGE = Usage(1, 1)


@cache
def texts() -> tuple[str, ...]:
    """The same ones in every run, no two alike; each atom alone among them."""
    draw = random.Random(59)
    made = dict.fromkeys(ATOMS)
    while len(made) < COUNTS["texts"]:
        made["".join(draw.choices(ATOMS, k=draw.randint(2, 6)))] = None
    return tuple(made)


def raw(text: str) -> bytes:
    """JSON around `text` with line ends between its tokens, as models write it."""
    return b'{\r\n"a":\r[\n%b\n]\r\n}' % msgspec.json.encode(text)


def at(*path: str | int) -> Callable[[Any], Any]:
    def look(frame: Any) -> Any:
        for step in path:
            frame = frame[step]
        return frame

    return look


def events(text: str) -> Iterator[tuple[Event, Callable[[Any], Any]]]:
    """Yield every event that holds text from outside, and where its frame has it."""
    call = CallReady(0, text, text, raw(text).decode())
    yield RunStarted("r", text), at("run", "model")
    for kind, key in ((PartKind.TEXT, "content"), (PartKind.REASONING, "reasoning"), (PartKind.REFUSAL, "refusal")):
        yield PartDelta(1, kind, text), at(key)
    yield PartStarted(0, PartKind.CALL, text, text), at("tool_call", "name")
    yield PartDelta(0, PartKind.CALL, text), at("tool_call", "delta")
    yield PartStarted(1, PartKind.PROVIDER, "", text), at("provider_tool", "name")
    yield call, at("tool_call", "arguments", "a", 0)
    yield CallBroken(0, text, text, text, CallFault.MALFORMED), at("tool_call", "name")
    yield CitationAdded(raw(text)), at("citation", "a", 0)
    yield ToolsStarted((call,)), at("tool_calls", 0)
    yield ToolActivity(text, text, text), at("activity")
    yield ToolProgress(text, text, msgspec.Raw(raw(text))), at("tool_progress", "data", "a", 0)
    yield ToolResult(text, text, text), at("tool_result", "content")
    yield RunFailed(msgspec.structs.replace(TELLING, message=text), USAGE), at("error", "message")
    yield RunDone(FinishReason.STOP, text, USAGE), at("done")


def one_event(data: bytes) -> SseEvent:
    """The only event of `data`, by the reader of the whole bytes."""
    seen = reference(data)
    found, rest = seen
    assert isinstance(found, SseEvent), data
    assert rest == ("pending", None, found.id, None)
    return found


@pytest.mark.once
def test_whatever_a_text_holds_it_stays_one_event() -> None:
    tried = 0
    for text in texts():
        encoder = NativeEncoder("0e")
        for each, look in events(text):
            if isinstance(each, PartDelta) and each.kind is PartKind.CALL:
                encoder.frames(PartStarted(0, PartKind.CALL, text, text))
            (frame,) = encoder.frames(each)
            event = one_event(frame.removesuffix(DONE))
            assert event.event == ""
            assert NAME.fullmatch(event.id)
            expected: object = True if isinstance(each, RunDone) else text
            assert look(msgspec.json.decode(event.data)) == expected, each
            tried += 1
    assert len(texts()) >= COUNTS["texts"]
    assert tried == 16 * len(texts())


def test_names_and_ids_are_of_their_alphabet() -> None:
    """All others are refused where the event is written, and these are not."""
    for text in (*texts(), *(chr(code) for code in range(0x250)), "x" * 64, "x" * 65, "a.b_c-9"):
        for field in ({"event": text}, {"id": text}):
            if NAME.fullmatch(text):
                assert getattr(one_event(encode_event(b"{}", **field)), *field) == text
            else:
                with pytest.raises(ValueError, match="not an event"):
                    encode_event(b"{}", **field)


@tool(activity="Echoing {text}")
async def echo(text: str, context: ToolContext) -> str:
    """Say the same."""
    context.progress({"text": text})
    return text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_hostile_texts_come_through_the_whole_service(dialect: str) -> None:
    """As a model's name, its words and thoughts, the arguments and the result of its tool; with one text of 200."""
    chosen = [text for text in texts()[::200] if text.strip()]

    def answer(asked: ScriptedRequest) -> Reply:
        text = asked.model
        if len(asked.messages) > 1:
            assert asked.messages[-1].text == text
            return [Say(text, words=0)]
        return [Think(text, words=0), Say(text, words=0), Call("echo", {"text": text})]

    async def main() -> None:
        async with stack(answer, dialect=dialect, tools=Registry([echo])) as up:
            for text in chosen:
                answered = await up.ask(text, model=f"scripted:{text}")
                assert answered.status == 200, answered.body
                frames = answered.frames
                assert read_frames(answered.body) == frames
                assert frames[0]["run"]["model"] == text
                assert text_of(frames) == text * 2
                (result,) = [frame["tool_result"] for frame in frames if "tool_result" in frame]
                assert result["content"] == text
                (progress,) = [frame["tool_progress"] for frame in frames if "tool_progress" in frame]
                assert progress["data"] == {"text": text}
                assert [event.event for event in reference(answered.body) if isinstance(event, SseEvent)] == [""] * (
                    len(frames) + 1
                )

    assert len(chosen) >= 40
    virtually(main)
