"""The whole path: provider bytes, cut into reads, to the events and frames that a client gets.

`walk` does without Trio what `runtime.driver.Driver` does with it: decode one read, merge, feed the machine while it
listens, publish. Tools are told a canned result at once; the step after them hears a canned short reply of the same
dialect. `test_driver.py` holds the two together.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sluicegate.machine.deltas import Delta, Usage
from sluicegate.machine.events import CallReady, Event
from sluicegate.machine.history import Message, Request, TextPart, UserMessage
from sluicegate.machine.limits import RunLimits
from sluicegate.machine.reply_table import TABLE as REPLY_TABLE
from sluicegate.machine.run import Run
from sluicegate.machine.run_inputs import Begin, OpenUpstream, Output, StartTools, ToolDone
from sluicegate.machine.run_table import TABLE as RUN_TABLE
from sluicegate.providers.dialects import dialect_of
from sluicegate.runtime.merge import merged
from sluicegate.wire.downstream.native import NativeEncoder
from sluicegate.wire.upstream.base import Decoder
from tests.wire import fold

REQUEST: Final = Request("some-model", (UserMessage((TextPart("Go on."),)),))
LIMITS: Final = RunLimits()
RUN_ID: Final = "some-run"
EPOCH: Final = "e"
TOOL_RESULT: Final = "It is done."
FOLLOW_UPS: Final = {
    "openai_chat": b'data: {"choices":[{"index":0,"delta":{"content":"So."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\ndata: [DONE]\n\n',
    "openai_responses": b'data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"So."}'
    b'\n\ndata: {"type":"response.completed","response":{"status":"completed","output":[],'
    b'"usage":{"input_tokens":3,"output_tokens":2}}}\n\n',
    "anthropic": b'data: {"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"So."}}\n\n'
    b'data: {"type":"content_block_stop","index":0}\n\n'
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}\n\n'
    b'data: {"type":"message_stop"}\n\n',
}
DECODERS: Final[dict[str, Callable[[], Decoder]]] = {name: dialect_of(name).decoder for name in FOLLOW_UPS}

Frame = dict[str, Any]
Reads = list[list[Delta]]


@dataclass(frozen=True, slots=True)
class Walk:
    """One run: what it published, that as bytes of the native wire, and what it kept."""

    events: list[Event]
    wire: bytes
    messages: tuple[Message, ...]
    usage: Usage

    def said(self) -> "Said":
        """What does not depend on how the provider's bytes were cut."""
        return Said(frames_of(self.wire), merged_events(self.events), self.messages, self.usage)


@dataclass(frozen=True, slots=True)
class Said:
    """Frames and events with adjacent deltas of one part joined, the history and the usage."""

    frames: list[Frame]
    events: list[Event]
    messages: tuple[Message, ...]
    usage: Usage


def walk(dialect: str, reads: Iterable[bytes]) -> Walk:
    """Run a request whose first reply comes in `reads`, then ends."""
    return run(dialect, decode(dialect, reads))


def decode(dialect: str, reads: Iterable[bytes]) -> Reads:
    """The deltas of each read, and at last those of the end; reads that bring none are left out."""
    decoder = DECODERS[dialect]()
    brought = [deltas for data in reads if (deltas := decoder.feed(data))]
    brought.append(decoder.eof())
    return brought


def run(dialect: str, brought: Reads) -> Walk:
    """Run a request whose first reply is `brought`."""
    upstream = Upstream(dialect)
    for deltas in brought:
        if not upstream.feed(deltas):
            break
    return upstream.end()


class Upstream:
    """A run while the first reply comes in: the driver's part, without waiting."""

    def __init__(self, dialect: str) -> None:
        self._follow_up = FOLLOW_UPS[dialect]
        self._dialect = dialect
        self._run = Run(RUN_ID, REQUEST, LIMITS)
        self._events: list[Event] = []
        self._asked: list[CallReady] = []
        self._perform(self._run.receive(Begin()))

    def feed(self, deltas: list[Delta]) -> bool:
        """Feed what one read brought; return whether the step wants more."""
        machine = self._run
        step = machine.step
        outputs: list[Output] = []
        for delta in merged(deltas):
            if machine.step != step or not machine.replying:
                break
            outputs += machine.receive(delta)
        self._perform(outputs)
        return machine.step == step and machine.replying

    def end(self) -> Walk:
        """Go on to the end of the run, with canned tools and replies. The first reply must be over."""
        while self._run.terminal is None:
            asked, self._asked = self._asked, []
            for call in asked:
                self._perform(self._run.receive(ToolDone(call.part, TOOL_RESULT)))
            if self._run.terminal is None:
                for deltas in decode(self._dialect, [self._follow_up]):
                    if not self.feed(deltas):
                        break
        encoder = NativeEncoder(EPOCH)
        wire = b"".join([frame for event in self._events for frame in encoder.frames(event)])
        return Walk(self._events, wire, self._run.messages, self._run.usage)

    def fork(self) -> "Upstream":
        """A copy that may go another way."""
        fixed = {id(value): value for value in (REQUEST, LIMITS, RUN_TABLE, REPLY_TABLE)}
        self._events = merged_events(self._events)
        other = copy.copy(self)
        other._run = copy.deepcopy(self._run, fixed)
        other._events = list(self._events)
        other._asked = list(self._asked)
        return other

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, StartTools):
                self._asked += output.calls
            elif not isinstance(output, OpenUpstream):
                self._events.append(output)


def merged_events(events: Iterable[Event]) -> list[Event]:
    """`events` with adjacent deltas of one part joined."""
    return fold.merged(events)  # type: ignore[arg-type, return-value]  # it passes on what it does not know


# -- the native wire, read back ---------------------------------------------------------------------------------------

_WORDS: Final = ("content", "reasoning", "refusal")
_decode: Final = msgspec.json.Decoder().decode


def frames_of(wire: bytes) -> list[Frame]:
    """What a client reads, adjacent words of one kind joined: how they were cut says nothing.

    Read by hand, not by our own SSE decoder. Demands of `wire` what holds for every one: frames numbered from 1, one
    `[DONE]`, last, right behind the terminal frame, which is the only one.
    """
    blocks = wire.split(b"\n\n")
    assert blocks[-2:] == [b"data: [DONE]", b""], wire[-200:]
    out: list[Frame] = []
    for number, block in enumerate(blocks[:-2], 1):
        head, _, data = block.partition(b"\ndata: ")
        assert head == b"id: %b-%d" % (EPOCH.encode(), number), block[:200]
        frame = _decode(data)
        if not out or not _join(out[-1], frame):
            out.append(frame)
    assert [index for index, frame in enumerate(out, 1) if "done" in frame or "error" in frame] == [len(out)], out
    return out


def _join(last: Frame, frame: Frame) -> bool:
    """Add the words of `frame` to `last`, if they go on with them."""
    for key in _WORDS:
        if key in frame:
            if key not in last:
                return False
            last[key] += frame[key]
            return True
    call, known = frame.get("tool_call"), last.get("tool_call")
    if call and known and "delta" in call and "delta" in known and call["id"] == known["id"]:
        known["delta"] += call["delta"]
        return True
    return False
