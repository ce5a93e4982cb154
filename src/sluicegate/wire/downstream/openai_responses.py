"""The OpenAI Responses stream, as an encoder.

Source: `openai` 3.54, types/responses/*_event.py, and PROTOCOLS section 4. Reasoning goes out as one summary text, its
signature as the item's `encrypted_content`.
"""

from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ...machine.deltas import Finish, FinishReason, UsageDelta
from ...machine.errors import ErrorCode, RunError
from ...machine.events import PartKind
from ..sse import encode_event
from .dialect import DialectEncoder, OpenPart

_INCOMPLETE: Final = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.CONTEXT_LENGTH: "max_output_tokens",
}
_WORDS: Final = frozenset({"max_output_tokens", "max_messages", "content_filter", "steered"})
_PREFIXES: Final = {
    PartKind.TEXT: "msg",
    PartKind.REFUSAL: "msg",
    PartKind.REASONING: "rs",
    PartKind.CALL: "fc",
    PartKind.PROVIDER: "item",
}
_ERRORS: Final = {
    ErrorCode.RATE_LIMITED: "rate_limit_exceeded",
    ErrorCode.CONTEXT_LENGTH: "context_length_exceeded",
    ErrorCode.INVALID_REQUEST: "invalid_prompt",
}


class _OutputText(Struct, tag_field="type", tag="output_text"):
    text: str = ""
    annotations: tuple[()] = ()
    logprobs: tuple[()] = ()


class _OutputRefusal(Struct, tag_field="type", tag="refusal"):
    refusal: str = ""


class _Summary(Struct, tag_field="type", tag="summary_text"):
    text: str = ""


_Content: TypeAlias = _OutputText | _OutputRefusal


class _Message(Struct, tag_field="type", tag="message"):
    id: str
    status: str
    content: tuple[_Content, ...] = ()
    role: str = "assistant"


class _Call(Struct, tag_field="type", tag="function_call"):
    id: str
    status: str
    call_id: str
    name: str
    arguments: str = ""


class _Reasoning(Struct, tag_field="type", tag="reasoning"):
    id: str
    summary: tuple[_Summary, ...] = ()
    encrypted_content: str | UnsetType = UNSET


_Item: TypeAlias = _Message | _Call | _Reasoning | Raw


class _InputDetails(Struct):
    cached_tokens: int
    cache_write_tokens: int


class _OutputDetails(Struct):
    reasoning_tokens: int


class _Usage(Struct):
    input_tokens: int
    input_tokens_details: _InputDetails
    output_tokens: int
    output_tokens_details: _OutputDetails
    total_tokens: int


class _Error(Struct):
    code: str
    message: str


class _Incomplete(Struct):
    reason: str


class _Response(Struct):
    id: str
    created_at: int
    model: str
    status: str
    output: tuple[_Item, ...] = ()
    error: _Error | None = None
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None
    object: str = "response"
    instructions: None = None
    max_output_tokens: None = None
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    temperature: float = 1.0
    tool_choice: str = "auto"
    tools: tuple[()] = ()
    top_p: float = 1.0
    truncation: str = "disabled"


class _Event(Struct):
    type: str
    sequence_number: int = 0
    item_id: str | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    summary_index: int | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    logprobs: tuple[()] | UnsetType = UNSET
    part: _Content | _Summary | UnsetType = UNSET
    item: _Item | UnsetType = UNSET
    response: _Response | UnsetType = UNSET


