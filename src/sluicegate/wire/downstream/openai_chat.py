"""The OpenAI Chat Completions stream, as an encoder.

Source: `openai` 3.54, types/chat/chat_completion_chunk.py, and PROTOCOLS section 3. Reasoning goes out as
`reasoning_content`, the word that most compatible servers use; signatures and provider parts have none here.
"""

from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ...machine.deltas import Finish, FinishReason, UsageDelta
from ...machine.errors import ErrorCode, RunError
from ...machine.events import PartKind
from ..sse import encode_event
from .dialect import DialectEncoder, OpenPart

_FINISH: Final = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.CONTEXT_LENGTH: "length",
    FinishReason.PAUSE: "stop",
}
_WORDS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
_ERRORS: Final = {
    ErrorCode.RATE_LIMITED: ("rate_limit_exceeded", "rate_limit_exceeded"),
    ErrorCode.CONTEXT_LENGTH: ("invalid_request_error", "context_length_exceeded"),
    ErrorCode.CONTENT_FILTER: ("invalid_request_error", "content_filter"),
    ErrorCode.INVALID_REQUEST: ("invalid_request_error", "invalid_request"),
    ErrorCode.UNAUTHORIZED: ("authentication_error", "invalid_api_key"),
    ErrorCode.TIMEOUT: ("timeout", "timeout"),
    ErrorCode.UPSTREAM_ERROR: ("server_error", "server_error"),
}


class _Error(Struct):
    message: str
    type: str
    code: str
    param: None = None


class _ErrorBody(Struct):
    error: _Error


class _Function(Struct):
    name: str | UnsetType = UNSET
    arguments: str = ""


class _ToolCall(Struct):
    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: _Function | UnsetType = UNSET


class _Delta(Struct):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    refusal: str | UnsetType | None = UNSET
    tool_calls: tuple[_ToolCall, ...] | UnsetType = UNSET


class _Choice(Struct, kw_only=True):
    index: int = 0
    delta: _Delta
    logprobs: None = None
    finish_reason: str | None = None


class _PromptDetails(Struct, omit_defaults=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(Struct, omit_defaults=True):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails
    completion_tokens_details: _CompletionDetails


class _Chunk(Struct, kw_only=True):
    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[_Choice, ...]
    usage: _Usage | UnsetType | None


def encode_error(error: RunError) -> bytes:
    """Return `error` as the JSON that goes out both as a response body and as the last event of a stream."""
    kind, code = _ERRORS.get(error.code, ("server_error", error.code.lower()))
    return msgspec.json.encode(_ErrorBody(_Error(error.message, kind, code)))


class ChatEncoder(DialectEncoder):
    """Chunks, one finish chunk, the usage chunk with `choices: []` if it is asked for and known, `[DONE]`.

    An error is the last event; no `[DONE]` follows it.
    """

    def __init__(self, model: str, *, reply_id: str, created: int = 0, include_usage: bool = True) -> None:
        """`include_usage` is the request's `stream_options.include_usage`; every chunk then has a `usage` key."""
        super().__init__(model, reply_id=reply_id, created=created)
        self._no_usage = None if include_usage else UNSET

    def _chunk(self, delta: _Delta, finish_reason: str | None = None) -> bytes:
        return self._frame((_Choice(delta=delta, finish_reason=finish_reason),), self._no_usage)

    def _frame(self, choices: tuple[_Choice, ...], usage: _Usage | UnsetType | None) -> bytes:
        chunk = _Chunk(id=self._id, created=self._created, model=self._model, choices=choices, usage=usage)
        return encode_event(msgspec.json.encode(chunk))

    def _started(self) -> bytes:
        return self._chunk(_Delta(role="assistant", content="", refusal=None))

    def _part_started(self, part: OpenPart) -> bytes:
        if part.kind is not PartKind.CALL:
            return b""
        call = _ToolCall(part.call_index, part.call_id, "function", _Function(part.name))
        return self._chunk(_Delta(tool_calls=(call,)))

    def _part_delta(self, part: OpenPart, text: str) -> bytes:
        match part.kind:
            case PartKind.TEXT:
                return self._chunk(_Delta(content=text))
            case PartKind.REASONING:
                return self._chunk(_Delta(reasoning_content=text))
            case PartKind.REFUSAL:
                return self._chunk(_Delta(refusal=text))
            case PartKind.CALL:
                call = _ToolCall(part.call_index, function=_Function(arguments=text))
                return self._chunk(_Delta(tool_calls=(call,)))
            case _:
                return b""

    def _signed(self, part: OpenPart, signature: str) -> bytes:
        return b""

    def _part_ended(self, part: OpenPart) -> bytes:
        return b""

    def _finished(self, finish: Finish) -> bytes:
        word = finish.raw if finish.raw in _WORDS else _FINISH[finish.reason]
        return self._chunk(_Delta(), word)

    def _ended(self) -> bytes:
        done = encode_event(b"[DONE]")
        if self._usage is None or self._no_usage is UNSET:
            return done
        return self._frame((), _usage(self._usage)) + done

    def _failed(self, error: RunError) -> bytes:
        return encode_event(encode_error(error))


def _usage(usage: UsageDelta) -> _Usage:
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    return _Usage(
        prompt,
        completion,
        prompt + completion,
        _PromptDetails(usage.cached_tokens, usage.cache_write_tokens),
        _CompletionDetails(usage.reasoning_tokens),
    )
