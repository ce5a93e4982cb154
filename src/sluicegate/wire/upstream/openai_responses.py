"""OpenAI Responses: the bytes of one reply to deltas.

Source: the `response.*` events of the official SDK's types (openai 3.54, `types/responses/*_event.py`), and what
compatible servers make of them: events without `output_index` and `content_index`, item ids that change from event to
event, terminal responses with an empty `output`, content that comes only there.

Theory of operation: an output item gets a `_Slot` when its first event names it. `output_index` names it, else its id,
else it is the item that was begun last. Each text of a slot (an entry of a message's `content`, of a reasoning item's
`summary` or `content`) has a key of its own. Deltas become deltas; the events that repeat what came (`*.done`,
`output_item.done`, the terminal response) become totals, of which Reply takes what is new. Texts and arguments are not
kept here.
"""

import json
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import Raw

from ...machine.deltas import (
    CallDelta,
    CallEnd,
    CallTotal,
    CitationDelta,
    Delta,
    End,
    Eof,
    Failure,
    Finish,
    FinishNotice,
    FinishReason,
    PartEnd,
    ProviderDelta,
    ReasoningDelta,
    ReasoningTotal,
    RefusalDelta,
    RefusalTotal,
    Started,
    TextDelta,
    TextTotal,
    UsageDelta,
)
from ...machine.errors import RunError
from ..sse import SseDecoder, SseEvent, SseFault
from .faults import fault, unreadable

_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_OURS: Final = _CALLS | {"message", "reasoning"}
_LIFE: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
_INCOMPLETE: Final = {
    "content_filter": FinishReason.CONTENT_FILTER,
    "max_prompt_tokens": FinishReason.CONTEXT_LENGTH,
    "context_length_exceeded": FinishReason.CONTEXT_LENGTH,
    "steered": FinishReason.STOP,
}


class _Phase(Enum):
    OPEN = auto()
    ENDED = auto()
    """The wire's explicit end, or a failure, is behind us."""


class _Slot:
    """One output item. `keys` names its texts, in the order in which they began; `index` is its `output_index`."""

    __slots__ = ("announced", "cited", "done", "id", "index", "key", "keys", "latest", "type")

    def __init__(self, type_: str, key: str, index: int | None, item_id: str) -> None:
        self.type = type_
        self.key = key
        self.index = index
        self.id = item_id
        self.announced = False
        self.done = False
        self.keys: dict[tuple[str, int], str] = {}
        self.latest: dict[str, int] = {}
        self.cited: dict[str, int] = {}

    def text_key(self, family: str, index: int | None) -> str:
        """The key of entry `index` of the list `family`; None is the entry that was begun last."""
        name = family, self.latest.get(family, 0) if index is None else index
        key = self.keys.get(name)
        if key is None:
            key = self.keys[name] = f"{self.key}.{len(self.keys)}"
        return key

    def begin_text(self, family: str, index: int | None) -> str:
        """The key of an entry that begins; servers without indexes mean the next one."""
        if index is None:
            self.latest[family] = self.latest.get(family, -1) + 1
        return self.text_key(family, index)

    def text_keys(self, family: str, count: int) -> list[str]:
        """The keys of all `count` entries of the finished item, even if the stream counted them in another way."""
        known = [key for (of, _), key in self.keys.items() if of == family]
        return known if len(known) == count else [self.text_key(family, index) for index in range(count)]


