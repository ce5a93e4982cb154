"""Anthropic Messages: the bytes of one streamed reply to deltas.

Source: Anthropic's "Streaming Messages" and the event types of its Python SDK. A reply is `message_start`, then blocks
(`content_block_start`, `content_block_delta`, `content_block_stop`, told apart by `index`), then at least one
`message_delta` with the stop reason and cumulative usage, then `message_stop`, without which it is truncated.

- The type inside the data counts, the `event:` line only where the data has none: proxies strip it (case 9).
- Blocks of unknown type are the provider's own and are kept verbatim; unknown events and deltas are skipped.
- A delta that its block cannot hold, or for a block that never began, is a failure: whoever skips it loses words.
- Odd servers (numbers for ids, text for indexes, lone surrogates, null text) are read once more, slowly.
"""

import enum
import json
from typing import Final

from ...machine.deltas import (
    CallDelta,
    CallEnd,
    CallTotal,
    CitationDelta,
    Delta,
    End,
    Eof,
    Failure,
    FinishNotice,
    FinishReason,
    Key,
    PartEnd,
    ProviderDelta,
    ReasoningDelta,
    SignatureDelta,
    Started,
    TextDelta,
    UsageDelta,
)
from ...machine.errors import RunError
from ..sse import SseDecoder, SseEvent
from .anthropic_messages_events import (
    WireEvent,
    WireMessage,
    WireUsage,
    is_said,
    read_block,
    read_error,
    read_event,
    read_object,
    text,
)
from .faults import unreadable
from .plain_text import PlainText
from .verbatim import verbatim

# `compaction` is Anthropic's word for a pause asked for by `pause_after_compaction`: the caller resends and goes on.
_REASONS: Final = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "pause_turn": FinishReason.PAUSE,
    "compaction": FinishReason.PAUSE,
    "refusal": FinishReason.CONTENT_FILTER,
    "model_context_window_exceeded": FinishReason.CONTEXT_LENGTH,
}
_OUR_EVENTS: Final = frozenset(
    ("", "message", "message_start", "content_block_start", "content_block_delta", "content_block_stop",
     "message_delta", "message_stop")
)  # fmt: skip


class _Kind(enum.Enum):
    """What the block at an index is."""

    TEXT = enum.auto()
    REASONING = enum.auto()
    CALL = enum.auto()
    COMPACTION = enum.auto()
    PROVIDER = enum.auto()
    UNKNOWN = enum.auto()
    """Newer than this file. It may have words and signatures that cannot be told apart from misplaced ones."""


_KINDS: Final = {
    "text": _Kind.TEXT,
    "thinking": _Kind.REASONING,
    "tool_use": _Kind.CALL,
    "compaction": _Kind.COMPACTION,
    "redacted_thinking": _Kind.PROVIDER,
    "container_upload": _Kind.PROVIDER,
    "fallback": _Kind.PROVIDER,
}
_PROVIDER_SUFFIXES: Final = ("_tool_use", "_tool_result")


class _OpenBlock:
    """`input` is the arguments that came with a call's start and have not been passed on; `raw` a compaction."""

    __slots__ = ("input", "key", "kind", "raw")

    def __init__(self, kind: _Kind, key: Key, raw: bytes) -> None:
        self.kind = kind
        self.key = key
        self.raw = raw
        self.input = ""


class _Phase(enum.Enum):
    WAITING = enum.auto()
    STREAMING = enum.auto()
    FINISHING = enum.auto()
    """The stop reason is known, `message_stop` has yet to come."""
    OVER = enum.auto()
    """Ended or failed: nothing is read any more."""


