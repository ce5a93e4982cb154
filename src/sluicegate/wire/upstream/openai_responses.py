"""OpenAI Responses: the bytes of one reply to deltas.

Source: the `response.*` events of the official SDK's types (openai 3.54, `types/responses/*_event.py`), and what
compatible servers make of them: events without `output_index` and `content_index`, item ids that change from event to
event, terminal responses with an empty `output`, content that comes only there.

Theory of operation: an output item gets a `Slot` when its first event names it, and each of its texts (an entry of a
message's `content`, of a reasoning item's `summary` or `content`) a key. Deltas become deltas; the events that repeat
what came (`*.done`, `output_item.done`, the terminal response) become totals, of which Reply takes what is new. Texts
and arguments are not kept here.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

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
)
from ...machine.errors import RunError
from ..sse import SseDecoder, SseEvent, SseFault
from .faults import unreadable
from .openai_responses_events import (
    WireContent,
    WireDetails,
    WireEvent,
    WireItem,
    WireResponse,
    is_said,
    read,
    read_error_event,
    read_event,
    read_fault,
    read_usage,
)
from .openai_responses_items import Slot, Slots
from .verbatim import verbatim

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


class OpenAIResponsesDecoder:
    """Decodes one reply; see `base.Decoder` for the contract."""

    def __init__(self) -> None:
        self._sse = SseDecoder()
        self._phase = _Phase.OPEN
        self._slots = Slots()

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
        match frame.data.strip():
            case b"":
                return
            case b"[DONE]":
                # No part of this wire, but a server that sends it before a terminal response has ended as well.
                self._phase = _Phase.ENDED
                out.append(End())
                return
        event = read_event(frame.data)
        event.type = event.type or frame.event
        if is_said(event.error) and not event.type.startswith("response."):
            self._take_error(event, out)
        elif handler := _HANDLERS.get(event.type):
            handler(self, event, out)

    def _fail(self, error: RunError, out: list[Delta]) -> None:
        self._phase = _Phase.ENDED
        out.append(Failure(error))

    # -- items ----------------------------------------------------------------------------------------------------

    def _item_added(self, event: WireEvent, out: list[Delta]) -> None:
        item = read(WireItem, event.item)
        slot = self._slots.find(event.output_index, item.id)
        repeated = slot is not None and bool(item.id) and slot.id == item.id
        if slot is None or slot.type != item.type or slot.done or (slot.announced and not repeated):
            slot = self._slots.open(item.type, event.output_index, item.id)
        slot.announced = True
        if item.type == "reasoning":
            out.append(ReasoningDelta("", f"{slot.key}.0"))
        elif item.type in _CALLS:
            arguments = item.arguments or item.input
            kind = CallTotal if arguments else CallDelta
            out.append(kind(slot.key, item.call_id, item.name, arguments))
        elif item.type not in _OURS and item.type:
            out.append(ProviderDelta(slot.key, item.type, verbatim(event.item)))

    def _item_done(self, event: WireEvent, out: list[Delta]) -> None:
        item = read(WireItem, event.item)
        slot = self._slots.find(event.output_index, item.id)
        if slot is None or slot.type != item.type or (slot.done and slot.id != item.id):
            slot = self._slots.open(item.type, event.output_index, item.id)
        self._finish_item(slot, item, event.item, out)

    def _finish_item(self, slot: Slot, item: WireItem, raw: Raw, out: list[Delta]) -> None:
        if slot.done:
            return
        self._slots.finish(slot)
        if item.type == "message":
            for key, raw_entry in zip(slot.text_keys("content", len(item.content)), item.content, strict=True):
                self._finish_text(slot, read(WireContent, raw_entry), key, out)
        elif item.type == "reasoning":
            for family, entries in (("summary", item.summary), ("content", item.content)):
                for key, raw_entry in zip(slot.text_keys(family, len(entries)), entries, strict=True):
                    self._total(read(WireContent, raw_entry), item.type, key, out)
            last = f"{slot.key}.{max(len(slot.keys) - 1, 0)}"
            out += (ReasoningDelta("", last, verbatim(raw)), PartEnd(last))
        elif item.type in _CALLS:
            out.append(CallTotal(slot.key, item.call_id, item.name, item.arguments or item.input, verbatim(raw)))
            if item.status != "incomplete":
                out.append(CallEnd(slot.key))
        elif item.type:
            out += (ProviderDelta(slot.key, item.type, verbatim(raw)), PartEnd(slot.key))

    def _finish_text(self, slot: Slot, entry: WireContent, key: str, out: list[Delta]) -> None:
        self._total(entry, slot.type, key, out)
        seen = slot.cited.get(key, 0)
        slot.cited[key] = max(seen, len(entry.annotations))
        out.extend(CitationDelta(verbatim(raw), key) for raw in entry.annotations[seen:])
        if slot.type == "message":
            out.append(PartEnd(key))

    @staticmethod
    def _total(entry: WireContent, type_: str, key: str, out: list[Delta]) -> None:
        if type_ == "reasoning":
            out.append(ReasoningTotal(entry.text, key))
        elif entry.refusal:
            out.append(RefusalTotal(entry.refusal, key))
        elif entry.text:
            out.append(TextTotal(entry.text, key))

    # -- texts ----------------------------------------------------------------------------------------------------

    def _content(self, event: WireEvent, type_: str = "message") -> str:
        return self._slots.of(event, type_).text_key("content", event.content_index)

    def _summary(self, event: WireEvent) -> str:
        return self._slots.of(event, "reasoning").text_key("summary", event.summary_index)

    def _text_delta(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(TextDelta(event.delta, self._content(event)))

    def _text_done(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(TextTotal(event.text, self._content(event)))

    def _refusal_delta(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(RefusalDelta(event.delta, self._content(event)))

    def _refusal_done(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(RefusalTotal(event.refusal, self._content(event)))

    def _reasoning_delta(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(ReasoningDelta(event.delta, self._content(event, "reasoning")))

    def _reasoning_done(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(ReasoningTotal(event.text, self._content(event, "reasoning")))

    def _summary_added(self, event: WireEvent, _out: list[Delta]) -> None:
        self._slots.of(event, "reasoning").begin_text("summary", event.summary_index)

    def _summary_delta(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(ReasoningDelta(event.delta, self._summary(event)))

    def _summary_done(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(ReasoningTotal(event.text, self._summary(event)))

    def _part_added(self, event: WireEvent, out: list[Delta]) -> None:
        entry = read(WireContent, event.part)
        type_ = _holder(entry)
        key = self._slots.of(event, type_).begin_text("content", event.content_index)
        self._total(entry, type_, key, out)

    def _part_done(self, event: WireEvent, out: list[Delta]) -> None:
        entry = read(WireContent, event.part)
        slot = self._slots.of(event, _holder(entry))
        self._finish_text(slot, entry, slot.text_key("content", event.content_index), out)

    def _citation(self, event: WireEvent, out: list[Delta]) -> None:
        if is_said(event.annotation):
            slot = self._slots.of(event, "message")
            key = slot.text_key("content", event.content_index)
            slot.cited[key] = slot.cited.get(key, 0) + 1
            out.append(CitationDelta(verbatim(event.annotation), key))

    # -- calls ----------------------------------------------------------------------------------------------------

    def _call(self, event: WireEvent, type_: str) -> Slot | None:
        """The call that `event` is about; None if it is a provider's own tool that speaks like a client's."""
        slot = self._slots.find(event.output_index, event.item_id)
        if slot is not None and slot.type not in _OURS:
            return None
        return self._slots.of(event, type_)

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
            out.append(read_usage(response.usage))
        if status in ("failed", "cancelled"):
            # Reply keeps the provider's word; that the run failed is the next delta's message.
            out.append(FinishNotice(FinishReason.STOP, status))
            self._fail(read_fault(error, status), out)
            return
        if reason or status == "incomplete":
            out.append(Finish(_INCOMPLETE.get(reason, FinishReason.LENGTH), reason or status))
        else:
            out.append(Finish(FinishReason.STOP, status))
        self._phase = _Phase.ENDED
        out.append(End())

    def _take_output(self, output: list[Raw], out: list[Delta]) -> None:
        """Take what the terminal response holds and the stream did not say."""
        items = [read(WireItem, raw) for raw in output]
        for item, raw, slot in zip(items, output, self._slots.matches(items), strict=True):
            self._finish_item(slot or self._slots.open(item.type, None, item.id), item, raw, out)

    def _take_error(self, event: WireEvent, out: list[Delta]) -> None:
        out.append(FinishNotice(FinishReason.STOP, "failed"))
        self._fail(read_error_event(event), out)


def _holder(entry: WireContent) -> str:
    """The type of the item whose `content` holds such an entry."""
    return "reasoning" if entry.type == "reasoning_text" else "message"


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
