"""OpenAI Chat Completions: the bytes of one reply to deltas.

Source: `ChatCompletionChunk` of the official SDK (openai 3.54); what compatible servers do differently is in
`openai_chat_events` and, where no byte gives it away, in `profiles`.

Theory of operation: one event is one chunk; its first choice becomes deltas in a fixed order (reasoning, text and
citations, refusal, calls, finish reason, usage). A call's key is its index. The wire has no parts, so other keys are
None.

What reasoning is sent back in is said by `raw`: an object is one of `reasoning_details`, as it came; a JSON string is
the name of the message's field whose text this reasoning was (`"reasoning_content"`, `"reasoning"`, `"content"` for
thinking parts), said once per stream. `raw` of a call is `{"extra_content": ...}`. `openai_chat_request` reads them.
"""

from enum import Enum, auto
from typing import Final

from ...machine.deltas import (
    CallDelta,
    CallTotal,
    CitationDelta,
    Delta,
    End,
    Eof,
    Failure,
    Finish,
    FinishReason,
    ReasoningDelta,
    ReasoningTotal,
    RefusalDelta,
    RefusalTotal,
    Started,
    TextDelta,
    TextTotal,
)
from ...machine.errors import RunError
from ..sse import SseDecoder, SseEvent
from .faults import fault, unreadable
from .openai_chat_events import (
    WireCall,
    WireChoice,
    WireChunk,
    WireDelta,
    WireFunction,
    WirePart,
    read_bare_error,
    read_chunk,
    read_detail,
    read_error,
    read_error_event,
    read_usage,
)
from .plain_text import PlainText
from .profiles import AUTO, Profile
from .verbatim import verbatim

_DONE: Final = b"[DONE]"
_CHUNK_EVENTS: Final = ("", "message")
_FINISHES: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.CONTEXT_LENGTH,
    "model_context_window_exceeded": FinishReason.CONTEXT_LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.CONTENT_FILTER,
}
# Words with which servers end a reply that broke: OpenRouter, Zhipu, DeepSeek, vLLM and SGLang, Google.
_BREAKS: Final = frozenset({"error", "network_error", "insufficient_system_resource", "abort", "function_call_filter"})


class _Phase(Enum):
    OPEN = auto()
    ENDED = auto()
    """`[DONE]`, or a failure, is behind us."""


