"""The native wire of `POST /chat`: events to SSE frames. Described in specs/wire.md and specs/wire.schema.json.

A client that knows only `content`, `tool_calls`, `error`, `done` and `[DONE]` works; every other key adds something.
Each frame is one of the structs below; `frames` is the only place that decides which event becomes which.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ...machine.deltas import FinishReason, Usage
from ...machine.errors import ErrorCode
from ...machine.events import (
    CallBroken,
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
from ..sse import encode_event
from .native_snapshot import Entry, Snapshot

DONE = b"data: [DONE]\n\n"
MAX_TEXT = 8 * 1024  # characters in one frame: frames stay well under the 16 KiB that one write may hold


class _Frame(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of all frames: absent means default."""


class RunInfo(_Frame, frozen=True):
    id: str
    model: str


class RunFrame(_Frame, frozen=True):
    """First frame of a run."""

    run: RunInfo


class StepFrame(_Frame, frozen=True):
    """A request goes to the model; steps count from 1."""

    step: int


class ContentFrame(_Frame, frozen=True):
    """More text of the answer."""

    content: str


class ReasoningFrame(_Frame, frozen=True):
    """More of the model's reasoning."""

    reasoning: str


class RefusalFrame(_Frame, frozen=True):
    """More of the words in which the model refuses."""

    refusal: str


class CitationFrame(_Frame, frozen=True):
    """A source for the text before it, in the provider's own JSON."""

    citation: msgspec.Raw


class CallInfo(_Frame, frozen=True):
    """A tool call grows: first with `name`, then with pieces of its arguments, last with all of them.

    `fault` says that the call is broken and never runs: `truncated` or `malformed`.
    """

    id: str
    name: str = ""
    delta: str = ""
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    fault: str = ""


class CallFrame(_Frame, frozen=True):
    tool_call: CallInfo


class ToolsFrame(_Frame, frozen=True):
    """Tools start, by name, in the order of their calls."""

    tool_calls: tuple[str, ...]


class ActivityFrame(_Frame, frozen=True):
    """What a tool is about to do, in words for people."""

    activity: str
    call_id: str


class ProgressInfo(_Frame, frozen=True):
    id: str
    name: str
    data: msgspec.Raw


class ProgressFrame(_Frame, frozen=True):
    """A tool reports on its way."""

    tool_progress: ProgressInfo


class ResultInfo(_Frame, frozen=True):
    id: str
    name: str
    content: str
    is_error: bool = False


class ResultFrame(_Frame, frozen=True):
    """A tool ended; `content` is what the model sees."""

    tool_result: ResultInfo


class ProviderToolInfo(_Frame, frozen=True):
    name: str


class ProviderToolFrame(_Frame, frozen=True):
    """The provider runs something itself, such as a web search."""

    provider_tool: ProviderToolInfo


class UsageInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cost: float | None = None


class TraceInfo(msgspec.Struct, frozen=True):
    """`machine` is `run` or `reply`; its states and symbols are those of specs/tables.md."""

    machine: Machine
    source: str = msgspec.field(name="from")
    symbol: str
    target: str = msgspec.field(name="to")


class TraceFrame(_Frame, frozen=True):
    """A state machine of the run is in another state. Only where the operator allows it."""

    trace: TraceInfo


class DoneFrame(msgspec.Struct, frozen=True):
    """Terminal: the model answered. `[DONE]` follows."""

    done: bool
    finish_reason: FinishReason
    usage: UsageInfo


class ErrorInfo(_Frame, frozen=True):
    """`message` may be shown to people. `truncated`: the provider's stream broke off."""

    code: ErrorCode
    message: str
    retryable: bool = False
    retry_after_ms: int | None = None
    truncated: bool = False


class ErrorFrame(_Frame, frozen=True):
    """Terminal: the run failed or was cancelled. `[DONE]` follows."""

    error: ErrorInfo
    usage: UsageInfo | None = None


class GapInfo(_Frame, frozen=True):
    """`after` is the last frame that the reader had, `until` the last one of those that are gone. `parts` is the whole
    answer up to there, not only what was missed: it takes the place of what the reader has.
    """

    after: int
    until: int
    parts: list[Entry]
    step: int = 0
    run: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class GapFrame(_Frame, frozen=True):
    """Frames are gone from the log; this is what they amounted to."""

    gap: GapInfo


FRAMES: tuple[type[msgspec.Struct], ...] = (
    RunFrame,
    StepFrame,
    ContentFrame,
    ReasoningFrame,
    RefusalFrame,
    CitationFrame,
    CallFrame,
    ToolsFrame,
    ActivityFrame,
    ProgressFrame,
    ResultFrame,
    ProviderToolFrame,
    TraceFrame,
    GapFrame,
    DoneFrame,
    ErrorFrame,
)

_encode = msgspec.json.Encoder().encode
_WORDS = {PartKind.TEXT: ContentFrame, PartKind.REASONING: ReasoningFrame, PartKind.REFUSAL: RefusalFrame}
_HEADS = {
    PartKind.TEXT: b'\ndata: {"content":',
    PartKind.REASONING: b'\ndata: {"reasoning":',
    PartKind.REFUSAL: b'\ndata: {"refusal":',
}