class ResponsesEncoder(DialectEncoder):
    """`response.created`, `response.in_progress`, the items, and one terminal event with the whole response.

    Each part is an output item of its own. Items that the finish cuts off are `incomplete`. There is no `[DONE]`, and
    no `error` event: a failure is `response.failed`.
    """

    def __init__(self, model: str, *, reply_id: str, created: int = 0) -> None:
        super().__init__(model, reply_id=reply_id, created=created)
        self._sequence = 0
        self._items: dict[int, _Item] = {}

    def _frame(self, event: _Event) -> bytes:
        event.sequence_number = self._sequence
        self._sequence += 1
        return encode_event(msgspec.json.encode(event), event=event.type)

    def _frames(self, *events: _Event) -> bytes:
        return b"".join(map(self._frame, events))

    def _started(self) -> bytes:
        response = _Response(self._id, self._created, self._model, "in_progress")
        return self._frames(
            _Event("response.created", response=response), _Event("response.in_progress", response=response)
        )

    def _item_id(self, part: OpenPart) -> str:
        return f"{_PREFIXES[part.kind]}_{self._id}_{part.index}"

    def _item(self, part: OpenPart, status: str, content: tuple[_Content, ...] = ()) -> _Item:
        match part.kind:
            case PartKind.CALL:
                return _Call(self._item_id(part), status, part.call_id, part.name, "".join(part.pieces))
            case PartKind.REASONING:
                summary = (_Summary("".join(part.pieces)),) if part.pieces else ()
                return _Reasoning(self._item_id(part), summary, "".join(part.signatures) or UNSET)
            case PartKind.PROVIDER:
                return Raw(part.raw)
            case _:
                return _Message(self._item_id(part), status, content)

    def _part_started(self, part: OpenPart) -> bytes:
        item = self._item(part, "in_progress")
        added = self._frame(_Event("response.output_item.added", output_index=part.index, item=item))
        match part.kind:
            case PartKind.TEXT:
                return added + self._content("response.content_part.added", part, _OutputText())
            case PartKind.REFUSAL:
                return added + self._content("response.content_part.added", part, _OutputRefusal())
            case _:
                return added

    def _content(self, kind: str, part: OpenPart, content: _Content) -> bytes:
        where, index = self._item_id(part), part.index
        return self._frame(_Event(kind, item_id=where, output_index=index, content_index=0, part=content))

    def _summary(self, kind: str, part: OpenPart, text: str) -> bytes:
        where, index = self._item_id(part), part.index
        return self._frame(_Event(kind, item_id=where, output_index=index, summary_index=0, part=_Summary(text)))

    def _part_delta(self, part: OpenPart, text: str) -> bytes:
        part.pieces.append(text)
        event = _Event("", item_id=self._item_id(part), output_index=part.index, delta=text)
        match part.kind:
            case PartKind.TEXT:
                event.type, event.content_index, event.logprobs = "response.output_text.delta", 0, ()
            case PartKind.REFUSAL:
                event.type, event.content_index = "response.refusal.delta", 0
            case PartKind.CALL:
                event.type = "response.function_call_arguments.delta"
            case PartKind.REASONING:
                event.type, event.summary_index = "response.reasoning_summary_text.delta", 0
                if len(part.pieces) == 1:
                    return self._summary("response.reasoning_summary_part.added", part, "") + self._frame(event)
            case _:
                return b""
        return self._frame(event)

    def _signed(self, part: OpenPart, signature: str) -> bytes:
        part.signatures.append(signature)
        return b""

    def _part_ended(self, part: OpenPart) -> bytes:
        said = "".join(part.pieces)
        status = "completed" if self._finish is None or _cut(self._finish) is None else "incomplete"
        event = _Event("", item_id=self._item_id(part), output_index=part.index)
        done = b""
        content: tuple[_Content, ...] = ()
        match part.kind:
            case PartKind.TEXT:
                event.type, event.content_index = "response.output_text.done", 0
                event.text, event.logprobs = said, ()
                content = (_OutputText(said),)
                done = self._frame(event) + self._content("response.content_part.done", part, content[0])
            case PartKind.REFUSAL:
                event.type, event.content_index, event.refusal = "response.refusal.done", 0, said
                content = (_OutputRefusal(said),)
                done = self._frame(event) + self._content("response.content_part.done", part, content[0])
            case PartKind.CALL:
                event.type, event.arguments = "response.function_call_arguments.done", said
                done = self._frame(event)
            case PartKind.REASONING if said:
                event.type, event.summary_index, event.text = "response.reasoning_summary_text.done", 0, said
                done = self._frame(event) + self._summary("response.reasoning_summary_part.done", part, said)
        item = self._items[part.index] = self._item(part, status, content)
        return done + self._frame(_Event("response.output_item.done", output_index=part.index, item=item))

    def _finished(self, finish: Finish) -> bytes:
        return b""

    def _ended(self) -> bytes:
        cut = None if self._finish is None else _cut(self._finish)
        return self._terminal("completed" if cut is None else "incomplete", cut=cut)

    def _failed(self, error: RunError) -> bytes:
        opening = b"" if self._sequence else self._started()
        code = _ERRORS.get(error.code, "server_error")
        return opening + self._terminal("failed", error=_Error(code, error.message))

    def _terminal(self, status: str, error: _Error | None = None, cut: _Incomplete | None = None) -> bytes:
        response = _Response(
            self._id,
            self._created,
            self._model,
            status,
            tuple(self._items[index] for index in sorted(self._items)),
            error,
            cut,
            None if self._usage is None else _usage(self._usage),
        )
        return self._frame(_Event(f"response.{status}", response=response))


def _cut(finish: Finish) -> _Incomplete | None:
    reason = finish.raw if finish.raw in _WORDS else _INCOMPLETE.get(finish.reason)
    return None if reason is None else _Incomplete(reason)


def _usage(usage: UsageDelta) -> _Usage:
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    cache = _InputDetails(usage.cached_tokens or 0, usage.cache_write_tokens or 0)
    return _Usage(given, cache, made, _OutputDetails(usage.reasoning_tokens or 0), given + made)
