"""Replies of any length for the benchmarks and the shape tests: the same deltas on every dialect's real wire."""

from collections.abc import Iterable, Sequence

from sluicegate.machine.deltas import (
    CallDelta,
    Delta,
    End,
    Finish,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    UsageDelta,
)
from sluicegate.wire.downstream.anthropic_messages import MessagesEncoder
from sluicegate.wire.downstream.dialect import DialectEncoder, Spoken
from sluicegate.wire.downstream.openai_chat import ChatEncoder
from sluicegate.wire.downstream.openai_responses import ResponsesEncoder

ENCODERS: dict[str, type[DialectEncoder]] = {
    "openai_chat": ChatEncoder,
    "openai_responses": ResponsesEncoder,
    "anthropic": MessagesEncoder,
}
_WORDS = (" the", " answer", " is", ",", " quick\n", " na\u00efve", ' "x"', " zeta")
_STOP = (Finish(FinishReason.STOP, ""), UsageDelta(19, 500), End())
_CALLED = (Finish(FinishReason.TOOL_CALLS, ""), UsageDelta(19, 500), End())


def text(count: int) -> list[Spoken]:
    """A reply of `count` text deltas, without its beginning and its end."""
    return [TextDelta(_WORDS[at % len(_WORDS)]) for at in range(count)]


def reasoning(count: int) -> list[Spoken]:
    """The same as reasoning."""
    return [ReasoningDelta(_WORDS[at % len(_WORDS)]) for at in range(count)]


def arguments(count: int, calls: int = 1) -> list[Spoken]:
    """`calls` tool calls whose arguments come in `count` deltas altogether, in turn: JSON text, valid at the end."""
    out: list[Spoken] = [CallDelta(call, f"call_{call}", "search", '{"query":"') for call in range(calls)]
    out += [CallDelta(at % calls, arguments="word ") for at in range(count)]
    return out + [CallDelta(call, arguments='"}') for call in range(calls)]


def whole(deltas: Iterable[Spoken]) -> list[Spoken]:
    """`deltas` with a beginning and an end."""
    body = list(deltas)
    called = any(isinstance(delta, CallDelta) for delta in body)
    return [Started("model"), *body, *(_CALLED if called else _STOP)]


def reads(dialect: str, deltas: Sequence[Spoken]) -> list[bytes]:
    """A reply on the wire of `dialect`, one read for each delta that it has a word for."""
    encoder = ENCODERS[dialect]("model", reply_id="reply_1")
    return [data for delta in deltas if (data := encoder.encode(delta))]


def as_deltas(deltas: Sequence[Spoken]) -> list[Delta]:
    """The same list as what a machine takes."""
    return list(deltas)