class OpenAIResponsesDecoder:
    """Decodes one reply; see `base.Decoder` for the contract."""

    def __init__(self) -> None:
        self._sse = SseDecoder()
        self._phase = _Phase.OPEN
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}
        self._by_id: dict[str, _Slot] = {}
        self._by_key: dict[str, _Slot] = {}
        self._current: _Slot | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """Return the deltas that `data` completes; after the wire's end or a failure, none."""
        out: list[Delta] = []
        for event in self._sse.feed(data):
            if self._phase is _Phase.ENDED:
                break
            if isinstance(event, SseFault):
                self._fail(unreadable("event_stream"), out)
                break
            try:
                self._take(event, out)
            except (ValueError, RecursionError):
                self._fail(unreadable("event"), out)
        return out

    def eof(self) -> list[Delta]:
        """Return the last deltas and `Eof`. What is left of an event that was cut says nothing: Reply sees the cut."""
        out: list[Delta] = []
        self._sse.eof()
        event = self._sse.take_pending()
        if event is not None and self._phase is _Phase.OPEN:
            try:
                self._take(event, out)
            except (ValueError, RecursionError):
                out.clear()
        self._phase = _Phase.ENDED
        out.append(Eof())
        return out

    def _take(self, frame: SseEvent, out: list[Delta]) -> None:
        """Raises ValueError or RecursionError if the data cannot be read."""
        data = frame.data
        if not data.isascii():
            data.decode()
        try:
            event: WireEvent = read_event(data)
        except msgspec.DecodeError:
            if data.strip() in (b"", b"[DONE]"):
                self._stop(data, out)
                return
            event = bend(WireEvent, data)
        event.type = event.type or frame.event
        if is_said(event.error) and not event.type.startswith("response."):
            self._take_error(event, out)
        elif handler := _HANDLERS.get(event.type):
            handler(self, event, out)

    def _stop(self, data: bytes, out: list[Delta]) -> None:
        """`[DONE]` is no part of this wire, but a server that sends it before a terminal response has ended as well."""
        if data.strip():
            self._phase = _Phase.ENDED
            out.append(End())

    def _fail(self, error: RunError, out: list[Delta]) -> None:
        self._phase = _Phase.ENDED
        out.append(Failure(error))

    # -- items ----------------------------------------------------------------------------------------------------

    def _find(self, index: int | None, item_id: str) -> _Slot | None:
        slot = self._by_id.get(item_id) if item_id else None
        if slot is not None and (index is None or slot.index is None or slot.index == index):
            return slot
        return self._current if index is None else self._by_index.get(index)

    def _open(self, type_: str, index: int | None, item_id: str) -> _Slot:
        key = item_id if index is None else str(index)
        if not key or key in self._by_key:
            key = f"{key}#{len(self._slots)}"
        slot = self._current = self._by_key[key] = _Slot(type_, key, index, item_id)
        self._slots.append(slot)
        if index is not None:
            self._by_index[index] = slot
        if item_id:
            self._by_id[item_id] = slot
        return slot

    def _slot(self, event: WireEvent, type_: str) -> _Slot:
        """The item that `event` is about, begun here if no event announced it."""
        slot = self._find(event.output_index, event.item_id)
        if slot is None or slot.type != type_:
            slot = self._open(type_, event.output_index, event.item_id)
        return slot

    def _item_added(self, event: WireEvent, out: list[Delta]) -> None:
        item = read(WireItem, event.item)
        slot = self._find(event.output_index, item.id)
        if slot is None or slot.type != item.type or slot.done or (slot.announced and slot.id != item.id):
            slot = self._open(item.type, event.output_index, item.id)
        slot.announced = True
        if item.type == "reasoning":
            out.append(ReasoningDelta("", f"{slot.key}.0"))
        elif item.type in _CALLS:
            arguments = item.arguments or item.input
            kind = CallTotal if arguments else CallDelta
            out.append(kind(slot.key, item.call_id, item.name, arguments))
        elif item.type not in _OURS and item.type:
            out.append(ProviderDelta(slot.key, item.type, bytes(event.item)))

    def _item_done(self, event: WireEvent, out: list[Delta]) -> None:
        item = read(WireItem, event.item)
        slot = self._find(event.output_index, item.id)
        if slot is None or slot.type != item.type or (slot.done and slot.id != item.id):
            slot = self._open(item.type, event.output_index, item.id)
        self._finish_item(slot, item, event.item, out)

    def _finish_item(self, slot: _Slot, item: WireItem, raw: Raw, out: list[Delta]) -> None:
        if slot.done:
            return
        slot.done = True
        if self._current is slot:
            self._current = None
        if item.type == "message":
            for key, entry in zip(slot.text_keys("content", len(item.content)), item.content, strict=True):
                self._finish_text(slot, key, read(WireContent, entry), out)
        elif item.type == "reasoning":
            for family, entries in (("summary", item.summary), ("content", item.content)):
                for key, entry in zip(slot.text_keys(family, len(entries)), entries, strict=True):
                    out.append(ReasoningTotal(read(WireContent, entry).text, key))
            last = f"{slot.key}.{max(len(slot.keys) - 1, 0)}"
            out += (ReasoningDelta("", last, bytes(raw)), PartEnd(last))
        elif item.type in _CALLS:
            out.append(CallTotal(slot.key, item.call_id, item.name, item.arguments or item.input, bytes(raw)))
            if item.status != "incomplete":
                out.append(CallEnd(slot.key))
        elif item.type:
            out += (ProviderDelta(slot.key, item.type, bytes(raw)), PartEnd(slot.key))

    def _finish_text(self, slot: _Slot, key: str, entry: WireContent, out: list[Delta]) -> None:
        self._total(entry, key, out)
        seen = slot.cited.get(key, 0)
        slot.cited[key] = max(seen, len(entry.annotations))
        out.extend(CitationDelta(bytes(raw), key) for raw in entry.annotations[seen:])
        out.append(PartEnd(key))

    @staticmethod
    def _total(entry: WireContent, key: str, out: list[Delta]) -> None:
        if entry.refusal:
            out.append(RefusalTotal(entry.refusal, key))
        elif entry.text:
            out.append(TextTotal(entry.text, key))

    # -- texts ----------------------------------------------------------------------------------------------------

    def _text_delta(self, event: WireEvent, out: list[Delta]) -> None:
        slot = self._slot(event, "message")
        out.append(TextDelta(event.delta, slot.text_key("content", event.content_index)))

    def _text_done(self, event: WireEvent, out: list[Delta]) -> None:
        slot = self._slot(event, "message")
        out.append(TextTotal(event.text, slot.text_key("content", event.content_index)))

    def _refusal_delta(self, event: WireEvent, out: list[Delta]) -> None:
        slot = self._slot(event, "message")
        out.append(RefusalDelta(event.delta, slot.text_key("content", event.content_index)))

    def _refusal_done(self, event: WireEvent, out: list[Delta]) -> None:
        slot = self._slot(event, "message")
        out.append(RefusalTotal(event.refusal, slot.text_key("content", event.content_index)))

    def _citation(self, event: WireEvent, out: list[Delta]) -> None:
        if is_said(event.annotation):
            slot = self._slot(event, "message")
            key = slot.text_key("content", event.content_index)
            slot.cited[key] = slot.cited.get(key, 0) + 1
            out.append(CitationDelta(bytes(event.annotation), key))

    def _part_added(self, event: WireEvent, out: list[Delta]) -> None:
        entry = read(WireContent, event.part)
        if entry.type == "reasoning_text":
            self._slot(event, "reasoning").begin_text("content", event.content_index)
        else:
            key = self._slot(event, "message").begin_text("content", event.content_index)
            self._total(entry, key, out)

    def _part_done(self, event: WireEvent, out: list[Delta]) -> None:
        entry = read(WireContent, event.part)
        if entry.type == "reasoning_text":
            slot = self._slot(event, "reasoning")
            out.append(ReasoningTotal(entry.text, slot.text_key("content", event.content_index)))
        else:
            slot = self._slot(event, "message")
            self._finish_text(slot, slot.text_key("content", event.content_index), entry, out)

    def _summary_added(self, event: WireEvent, _out: list[Delta]) -> None:
        self._slot(event, "reasoning").begin_text("summary", event.summary_index)

    def _summary_delta(self, event: WireEvent, out: list[Delta]) -> None:
        slot = self._slot(event, "reasoning")
        out.append(ReasoningDelta(event.delta, slot.text_key("summary", event.summary_index)))

    def _summary_done(self, event: WireEvent, out: list[Delta]) -> None:
        slot = self._slot(event, "reasoning")
        out.append(ReasoningTotal(event.text, slot.text_key("summary", event.summary_index)))

    def _reasoning_delta(self, event: WireEvent, out: list[Delta]) -> None:
        slot = self._slot(event, "reasoning")
        out.append(ReasoningDelta(event.delta, slot.text_key("content", event.content_index)))

    def _reasoning_done(self, event: WireEvent, out: list[Delta]) -> None:
        slot = self._slot(event, "reasoning")
        out.append(ReasoningTotal(event.text, slot.text_key("content", event.content_index)))

    # -- calls ----------------------------------------------------------------------------------------------------

    def _call(self, event: WireEvent, type_: str) -> _Slot | None:
        """The call that `event` is about; None if it is a provider's own tool that speaks like a client's."""
        slot = self._find(event.output_index, event.item_id)
        if slot is not None and slot.type not in _OURS:
            return None
        return self._slot(event, type_)

    def _arguments_delta(self, event: WireEvent, out: list[Delta]) -> None:
        if slot := self._call(event, "function_call"):
            out.append(CallDelta(slot.key, arguments=event.delta))

    def _arguments_done(self, event: WireEvent, out: list[Delta]) -> None:
        if slot := self._call(event, "function_call"):
            out.append(CallTotal(slot.key, arguments=event.arguments))

    def _input_delta(self, event: WireEvent, out: list[Delta]) -> None:
        if slot := self._call(event, "custom_tool_call"):
            out.append(CallDelta(slot.key, arguments=event.delta))

    def _input_done(self, event: WireEvent, out: list[Delta]) -> None:
        if slot := self._call(event, "custom_tool_call"):
            out.append(CallTotal(slot.key, arguments=event.input))

    # -- life -----------------------------------------------------------------------------------------------------

    def _started(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(Started(read(WireResponse, event.response).model))

    def _ended(self, event: WireEvent, out: list[Delta]) -> None:
        response = read(WireResponse, event.response)
        said = event.type.rpartition(".")[2]
        status = response.status if response.status in _LIFE else said
        reason = read(WireDetails, response.incomplete_details).reason
        error = response.error if is_said(response.error) else event.error
        if is_said(error):
            status = "failed"
        self._take_output(response.output, out)
        if is_said(response.usage):
            out.append(_usage(response.usage))
        if status in ("failed", "cancelled"):
            # Reply keeps the provider's word; that the run failed is the next delta's message.
            out.append(FinishNotice(FinishReason.STOP, status))
            self._fail(_fault(error, status), out)
            return
        if reason or status == "incomplete":
            out.append(Finish(_INCOMPLETE.get(reason, FinishReason.LENGTH), reason or status))
        else:
            out.append(Finish(FinishReason.STOP, status))
        self._phase = _Phase.ENDED
        out.append(End())

    def _take_output(self, output: list[Raw], out: list[Delta]) -> None:
        """Take what the terminal response holds and the stream did not say. Items are matched by id, else by their
        place among those of their type: ids may have changed, and an `output` has no gaps where indexes may have.
        """
        places: dict[str, list[_Slot]] = {}
        for slot in self._slots:
            places.setdefault(slot.type, []).append(slot)
        taken: dict[str, int] = {}
        for raw in output:
            item = read(WireItem, raw)
            place = taken.get(item.type, 0)
            taken[item.type] = place + 1
            peers = places.get(item.type, [])
            found = self._by_id.get(item.id)
            if found is None or found.type != item.type:
                found = peers[place] if place < len(peers) else self._open(item.type, None, item.id)
            self._finish_item(found, item, raw, out)

    def _take_error(self, event: WireEvent, out: list[Delta]) -> None:
        """An error event has its fields at the top or in an `error` object (case 44)."""
        error = _fault(event.error, "error") if is_said(event.error) else fault("error", event.code, None, event.message)
        out.append(FinishNotice(FinishReason.STOP, "failed"))
        self._fail(error, out)


_HANDLERS: Final[dict[str, Callable[[OpenAIResponsesDecoder, WireEvent, list[Delta]], None]]] = {
    "error": OpenAIResponsesDecoder._take_error,
    "response.error": OpenAIResponsesDecoder._take_error,
    "response.created": OpenAIResponsesDecoder._started,
    "response.queued": OpenAIResponsesDecoder._started,
    "response.in_progress": OpenAIResponsesDecoder._started,
    "response.completed": OpenAIResponsesDecoder._ended,
    "response.incomplete": OpenAIResponsesDecoder._ended,
    "response.failed": OpenAIResponsesDecoder._ended,
    "response.cancelled": OpenAIResponsesDecoder._ended,
    "response.output_item.added": OpenAIResponsesDecoder._item_added,
    "response.output_item.done": OpenAIResponsesDecoder._item_done,
    "response.content_part.added": OpenAIResponsesDecoder._part_added,
    "response.content_part.done": OpenAIResponsesDecoder._part_done,
    "response.output_text.delta": OpenAIResponsesDecoder._text_delta,
    "response.output_text.done": OpenAIResponsesDecoder._text_done,
    "response.output_text.annotation.added": OpenAIResponsesDecoder._citation,
    "response.refusal.delta": OpenAIResponsesDecoder._refusal_delta,
    "response.refusal.done": OpenAIResponsesDecoder._refusal_done,
    "response.function_call_arguments.delta": OpenAIResponsesDecoder._arguments_delta,
    "response.function_call_arguments.done": OpenAIResponsesDecoder._arguments_done,
    "response.custom_tool_call_input.delta": OpenAIResponsesDecoder._input_delta,
    "response.custom_tool_call_input.done": OpenAIResponsesDecoder._input_done,
    "response.reasoning_summary_part.added": OpenAIResponsesDecoder._summary_added,
    "response.reasoning_summary_text.delta": OpenAIResponsesDecoder._summary_delta,
    "response.reasoning_summary_text.done": OpenAIResponsesDecoder._summary_done,
    "response.reasoning_text.delta": OpenAIResponsesDecoder._reasoning_delta,
    "response.reasoning_text.done": OpenAIResponsesDecoder._reasoning_done,
}


def _usage(raw: Raw) -> UsageDelta:
    usage = read(WireUsage, raw)
    into = read(WireDetails, usage.input_tokens_details)
    out_of = read(WireDetails, usage.output_tokens_details)
    return UsageDelta(
        usage.input_tokens,
        usage.output_tokens,
        into.cached_tokens,
        into.cache_write_tokens,
        out_of.reasoning_tokens,
    )


def _fault(raw: Raw, kind: str) -> RunError:
    """What an `error` value, of whatever shape, means; `kind` says what is known where it says nothing."""
    value = json.loads(bytes(raw)) if is_said(raw) else None
    if not isinstance(value, dict):
        return fault(kind, message=text_of(value))
    error = read(WireError, raw)
    return fault(error.type or kind, error.code, error.status, error.message)