class NativeEncoder:
    """Events of one run to frames, each with its id `<epoch>-<seq>`; `seq` counts frames from 1.

    `epoch` is of [A-Za-z0-9._]{1,40}; it binds a cursor to this run. Knows the calls of the current step by their
    part, nothing else. With `tells_cost` the terminal tells what was noted of that.
    """

    def __init__(self, epoch: str, *, tells_cost: bool = False) -> None:
        self.epoch = epoch
        self._tells_cost = tells_cost
        self._cost: float | None = None
        self.seq = 0
        self._id = f"id: {epoch}-".encode()
        self._calls: dict[int, str] = {}
        self._snapshot: Snapshot | None = None  # made when it is needed: few logs outgrow their room

    def frames(self, event: Event) -> list[bytes]:
        """Return the frames of `event`, possibly none; a terminal's last frame has `[DONE]` behind it."""
        if type(event) is PartDelta and event.kind in _HEADS:
            # The one event that comes per token: framed by hand, equal to the general path by test.
            text = event.text
            if len(text) <= MAX_TEXT:
                self.seq += 1
                return [b"%b%d%b%b}\n\n" % (self._id, self.seq, _HEADS[event.kind], _encode(text))]
            return [self._frame(_WORDS[event.kind](piece), event) for piece in _pieces(text)]
        return [self._frame(frame, event) for frame in self._structs(event)]

    def note_cost(self, cost: float | None) -> None:
        """The run cost so many US dollars; None: nobody knows. Before its terminal event."""
        if self._tells_cost and cost is not None:
            self._cost = round(cost, 12)

    def fold(self, frames: Sequence[bytes]) -> int:
        """Keep what `frames`, which leave the log, amount to; return the bytes kept for that in all."""
        if self._snapshot is None:
            self._snapshot = Snapshot()
        self._snapshot.add(frames)
        return self._snapshot.size

    def gap(self, after: int, until: int) -> bytes:
        """Return the gap frame for a reader that stopped at `after`; `until` is the last frame that was folded."""
        snapshot = self._snapshot or Snapshot()
        info = GapInfo(after, until, snapshot.entries(), snapshot.step, snapshot.run)
        return b"%b%d\n%b" % (self._id, until, encode_event(_encode(GapFrame(info))))

    def _frame(self, frame: msgspec.Struct, event: Event) -> bytes:
        self.seq += 1
        data = b"%b%d\n%b" % (self._id, self.seq, encode_event(_encode(frame)))
        return data + DONE if isinstance(event, RunDone | RunFailed) else data

    def _structs(self, event: Event) -> list[msgspec.Struct]:
        match event:
            case RunStarted(run_id=run_id, model=model):
                return [RunFrame(RunInfo(run_id, model))]
            case StepStarted(step=step):
                self._calls.clear()
                return [StepFrame(step)]
            case PartStarted(part=part, kind=PartKind.CALL, call_id=call_id, name=name):
                self._calls[part] = call_id
                return [CallFrame(CallInfo(call_id, name=name))]
            case PartStarted(kind=PartKind.PROVIDER, name=name):
                return [ProviderToolFrame(ProviderToolInfo(name))]
            case PartDelta(part=part, kind=PartKind.CALL, text=text):
                return [CallFrame(CallInfo(self._calls[part], delta=piece)) for piece in _pieces(text)]
            case PartStarted() | PartDelta() | PartEnded():
                return []
            case CallReady(call_id=call_id, name=name, arguments=arguments):
                return [CallFrame(CallInfo(call_id, name=name, arguments=msgspec.Raw(arguments.encode())))]
            case CallBroken(call_id=call_id, name=name, fault=fault):
                return [CallFrame(CallInfo(call_id, name=name, fault=fault))]
            case CitationAdded(raw=raw):
                return [CitationFrame(msgspec.Raw(raw))]
            case ToolsStarted(calls=calls):
                return [ToolsFrame(tuple(call.name for call in calls))]
            case ToolActivity(call_id=call_id, text=text):
                return [ActivityFrame(text, call_id)]
            case ToolProgress(call_id=call_id, name=name, data=data):
                return [ProgressFrame(ProgressInfo(call_id, name, data))]
            case ToolResult(call_id=call_id, name=name, content=content, is_error=is_error):
                return [ResultFrame(ResultInfo(call_id, name, content, is_error))]
            case Transition(machine=machine, source=source, symbol=symbol, target=target):
                return [TraceFrame(TraceInfo(machine, source, symbol, target))]
            case RunDone(finish_reason=reason, usage=usage):
                return [DoneFrame(True, reason, self._usage(usage))]
            case _:
                error = event.error
                info = ErrorInfo(error.code, error.message, error.retryable, error.retry_after_ms, error.truncated)
                return [ErrorFrame(info, self._usage(event.usage))]

    def _usage(self, usage: Usage) -> UsageInfo:
        return UsageInfo(
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
            usage.estimated,
            self._cost,
        )


def _pieces(text: str) -> list[str]:
    if len(text) <= MAX_TEXT:
        return [text]
    return [text[at : at + MAX_TEXT] for at in range(0, len(text), MAX_TEXT)]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of one frame's data, made from the structs above."""
    frames, definitions = msgspec.json.schema_components(FRAMES, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Frame",
        "description": "The data of one frame of sluicegate's native wire ([DONE] aside).",
        "anyOf": list(frames),
        "$defs": definitions,
    }