class AnthropicMessagesDecoder:
    """A `Decoder` of the Messages stream. `max_event_bytes` bounds one event; a fetched document is one event."""

    def __init__(self, max_event_bytes: int = 8 * 1024 * 1024) -> None:
        self._sse = SseDecoder(max_event_bytes)
        self._plain = PlainText(self._sse, read_event)
        self._phase = _Phase.WAITING
        self._blocks: dict[int, _OpenBlock] = {}
        self._begun = 0
        self._latest = -1

    def feed(self, data: bytes) -> list[Delta]:
        """Return the deltas that `data` completes, in wire order, possibly none; after `End` or `Failure`, none."""
        if (delta := self._plain.match(data)) is not None:
            return [delta]
        out: list[Delta] = []
        if self._is_over():
            return out
        for item in self._sse.feed(data):
            if isinstance(item, SseEvent):
                self._take(item, out)
            else:
                self._fail(unreadable("event_stream"), out)
            if self._is_over():
                break
        self._plain.learn(data, out)
        return out

    def eof(self) -> list[Delta]:
        """Return the last deltas, `Eof` the very last. Half an event is no event: `Eof` alone then says truncated."""
        out: list[Delta] = []
        if not self._is_over() and not self._sse.eof():
            pending = self._sse.take_pending()
            if pending is not None and (_is_done(pending) or read_event(pending.data) is not None):
                self._take(pending, out)
        self._phase = _Phase.OVER
        out.append(Eof())
        return out

    def _is_over(self) -> bool:
        return self._phase is _Phase.OVER

    def _take(self, item: SseEvent, out: list[Delta]) -> None:
        event = read_event(item.data)
        if event is None:
            self._take_unreadable(item, out)
            return
        kind = event.type or item.event
        if kind == "error" or item.event == "error" or is_said(event.error):
            self._fail(read_error(item.data), out)
        elif kind == "content_block_delta":
            self._take_delta(event, item.data, out)
        elif kind == "content_block_start":
            index = self._latest + 1 if event.index is None else event.index
            self._start_block(index, verbatim(event.content_block), out)
        elif kind == "content_block_stop":
            self._stop_block(self._latest if event.index is None else event.index, out)
        elif kind == "message_start":
            self._start_message(event.message or WireMessage(), out)
        elif kind == "message_delta":
            self._take_message_delta(event, out)
        elif kind == "message_stop":
            self._pass_inputs(out)
            self._end(out)

    def _take_unreadable(self, item: SseEvent, out: list[Delta]) -> None:
        if item.event == "error":
            self._fail(read_error(item.data), out)
        elif _is_done(item):
            # Gateways add it. Before the stop reason it ends nothing: they also send it when their own upstream broke.
            if self._phase is _Phase.FINISHING:
                self._end(out)
        elif item.data.strip() and item.event in _OUR_EVENTS:
            self._fail(unreadable("json"), out)

    def _start_message(self, message: WireMessage, out: list[Delta]) -> None:
        out.append(Started(message.model))
        usage = message.usage
        if self._phase is not _Phase.WAITING:
            # Repeated by some gateways. Its content and its output_tokens, a placeholder, are older than what we know.
            if usage is not None:
                out.append(_usage(usage, None))
            return
        self._phase = _Phase.STREAMING
        if usage is not None:
            out.append(_usage(usage, usage.output_tokens))
        # A reply that goes on after a client tool was called by server code may carry whole blocks here.
        for index, block in enumerate(message.content):
            self._start_block(index, verbatim(block), out)
            if self._is_over():
                break
            self._stop_block(index, out)

    def _start_block(self, index: int, raw: bytes, out: list[Delta]) -> None:
        block = read_block(raw)
        if block is None:
            self._fail(unreadable("content_block_start"), out)
            return
        if self._phase is _Phase.WAITING:
            self._phase = _Phase.STREAMING
        kind = _kind(block.type)
        key: Key = index
        replaced = self._blocks.get(index)
        if replaced is not None:
            # After a repeated message_start indexes begin anew, but this is another block.
            key = f"{index}.{self._begun}"
            self._pass_input(replaced, out)
        opened = _OpenBlock(kind, key, raw if kind is _Kind.COMPACTION else b"")
        self._blocks[index] = opened
        self._begun += 1
        self._latest = index
        if kind is _Kind.TEXT:
            out.append(TextDelta(block.text, key))
            out.extend(CitationDelta(bytes(citation), key) for citation in block.citations or ())
        elif kind is _Kind.REASONING:
            out.append(ReasoningDelta(block.thinking, key))
            if block.signature:
                out.append(SignatureDelta(block.signature, key))
        elif kind is _Kind.CALL:
            opened.input = block.arguments()
            out.append(CallDelta(key, block.id, block.name, raw=raw))
        else:
            out.append(ProviderDelta(key, block.type, raw))

    def _take_delta(self, event: WireEvent, data: bytes, out: list[Delta]) -> None:
        delta = event.delta
        block = self._blocks.get(self._latest if event.index is None else event.index)
        if block is None:
            self._fail(unreadable("unknown_block"), out)
            return
        if delta is None or not delta.type:
            self._fail(unreadable("untyped_delta"), out)
            return
        kind = block.kind
        if delta.type == "text_delta":
            if kind is _Kind.TEXT:
                out.append(TextDelta(delta.text, block.key))
            elif delta.text and kind is not _Kind.UNKNOWN:
                self._fail(unreadable("misplaced_delta"), out)
        elif delta.type == "input_json_delta":
            # The first one is empty as a rule.
            if delta.partial_json:
                self._take_input(block, delta.partial_json, out)
        elif delta.type == "thinking_delta":
            if kind is _Kind.REASONING:
                out.append(ReasoningDelta(delta.thinking, block.key))
            elif delta.thinking and kind is not _Kind.UNKNOWN:
                self._fail(unreadable("misplaced_delta"), out)
        elif delta.type == "signature_delta":
            if kind is _Kind.REASONING and delta.signature:
                out.append(SignatureDelta(delta.signature, block.key))
        elif delta.type == "citations_delta":
            if kind is _Kind.TEXT and is_said(delta.citation):
                out.append(CitationDelta(verbatim(delta.citation), block.key))
        elif delta.type == "compaction_delta":
            self._take_compaction(block, data, out)

    def _take_input(self, block: _OpenBlock, fragment: str, out: list[Delta]) -> None:
        if block.kind is _Kind.CALL:
            block.input = ""
            out.append(CallDelta(block.key, arguments=fragment))
        elif block.kind in (_Kind.PROVIDER, _Kind.UNKNOWN):
            out.append(ProviderDelta(block.key, fragment=fragment))
        else:
            self._fail(unreadable("misplaced_delta"), out)

    def _take_compaction(self, block: _OpenBlock, data: bytes, out: list[Delta]) -> None:
        """Take a compaction's summary. What else comes with it (`encrypted_content`) has to go back with the block."""
        if block.kind is not _Kind.COMPACTION:
            self._fail(unreadable("misplaced_delta"), out)
            return
        try:
            delta = read_object(data)["delta"]
            more = {name: delta[name] for name in delta.keys() - {"type", "content"} if delta[name] is not None}
            raw = json.dumps({**read_object(block.raw), **more}).encode() if more else b""
        except (ValueError, RecursionError):
            self._fail(unreadable("compaction_delta"), out)
            return
        block.raw = raw or block.raw
        out.append(ProviderDelta(block.key, raw=raw, fragment=text(delta.get("content"))))

    def _stop_block(self, index: int, out: list[Delta]) -> None:
        block = self._blocks.get(index)
        if block is None:
            return
        if block.kind is _Kind.CALL:
            self._pass_input(block, out)
            out.append(CallEnd(block.key))
        else:
            out.append(PartEnd(block.key))

    def _take_message_delta(self, event: WireEvent, out: list[Delta]) -> None:
        usage = event.usage
        if usage is not None:
            out.append(_usage(usage, usage.output_tokens))
        word = event.delta.stop_reason if event.delta is not None else None
        if word:
            self._pass_inputs(out)
            self._phase = _Phase.FINISHING
            out.append(FinishNotice(_REASONS.get(word, FinishReason.STOP), word))

    def _pass_inputs(self, out: list[Delta]) -> None:
        for block in self._blocks.values():
            self._pass_input(block, out)

    def _pass_input(self, block: _OpenBlock, out: list[Delta]) -> None:
        """Pass on the arguments that came with a call's start, unless deltas brought them."""
        if block.input:
            out.append(CallTotal(block.key, arguments=block.input))
            block.input = ""

    def _end(self, out: list[Delta]) -> None:
        self._phase = _Phase.OVER
        out.append(End())

    def _fail(self, error: RunError, out: list[Delta]) -> None:
        self._phase = _Phase.OVER
        out.append(Failure(error))


def _is_done(item: SseEvent) -> bool:
    return item.data.strip() == b"[DONE]"


def _kind(type_: str) -> _Kind:
    known = _KINDS.get(type_)
    if known is not None:
        return known
    return _Kind.PROVIDER if type_.endswith(_PROVIDER_SUFFIXES) else _Kind.UNKNOWN


def _usage(usage: WireUsage, output_tokens: int | None) -> UsageDelta:
    details = usage.output_tokens_details
    return UsageDelta(
        input_tokens=usage.input_tokens,
        output_tokens=output_tokens,
        cached_tokens=usage.cache_read_input_tokens,
        cache_write_tokens=usage.cache_creation_input_tokens,
        reasoning_tokens=None if details is None else details.thinking_tokens,
    )