class OpenAIChatDecoder:
    """Decodes one reply; see `base.Decoder` for the contract. Choices but the first are skipped."""

    def __init__(self, profile: Profile = AUTO) -> None:
        self._profile = profile
        self._sse = SseDecoder()
        self._plain = PlainText(self._sse, read_chunk)
        self._phase = _Phase.OPEN
        self._model: str | None = None
        self._reasoning_field = ""

    def feed(self, data: bytes) -> list[Delta]:
        """See `base.Decoder`."""
        if (delta := self._plain.match(data)) is not None:
            return [delta]
        out: list[Delta] = []
        for item in self._sse.feed(data):
            if self._phase is _Phase.ENDED:
                break
            if isinstance(item, SseEvent):
                self._event(item, out)
            else:
                self._fail(unreadable("event_stream"), out)
        self._plain.learn(data, out)
        return out

    def eof(self) -> list[Delta]:
        """See `base.Decoder`. An event cut off in its middle is no event; that the stream ended early, Reply says."""
        out: list[Delta] = []
        self._sse.eof()
        pending = self._sse.take_pending()
        if pending is not None and self._phase is _Phase.OPEN and _is_whole(pending.data):
            self._event(pending, out)
        self._phase = _Phase.ENDED
        out.append(Eof())
        return out

    def _fail(self, error: RunError, out: list[Delta]) -> None:
        self._phase = _Phase.ENDED
        out.append(Failure(error))

    def _event(self, event: SseEvent, out: list[Delta]) -> None:
        data = event.data
        if event.event == "error":
            self._fail(read_error_event(data), out)
        elif data.strip() == _DONE:
            self._phase = _Phase.ENDED
            out.append(End())
        elif (chunk := read_chunk(data)) is not None:
            self._chunk(chunk, event, out)
        elif data and not data.isspace() and event.event in _CHUNK_EVENTS:
            self._fail(unreadable("json"), out)

    def _chunk(self, chunk: WireChunk, event: SseEvent, out: list[Delta]) -> None:
        error = read_error(bytes(chunk.error)) if chunk.error else None
        if error is None and chunk.choices is None and chunk.usage is None and event.event in _CHUNK_EVENTS:
            error = read_bare_error(event.data)
        if error is not None:
            self._fail(error, out)
            return
        if self._model is None or (chunk.model and not self._model):
            self._model = chunk.model or ""
            out.append(Started(self._model))
        usage = chunk.usage
        for position, choice in enumerate(chunk.choices or ()):
            if (position if choice.index is None else choice.index) == 0:
                self._choice(choice, chunk.object == "chat.completion", out)
                if self._phase is _Phase.ENDED:
                    return
                usage = usage or choice.usage
        if usage is None and chunk.x_groq is not None:
            usage = chunk.x_groq.usage
        if usage is not None and (said := read_usage(usage)) is not None:
            out.append(said)

    def _choice(self, choice: WireChoice, is_whole: bool, out: list[Delta]) -> None:
        error = read_error(bytes(choice.error)) if choice.error else None
        if error is not None:
            self._fail(error, out)
            return
        if choice.delta is not None:
            self._delta(choice.delta, out)
        elif choice.message is not None:
            said: list[Delta] = []
            self._delta(choice.message, said)
            out += _totals(said) if is_whole else said
        if choice.finish_reason:
            self._finish(choice.finish_reason, out)

    def _delta(self, delta: WireDelta, out: list[Delta]) -> None:
        content = delta.content
        self._reasoning(delta, out)
        if content:
            if isinstance(content, str):
                out.append(TextDelta(content))
            else:
                self._parts(content, bool(delta.reasoning_content or delta.reasoning), out)
        if delta.annotations:
            out += [CitationDelta(verbatim(raw)) for raw in delta.annotations]
        if delta.refusal:
            out.append(RefusalDelta(delta.refusal))
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._call(call, out)
        if delta.function_call is not None:
            self._say_call("function_call", "", delta.function_call, b"", out)

    def _reasoning(self, delta: WireDelta, out: list[Delta]) -> None:
        details = delta.reasoning_details
        text = delta.reasoning_content or delta.reasoning or ""
        if not details:
            if text:
                out.append(ReasoningDelta(text, raw=self._field(delta)))
            return
        if delta.reasoning_content and (field := self._field(delta)):
            out.append(ReasoningDelta("", raw=field))
        raws = [verbatim(raw) for raw in details]
        out.append(ReasoningDelta(text or "".join(map(read_detail, raws)), raw=raws[0]))
        out += [ReasoningDelta("", raw=raw) for raw in raws[1:]]

    def _field(self, delta: WireDelta) -> bytes:
        """The field that this reasoning came in, as `raw`, if it was not said yet."""
        return self._name_field("reasoning_content" if delta.reasoning_content else "reasoning")

    def _name_field(self, field: str) -> bytes:
        if field == self._reasoning_field:
            return b""
        self._reasoning_field = field
        return b'"%b"' % field.encode()

    def _parts(self, parts: list[WirePart], has_reasoning: bool, out: list[Delta]) -> None:
        for part in parts:
            if part.text:
                out.append(TextDelta(part.text))
            elif not has_reasoning and (text := _thinking(part)):
                out.append(ReasoningDelta(text, raw=self._name_field("content")))

    def _call(self, call: WireCall, out: list[Delta]) -> None:
        raw = b'{"extra_content":%b}' % verbatim(call.extra_content) if call.extra_content else b""
        self._say_call(call.index, call.id or "", call.function or _NO_FUNCTION, raw, out)

    def _say_call(
        self, key: int | str | None, call_id: str, function: WireFunction, raw: bytes, out: list[Delta]
    ) -> None:
        name, arguments = function.name or "", function.arguments or ""
        if call_id or name or arguments or raw:
            kind = CallTotal if self._profile.cumulative_arguments else CallDelta
            out.append(kind(key, call_id, name, arguments, raw))

    def _finish(self, raw: str, out: list[Delta]) -> None:
        word = raw.lower().partition(":")[0]  # Google says why after a colon
        if word in _BREAKS:
            self._fail(fault("", raw), out)
        else:
            out.append(Finish(_FINISHES.get(word, FinishReason.STOP), raw))


_NO_FUNCTION: Final = WireFunction()


def _thinking(part: WirePart) -> str:
    if isinstance(part.thinking, list):
        return "".join(inner.text or "" for inner in part.thinking)
    return part.thinking or ""


def _totals(said: list[Delta]) -> list[Delta]:
    """What a whole reply sent as one event says: it may come after the deltas that it repeats."""
    reasoning = [delta for delta in said if isinstance(delta, ReasoningDelta)]
    out: list[Delta] = [ReasoningDelta("", raw=delta.raw) for delta in reasoning if delta.raw]
    out.append(ReasoningTotal("".join(delta.text for delta in reasoning)))
    out.append(TextTotal("".join(delta.text for delta in said if isinstance(delta, TextDelta))))
    out += [delta for delta in said if isinstance(delta, CitationDelta)]
    out.append(RefusalTotal("".join(delta.text for delta in said if isinstance(delta, RefusalDelta))))
    calls = [delta for delta in said if isinstance(delta, CallDelta | CallTotal)]
    for position, call in enumerate(calls):
        key = position if call.key is None else call.key
        out.append(CallTotal(key, call.call_id, call.name, call.arguments, call.raw))
    return out


def _is_whole(data: bytes) -> bool:
    return data.strip() == _DONE or read_chunk(data) is not None
