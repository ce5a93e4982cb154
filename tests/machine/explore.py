"""Breadth-first search over everything that a reply can be told, and an oracle that knows no table.

The oracle looks only at what went in and what came out: it keeps the parts that events opened and closed, and says
from them alone where the reply must be and which deltas a provider may send.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TypeVar

from sluicegate.machine.deltas import (
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
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    TextTotal,
    UsageDelta,
)
from sluicegate.machine.errors import ErrorCode, RemoteProtocolError, RunError
from sluicegate.machine.events import (
    CallBroken,
    CallReady,
    CitationAdded,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    ReplyEvent,
)
from sluicegate.machine.limits import ReplyLimits
from sluicegate.machine.parts import GrowingPart
from sluicegate.machine.reply import _NOWHERE, Reply
from sluicegate.machine.reply_table import State, Symbol

LIMITS = ReplyLimits(reply_bytes=60, argument_bytes=8, calls_per_step=2)
BROKEN = RunError(ErrorCode.UPSTREAM_ERROR, "broken")
TOO_LONG = "x" * 61

# Two calls by index, one without any name; every kind of part; every way to end.
ALPHABET: tuple[Delta, ...] = (
    Started("m"),
    TextDelta("a"),
    TextDelta("b", 7),
    TextTotal("ab", 7),
    TextDelta(TOO_LONG),
    ReasoningDelta("r"),
    ReasoningDelta("r", 8),
    ReasoningDelta("", 8, b"{}"),
    SignatureDelta("s"),
    RefusalDelta("n"),
    RefusalDelta("n", 8),
    CitationDelta(b'{"u":1}'),
    CallDelta(0, "A", "f", "{"),
    CallDelta(0, "", "", "}"),
    CallTotal(0, "A", "f", "{}"),
    CallDelta(1, "B", "g", "{}"),
    CallEnd(0),
    CallEnd(1),
    PartEnd(),
    PartEnd(7),
    PartEnd("p"),
    ProviderDelta("p", "search", b"{}"),
    ProviderDelta("p", "", b"", "q"),
    ProviderDelta("q", "fetch", b"{}"),
    UsageDelta(1, 2),
    Finish(FinishReason.STOP, "stop"),
    Finish(FinishReason.TOOL_CALLS, "tool_calls"),
    FinishNotice(FinishReason.LENGTH, "max_tokens"),
    End(),
    Eof(),
    Failure(BROKEN),
)
WORDS = {
    PartKind.TEXT: State.TEXT,
    PartKind.REASONING: State.REASONING,
    PartKind.REFUSAL: State.REFUSAL,
    PartKind.PROVIDER: State.PROVIDER,
}
OVER = (State.DONE, State.FAILED)
T = TypeVar("T")


class Wrong(AssertionError):
    """The machine did what the oracle does not allow."""


def require(condition: bool, what: str) -> None:
    """Raise Wrong unless `condition`."""
    if not condition:
        raise Wrong(what)


@dataclass
class Oracle:
    """What an observer knows of one reply from its inputs and events alone."""

    open: dict[int, PartKind] = field(default_factory=dict)
    text: dict[int, str] = field(default_factory=dict)
    kinds: dict[int, PartKind] = field(default_factory=dict)
    judged: set[int] = field(default_factory=set)
    state: State = State.WAITING

    def check(self, delta: Delta, symbol: Symbol, events: list[ReplyEvent], reply: Reply) -> None:
        """Check one accepted delta."""
        before = self.state
        if before in OVER:
            require(not events, "events after the end")
        for event in events:
            self._watch(event)
        self.state = self._expected(before, delta, symbol)
        require(reply.state is self.state, f"{before} {symbol}: {reply.state}, should be {self.state}")
        if self.state in OVER:
            require(not self.open, "a part is open after the end")
            calls = {part for part, kind in self.kinds.items() if kind is PartKind.CALL}
            require(calls == self.judged, "a call without a verdict")
            require((reply.error is not None) == (self.state is State.FAILED), "error and state disagree")

    def _watch(self, event: ReplyEvent) -> None:
        match event:
            case PartStarted(part=part, kind=kind):
                require(part not in self.kinds, "a part started twice")
                prose = [k for k in self.open.values() if k is not PartKind.CALL]
                require(kind is PartKind.CALL or not prose, "two parts of words open at once")
                self.open[part] = self.kinds[part] = kind
                self.text[part] = ""
            case PartDelta(part=part, kind=kind, text=text):
                require(self.open.get(part) is kind, "a delta for a part that is not open")
                self.text[part] += text
            case PartEnded(part=part, kind=kind):
                require(self.open.pop(part, None) is kind, "an end for a part that is not open")
            case CallReady(part=part) | CallBroken(part=part):
                require(self.kinds.get(part) is PartKind.CALL and part not in self.open, "a verdict on no ended call")
                require(part not in self.judged, "two verdicts on one call")
                self.judged.add(part)
            case CitationAdded():
                pass

    def _expected(self, before: State, delta: Delta, symbol: Symbol) -> State:
        """Where the reply must be now, from what is open, what was said and how it ended."""
        if before in OVER:
            return before
        finished = before in (State.FINISHING, State.FINISHED)
        if isinstance(delta, Failure) or symbol is Symbol.LIMIT:
            return State.FAILED
        if isinstance(delta, Eof):
            return State.DONE if before is State.FINISHED else State.FAILED
        if isinstance(delta, End):
            calls = PartKind.CALL in self.kinds.values()
            return State.DONE if finished or (self.kinds and not calls) else State.FAILED
        if finished:
            return before
        if isinstance(delta, Finish):
            return State.FINISHED
        if isinstance(delta, FinishNotice):
            return State.FINISHING
        prose = [kind for kind in self.open.values() if kind is not PartKind.CALL]
        if prose:
            return WORDS[prose[0]]
        if symbol in (Symbol.CALL_OPEN, Symbol.CALL_MORE):
            return State.CALL
        if symbol in (Symbol.START, Symbol.PART_END):
            return State.BETWEEN if before is State.WAITING or symbol is Symbol.PART_END else before
        return before


def may_be_sent(oracle: Oracle, delta: Delta, symbol: Symbol) -> bool:
    """True unless the provider breaks the protocol: a signature for no open reasoning, words for a call that ended."""
    if oracle.state in OVER:
        return True
    if isinstance(delta, SignatureDelta):
        return PartKind.REASONING in oracle.open.values()
    return symbol is not Symbol.CALL_LATE or oracle.state in (State.FINISHING, State.FINISHED)


def fingerprint(reply: Reply) -> object:
    """Everything about a reply that decides what may happen next; sizes are left out."""
    calls = tuple((call.key, call.call_id, call.state, _class(call)) for call in reply._calls.order)
    heard = "".join(part.text() for part in reply._parts if part.kind is PartKind.TEXT and part.key == 7)
    focus = (reply._focus.kind, reply._focus.key, reply._focus.index >= 0)
    provided = frozenset(reply._provider_parts) | frozenset(reply._reasoning_parts)
    return reply.state, focus, calls, bool(reply._parts), heard if "ab".startswith(heard) else "?", provided


def _class(call: GrowingPart) -> str:
    text = "".join(call.fragments)
    return text if text in ("", "{", "{}") else "?"


def copied(reply: Reply) -> Reply:
    """A deep copy, by hand because a search makes a million of them."""
    twin = shallow(reply)
    parts = {id(_NOWHERE): _NOWHERE}
    twin._parts = []
    for part in reply._parts:
        parts[id(part)] = piece = _piece(part)
        twin._parts.append(piece)
    twin._focus = parts[id(reply._focus)]
    twin._provider_parts = {key: parts[id(part)] for key, part in reply._provider_parts.items()}
    twin._reasoning_parts = {key: parts[id(part)] for key, part in reply._reasoning_parts.items()}
    twin._calls = calls = shallow(reply._calls)
    calls.order = [parts[id(part)] for part in calls.order]
    calls.outcomes = list(calls.outcomes)
    calls._by_key = {key: parts[id(part)] for key, part in calls._by_key.items()}
    calls._by_id = {key: parts[id(part)] for key, part in calls._by_id.items()}
    return twin


def shallow(thing: T) -> T:
    """What copy.copy does for an object without slots, several times as fast."""
    twin = object.__new__(type(thing))
    twin.__dict__.update(thing.__dict__)
    return twin


def _piece(part: GrowingPart) -> GrowingPart:
    piece = GrowingPart(part.kind, part.index, part.key, part.state)
    piece.held, piece.size, piece.call_id, piece.name = part.held, part.size, part.call_id, part.name
    piece.fragments, piece.raws = list(part.fragments), list(part.raws)
    piece.signatures, piece.citations = list(part.signatures), list(part.citations)
    return piece


def _watching(oracle: Oracle) -> Oracle:
    return Oracle(dict(oracle.open), dict(oracle.text), dict(oracle.kinds), set(oracle.judged), oracle.state)


@dataclass(frozen=True)
class Found:
    """What a search saw; `witness` is a shortest way to take each arrow."""

    states: int
    transitions: int
    witness: dict[tuple[State, Symbol], tuple[Delta, ...]]


def explore() -> Found:
    """Search breadth first through every order of ALPHABET; raise Wrong at the first thing the oracle forbids."""
    first = Reply(LIMITS)
    seen = {fingerprint(first)}
    queue: deque[tuple[Reply, Oracle, tuple[Delta, ...]]] = deque([(first, Oracle(), ())])
    witness: dict[tuple[State, Symbol], tuple[Delta, ...]] = {}
    transitions = 0
    while queue:
        reply, oracle, path = queue.popleft()
        twin, watcher = copied(reply), _watching(oracle)
        for delta in ALPHABET:
            transitions += 1
            if (symbol := step(twin, watcher, delta)) is None:
                continue  # a refusal changed nothing: the twin serves again
            witness.setdefault((reply.state, symbol), (*path, delta))
            key = fingerprint(twin)
            if key not in seen:
                seen.add(key)
                queue.append((twin, watcher, (*path, delta)))
            twin, watcher = copied(reply), _watching(oracle)
    return Found(len(seen), transitions, witness)


def step(reply: Reply, oracle: Oracle, delta: Delta) -> Symbol | None:
    """Tell `reply` one delta under the oracle's eyes; return its symbol, or None if it was rightly refused."""
    symbol = reply.classify(delta)
    legal = may_be_sent(oracle, delta, symbol)
    before = None if legal else fingerprint(reply)
    try:
        events = reply.receive(delta)
    except RemoteProtocolError:
        require(not legal, f"{oracle.state} refuses {symbol}")
        require(fingerprint(reply) == before, "a refused delta changed the reply")
        return None
    require(legal, f"{oracle.state} takes {symbol}")
    oracle.check(delta, symbol, events, reply)
    return symbol
