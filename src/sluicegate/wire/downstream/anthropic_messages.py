"""The Anthropic Messages stream, as an encoder.

Source: `anthropic` 2.12, types/raw_*_event.py, and PROTOCOLS section 5. This wire has no refusal part: the words go out
as text, and a reply that refused and then stopped has the stop reason `refusal`.
"""

from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ...machine.deltas import Finish, FinishReason, UsageDelta
from ...machine.errors import ErrorCode, RunError
from ...machine.events import PartKind
from ..sse import encode_event
from .dialect import DialectEncoder, OpenPart, merged

_STOP: Final = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.CONTEXT_LENGTH: "model_context_window_exceeded",
    FinishReason.PAUSE: "pause_turn",
}
_WORDS: Final = frozenset({*_STOP.values(), "stop_sequence"})
_ERRORS: Final = {
    ErrorCode.RATE_LIMITED: "rate_limit_error",
    ErrorCode.CONTEXT_LENGTH: "invalid_request_error",
    ErrorCode.CONTENT_FILTER: "invalid_request_error",
    ErrorCode.INVALID_REQUEST: "invalid_request_error",
    ErrorCode.UNAUTHORIZED: "authentication_error",
    ErrorCode.TIMEOUT: "timeout_error",
    ErrorCode.OVERLOADED: "overloaded_error",
    ErrorCode.SHUTTING_DOWN: "overloaded_error",
    ErrorCode.REPLICA_LOST: "overloaded_error",
}


class _Text(Struct, tag_field="type", tag="text"):
    text: str = ""


class _Thinking(Struct, tag_field="type", tag="thinking"):
    thinking: str = ""
    signature: str = ""


class _ToolUse(Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, object] = {}


class _TextDelta(Struct, tag_field="type", tag="text_delta"):
    text: str


class _ThinkingDelta(Struct, tag_field="type", tag="thinking_delta"):
    thinking: str


class _SignatureDelta(Struct, tag_field="type", tag="signature_delta"):
    signature: str


class _InputDelta(Struct, tag_field="type", tag="input_json_delta"):
    partial_json: str


class _CompactionDelta(Struct, tag_field="type", tag="compaction_delta"):
    content: str


class _Refusal(Struct, tag_field="type", tag="refusal"):
    category: None = None
    explanation: None = None


class _StopDelta(Struct):
    stop_reason: str
    stop_sequence: None = None
    stop_details: _Refusal | None = None


class _OutputDetails(Struct):
    thinking_tokens: int


class _Usage(Struct):
    input_tokens: int | UnsetType
    output_tokens: int
    cache_creation_input_tokens: int | UnsetType = UNSET
    cache_read_input_tokens: int | UnsetType = UNSET
    output_tokens_details: _OutputDetails | UnsetType = UNSET


class _Message(Struct, kw_only=True):
    id: str
    type: str = "message"
    role: str = "assistant"
    model: str
    content: tuple[()] = ()
    stop_reason: None = None
    stop_sequence: None = None
    usage: _Usage


class _Error(Struct):
    type: str
    message: str


_Block: TypeAlias = _Text | _Thinking | _ToolUse | Raw
_Delta: TypeAlias = _TextDelta | _ThinkingDelta | _SignatureDelta | _InputDelta | _CompactionDelta | _StopDelta


class _Event(Struct):
    type: str
    index: int | UnsetType = UNSET
    message: _Message | UnsetType = UNSET
    content_block: _Block | UnsetType = UNSET
    delta: _Delta | UnsetType = UNSET
    usage: _Usage | UnsetType = UNSET
    error: _Error | UnsetType = UNSET


def encode_error(error: RunError) -> bytes:
    """Return `error` as the JSON that goes out both as a response body and as the last event of a stream.

    The dialect has no error type for a context that is too long, only a message that begins in a certain way.
    """
    kind = _ERRORS.get(error.code, "overloaded_error" if error.retryable else "api_error")
    message = error.message
    if error.code is ErrorCode.CONTEXT_LENGTH:
        message = f"prompt is too long: {message}"
    return msgspec.json.encode(_Event("error", error=_Error(kind, message)))


class MessagesEncoder(DialectEncoder):
    """`message_start`, `ping`, the blocks, `message_delta`, `message_stop`; an error is an `error` event, and the last.

    Usage known before the reply starts goes into `message_start`, the rest into `message_delta`; usage that changes
    after the finish is told by a second `message_delta`.
    """

    _refused = False
    _stop = _StopDelta("")
    _told: UsageDelta | None = None

    def _frame(self, event: _Event) -> bytes:
        return encode_event(msgspec.json.encode(event), event=event.type)

    def _started(self) -> bytes:
        usage = _usage(UsageDelta(0, 1, 0, 0), self._usage)
        message = _Message(id=self._id, model=self._model, usage=usage)
        return self._frame(_Event("message_start", message=message)) + self._frame(_Event("ping"))

    def _part_started(self, part: OpenPart) -> bytes:
        block: _Block
        match part.kind:
            case PartKind.REASONING:
                block = _Thinking()
            case PartKind.CALL:
                block = _ToolUse(part.call_id, part.name)
            case PartKind.PROVIDER:
                block = Raw(part.raw)
            case kind:
                self._refused |= kind is PartKind.REFUSAL
                block = _Text()
        return self._frame(_Event("content_block_start", part.index, content_block=block))

    def _part_delta(self, part: OpenPart, text: str) -> bytes:
        match part.kind:
            case PartKind.REASONING:
                return self._delta(part, _ThinkingDelta(text))
            case PartKind.CALL:
                return self._delta(part, _InputDelta(text))
            case PartKind.PROVIDER:
                return self._delta(part, _CompactionDelta(text) if part.name == "compaction" else _InputDelta(text))
            case _:
                return self._delta(part, _TextDelta(text))

    def _signed(self, part: OpenPart, signature: str) -> bytes:
        return self._delta(part, _SignatureDelta(signature))

    def _delta(self, part: OpenPart, delta: _Delta) -> bytes:
        return self._frame(_Event("content_block_delta", part.index, delta=delta))

    def _part_ended(self, part: OpenPart) -> bytes:
        return self._frame(_Event("content_block_stop", part.index))

    def _finished(self, finish: Finish) -> bytes:
        reason = FinishReason.CONTENT_FILTER if self._refused and finish.reason is FinishReason.STOP else finish.reason
        word = finish.raw if finish.raw in _WORDS else _STOP[reason]
        self._stop = _StopDelta(word, stop_details=_Refusal() if word == "refusal" else None)
        return self._message_delta()

    def _message_delta(self) -> bytes:
        self._told = self._usage
        usage = _usage(UsageDelta(), self._usage)
        return self._frame(_Event("message_delta", delta=self._stop, usage=usage))

    def _ended(self) -> bytes:
        last = self._message_delta() if self._usage != self._told else b""
        return last + self._frame(_Event("message_stop"))

    def _failed(self, error: RunError) -> bytes:
        return encode_event(encode_error(error), event="error")


def _usage(least: UsageDelta, known: UsageDelta | None) -> _Usage:
    usage = least if known is None else merged(least, known)
    thinking = usage.reasoning_tokens
    return _Usage(
        _or_unset(usage.input_tokens),
        usage.output_tokens or 0,
        _or_unset(usage.cache_write_tokens),
        _or_unset(usage.cached_tokens),
        UNSET if thinking is None else _OutputDetails(thinking),
    )


def _or_unset(figure: int | None) -> int | UnsetType:
    return UNSET if figure is None else figure
