"""`Reply`: one model reply, from deltas to parts. The table in `reply_table` decides; this file performs.

Theory of operation: `receive(delta)` asks `classify` what the delta means, looks the pair (state, symbol) up, performs
the arrow's actions and returns the events they made. Nothing else changes the reply.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from .calls import Calls
from .deltas import (
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
    Key,
    PartEnd,
    ProviderDelta,
    ReasoningDelta,
    ReasoningTotal,
    RefusalDelta,
    RefusalTotal,
    SignatureDelta,
    Started,
    TextDelta,
    TextTotal,
    Usage,
    UsageDelta,
)
from .errors import ErrorCode, RemoteProtocolError, RunError
from .events import (
    CallBroken,
    CallFault,
    CallReady,
    CitationAdded,
    Machine,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    Transition,
)
from .events import ReplyEvent as Event
from .history import AssistantMessage
from .limits import ReplyLimits, arguments_too_large, reply_too_large, too_many_calls
from .parts import GrowingPart, PartState
from .reply_table import TABLE, Action, State, Symbol
from .table import Arrow, Table
from .text import utf8_len
from .usage import BYTES_PER_TOKEN

TRUNCATED = RunError(
    ErrorCode.UPSTREAM_ERROR,
    "The provider's stream ended before the reply was complete.",
    retryable=True,
    truncated=True,
)
EMPTY = RunError(ErrorCode.UPSTREAM_ERROR, "The provider sent an empty reply.", retryable=True)

# What stands in for the open part while none is open.
_NOWHERE = GrowingPart(PartKind.CALL, -1, None, PartState.ENDED)

_MORE: Final = Arrow(State.TEXT, (Action.APPEND,))
_WORDS_DELTAS: Final = (TextDelta, ReasoningDelta, RefusalDelta)
_WordsDelta: TypeAlias = TextDelta | ReasoningDelta | RefusalDelta
_WordsTotal: TypeAlias = TextTotal | ReasoningTotal | RefusalTotal
_Words: TypeAlias = _WordsDelta | _WordsTotal


class Reply:
    """One model reply. `call_prefix` starts the ids that are made up for calls to which the provider gave none.

    With `traces` it tells its transitions, too. `table` is for those who check what a table does; everybody else leaves
    it alone.
    """

    def __init__(
        self,
        limits: ReplyLimits | None = None,
        call_prefix: str = "call_",
        table: Table[State, Symbol] = TABLE,
        *,
        traces: bool = False,
    ) -> None:
        self.state = State.WAITING
        self.error: RunError | None = None
        self.raw_finish_reason = ""
        self._table = table
        self._traces = traces
        self._limits = limits or ReplyLimits()
        self._parts: list[GrowingPart] = []
        self._provider_parts: dict[Key, GrowingPart] = {}
        self._reasoning_parts: dict[Key, GrowingPart] = {}
        self._focus = _NOWHERE
        self._calls = Calls(call_prefix)
        self._said = UsageDelta()
        self._noted: FinishReason | None = None
        self._size = 0
        # Where `more` may be asked: the table decides there, too.
        self._plain = State.TEXT if table[State.TEXT].get(Symbol.TEXT_MORE) == _MORE else None

    def more(self, delta: TextDelta) -> PartDelta | None:
        """The short way of `receive` for what comes with nearly every token, more plain words for the open text: return
        the one event that `receive` would. None, and nothing is changed, where it is anything else.
        """
        text, part = delta.text, self._focus
        if self.state is not self._plain or part.kind is not PartKind.TEXT or part.key != delta.key or part.held:
            return None
        if not text or not text.isascii() or self._size + len(text) > self._limits.reply_bytes:
            return None
        self._size += len(text)
        part.fragments.append(text)
        return PartDelta(part.index, PartKind.TEXT, text)

    def receive(self, delta: Delta) -> list[Event]:
        """Take one delta and return the events it causes, in order; after the reply's end, none.

        Raises RemoteProtocolError, and changes nothing, if the provider may not send this now.
        """
        symbol = _CLASSIFY[type(delta)](self, delta)
        arrow = self._table[self.state].get(symbol)
        if arrow is None:
            raise RemoteProtocolError(f"The provider sent {symbol} in state {self.state}.")
        events: list[Event] = []
        for action in arrow.actions:
            _PERFORM[action](self, delta, events)
        if self._traces and arrow.target is not self.state:
            events.insert(0, Transition(Machine.REPLY, self.state, symbol, arrow.target))
        self.state = arrow.target  # type: ignore[assignment]  # Arrow serves both machines; this table holds Reply's
        return events

    def classify(self, delta: Delta) -> Symbol:
        """Name what `delta` means for the reply as it stands. Pure."""
        return _CLASSIFY[type(delta)](self, delta)

    # -- what the reply came to -----------------------------------------------------------------------------------

    def message(self) -> AssistantMessage:
        """Return the reply so far as a message of the history, its parts in the order in which they began."""
        return AssistantMessage(tuple(part.frozen() for part in self._parts))

    @property
    def calls(self) -> list[CallReady | CallBroken]:
        """The calls that have ended, in the order in which they ended."""
        return self._calls.outcomes

    @property
    def finish_reason(self) -> FinishReason:
        """Why the reply ended. Where the provider's word and the parts disagree, the parts win (cases 33, 34)."""
        noted = self._noted or FinishReason.STOP
        if any(isinstance(call, CallBroken) and call.fault is CallFault.TRUNCATED for call in self.calls):
            return FinishReason.LENGTH
        if noted in (FinishReason.STOP, FinishReason.PAUSE) and self._calls.order:
            return FinishReason.TOOL_CALLS
        if noted is FinishReason.TOOL_CALLS and not self._calls.order:
            return FinishReason.STOP
        kinds = {part.kind for part in self._parts}
        if noted is FinishReason.STOP and PartKind.REFUSAL in kinds and PartKind.TEXT not in kinds:
            return FinishReason.CONTENT_FILTER
        return noted

    @property
    def usage(self) -> Usage | None:
        """The provider's last word on usage, or None if it never said any."""
        said = self._said
        if said.input_tokens is None and said.output_tokens is None:
            return None
        return Usage(
            input_tokens=said.input_tokens or 0,
            output_tokens=said.output_tokens or 0,
            cached_tokens=said.cached_tokens or 0,
            cache_write_tokens=said.cache_write_tokens or 0,
            reasoning_tokens=said.reasoning_tokens or 0,
        )

    @property
    def estimated_output_tokens(self) -> int:
        """What the reply so far costs by the published estimator."""
        return -(-self._size // BYTES_PER_TOKEN)  # `estimate_tokens`, inline: budgets ask with every token

    # -- classification -------------------------------------------------------------------------------------------

    def _classify_words(self, delta: _WordsDelta) -> Symbol:
        text = delta.text
        # Inline, here and in `append`: both come with every token.
        if self._size + (len(text) if text.isascii() else utf8_len(text)) > self._limits.reply_bytes:
            return Symbol.LIMIT
        kind, opening, more = _WORDS[type(delta)]
        focus = self._focus
        if not text and isinstance(delta, ReasoningDelta) and delta.raw and delta.key in self._reasoning_parts:
            # Providers send the whole item again when it is done, even after the next part began.
            return more if self._reasoning_parts[delta.key] is focus else Symbol.PART_UPDATE
        return more if focus.kind is kind and focus.key == delta.key else opening

    def _classify_total(self, delta: _WordsTotal) -> Symbol:
        kind, opening, more = _WORDS[type(delta)]
        news = self._news(kind, delta)
        if not news:
            return Symbol.NOTHING_NEW
        if self._size + utf8_len(news) > self._limits.reply_bytes:
            return Symbol.LIMIT
        return more if self._focus.kind is kind and self._focus.key == delta.key else opening

    def _news(self, kind: PartKind, total: _WordsTotal) -> str:
        """What `total` adds to what its key said so far; nothing where the two disagree: the deltas win."""
        known = "".join(part.text() + part.held for part in self._parts if part.kind is kind and part.key == total.key)
        return total.text[len(known) :] if total.text.startswith(known) else ""

    def _classify_provider(self, delta: ProviderDelta) -> Symbol:
        if self._size + len(delta.raw) + utf8_len(delta.fragment) > self._limits.reply_bytes:
            return Symbol.LIMIT
        known = self._provider_parts.get(delta.key)
        if known is None:
            return Symbol.PROVIDER_OPEN
        return Symbol.PROVIDER_MORE if known is self._focus else Symbol.PART_UPDATE

    def _classify_call(self, delta: CallDelta | CallTotal) -> Symbol:
        return Symbol.LIMIT if self._call_limit(delta) else self._calls.classify(delta)

    def _call_limit(self, delta: CallDelta | CallTotal) -> RunError | None:
        limits, size = self._limits, utf8_len(delta.arguments)
        call = self._calls.find(delta)
        if call is None and len(self._calls.order) >= limits.calls_per_step:
            return too_many_calls(limits)
        known = 0 if call is None else call.size
        if size + (known if isinstance(delta, CallDelta) else 0) > limits.argument_bytes:
            return arguments_too_large(limits)
        if self._size + size - (0 if isinstance(delta, CallDelta) else known) > limits.reply_bytes:
            return reply_too_large(limits)
        return None

    def _classify_call_end(self, delta: CallEnd) -> Symbol:
        return Symbol.CALL_END if self._calls.is_open(delta.key) else Symbol.NOTHING_NEW

    def _classify_part_end(self, delta: PartEnd) -> Symbol:
        open_here = self._focus is not _NOWHERE and self._focus.key == delta.key
        return Symbol.PART_END if open_here else Symbol.NOTHING_NEW

    def _classify_signature(self, _delta: SignatureDelta) -> Symbol:
        return Symbol.SIGNATURE if self._focus.kind is PartKind.REASONING else Symbol.SIGNATURE_STRAY

    def _classify_end(self, _delta: End) -> Symbol:
        if self._calls.order:
            return Symbol.END_WITH_CALLS
        return Symbol.END if self._parts else Symbol.END_EMPTY

    # -- actions --------------------------------------------------------------------------------------------------

    def _close(self, _delta: Delta, events: list[Event]) -> None:
        part = self._focus
        if part is _NOWHERE:
            return
        self._focus = _NOWHERE
        part.state = PartState.ENDED
        if rest := part.release():
            events.append(PartDelta(part.index, part.kind, rest))
        events.append(PartEnded(part.index, part.kind))

    def _open(self, delta: _Words | ProviderDelta, events: list[Event]) -> None:
        kind = _WORDS[type(delta)][0]
        part = GrowingPart(kind, len(self._parts), delta.key, PartState.OPEN)
        if isinstance(delta, ProviderDelta):
            part.name = delta.kind
            self._provider_parts[delta.key] = part
        elif kind is PartKind.REASONING and delta.key is not None:
            self._reasoning_parts[delta.key] = part
        self._parts.append(part)
        self._focus = part
        events.append(PartStarted(part.index, kind, name=part.name))

    def _append(self, delta: _Words | ProviderDelta, events: list[Event]) -> None:
        part = self._focus
        if isinstance(delta, _WORDS_DELTAS):  # first: one of them comes with every token
            text = delta.text
            if isinstance(delta, ReasoningDelta):
                self._note_raw(part, delta.raw)
        elif isinstance(delta, ProviderDelta):
            self._note_raw(part, delta.raw)
            text = delta.fragment
        else:
            text = self._news(part.kind, delta)
        if text:
            self._size += len(text) if text.isascii() else utf8_len(text)
            if text := part.take(text):
                events.append(PartDelta(part.index, part.kind, text))

    def _note_raw(self, part: GrowingPart, raw: bytes) -> None:
        if raw:
            part.raws.append(raw)
            self._size += len(raw)

    def _sign(self, delta: SignatureDelta, _events: list[Event]) -> None:
        self._focus.signatures.append(delta.signature)

    def _cite(self, delta: CitationDelta, events: list[Event]) -> None:
        texts = [part for part in self._parts if part.kind is PartKind.TEXT]
        if texts:
            texts[-1].citations.append(delta.raw)
        events.append(CitationAdded(delta.raw))

    def _update(self, delta: ProviderDelta | ReasoningDelta, _events: list[Event]) -> None:
        parts = self._provider_parts if isinstance(delta, ProviderDelta) else self._reasoning_parts
        part = parts[delta.key]
        self._note_raw(part, delta.raw)
        if isinstance(delta, ProviderDelta):
            self._size += utf8_len(delta.fragment)
            part.take(delta.fragment)

    def _open_call(self, delta: CallDelta | CallTotal, _events: list[Event]) -> None:
        self._parts.append(self._calls.open(delta, len(self._parts)))

    def _append_call(self, delta: CallDelta | CallTotal, events: list[Event]) -> None:
        call = self._calls.find(delta) or self._calls.order[-1]
        self._size += self._calls.append(call, delta, events)

    def _end_call(self, delta: CallEnd, events: list[Event]) -> None:
        self._calls.end_keyed(delta.key, events)

    def _end_calls(self, _delta: Delta, events: list[Event]) -> None:
        # A reply that broke off before it said why left its calls as a length limit does.
        self._calls.end_all(self._noted or FinishReason.LENGTH, events)

    def _note_usage(self, delta: UsageDelta, _events: list[Event]) -> None:
        said = self._said
        self._said = UsageDelta(
            *(
                getattr(said, field) if getattr(delta, field) is None else getattr(delta, field)
                for field in UsageDelta.__struct_fields__
            )
        )

    def _note_finish(self, delta: Finish | FinishNotice, _events: list[Event]) -> None:
        self._noted, self.raw_finish_reason = delta.reason, delta.raw

    def _infer_stop(self, _delta: Delta, _events: list[Event]) -> None:
        self._noted = FinishReason.STOP

    def _fail(self, delta: Failure, _events: list[Event]) -> None:
        self.error = delta.error

    def _fail_truncated(self, _delta: Delta, _events: list[Event]) -> None:
        self.error = TRUNCATED

    def _fail_empty(self, _delta: Delta, _events: list[Event]) -> None:
        self.error = EMPTY

    def _fail_limit(self, delta: Delta, _events: list[Event]) -> None:
        called = self._call_limit(delta) if isinstance(delta, CallDelta | CallTotal) else None
        self.error = called or reply_too_large(self._limits)


_WORDS: dict[type, tuple[PartKind, Symbol, Symbol]] = {
    TextDelta: (PartKind.TEXT, Symbol.TEXT_OPEN, Symbol.TEXT_MORE),
    TextTotal: (PartKind.TEXT, Symbol.TEXT_OPEN, Symbol.TEXT_MORE),
    ReasoningDelta: (PartKind.REASONING, Symbol.REASONING_OPEN, Symbol.REASONING_MORE),
    ReasoningTotal: (PartKind.REASONING, Symbol.REASONING_OPEN, Symbol.REASONING_MORE),
    RefusalDelta: (PartKind.REFUSAL, Symbol.REFUSAL_OPEN, Symbol.REFUSAL_MORE),
    RefusalTotal: (PartKind.REFUSAL, Symbol.REFUSAL_OPEN, Symbol.REFUSAL_MORE),
    ProviderDelta: (PartKind.PROVIDER, Symbol.PROVIDER_OPEN, Symbol.PROVIDER_MORE),
}


def _always(symbol: Symbol) -> Callable[[Reply, Any], Symbol]:
    return lambda _reply, _delta: symbol


_CLASSIFY: dict[type, Callable[[Reply, Any], Symbol]] = {
    TextDelta: Reply._classify_words,
    ReasoningDelta: Reply._classify_words,
    RefusalDelta: Reply._classify_words,
    TextTotal: Reply._classify_total,
    ReasoningTotal: Reply._classify_total,
    RefusalTotal: Reply._classify_total,
    ProviderDelta: Reply._classify_provider,
    CallDelta: Reply._classify_call,
    CallTotal: Reply._classify_call,
    CallEnd: Reply._classify_call_end,
    PartEnd: Reply._classify_part_end,
    End: Reply._classify_end,
    Started: _always(Symbol.START),
    SignatureDelta: Reply._classify_signature,
    CitationDelta: _always(Symbol.CITATION),
    UsageDelta: _always(Symbol.USAGE),
    Finish: _always(Symbol.FINISH),
    FinishNotice: _always(Symbol.FINISH_NOTICE),
    Eof: _always(Symbol.EOF),
    Failure: _always(Symbol.ERROR),
}
_PERFORM: dict[Any, Callable[[Reply, Any, list[Event]], None]] = {
    action: getattr(Reply, f"_{action}") for action in Action
}
