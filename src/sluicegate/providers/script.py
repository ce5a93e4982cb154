"""The vocabulary of scripts: what a scripted model does, in order, and what that means in deltas.

A reply is a list of actions. Besides the actions below it may hold any delta that an encoder takes (`Finish` overrides
the finish reason, `UsageDelta` the usage, `CallDelta`s interleave calls) and `bytes`, which go out as they are. What a
reply leaves out is added: the start, plain usage, the finish reason that fits, and the end. A reply made of bytes alone
gets none of that: it is a recording.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from ..machine.deltas import (
    CallDelta,
    CallEnd,
    End,
    Failure,
    Finish,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    UsageDelta,
)
from ..machine.errors import ErrorCode, RunError
from ..wire.downstream.dialect import Spoken


class Say(msgspec.Struct, frozen=True):
    """Text, `words` words to a delta (0: all in one), `rate` words a second (0: without a pause)."""

    text: str
    words: int = 1
    rate: float = 0.0


class Think(msgspec.Struct, frozen=True):
    """Reasoning, cut and paced as in `Say`, with its signature at the end."""

    text: str
    signature: str = ""
    words: int = 1
    rate: float = 0.0


class Refuse(msgspec.Struct, frozen=True):
    """The words of a refusal, cut and paced as in `Say`."""

    text: str
    words: int = 1
    rate: float = 0.0


class Call(msgspec.Struct, frozen=True):
    """A tool call; `arguments` is a mapping or raw text, sent `size` characters to a delta (0: all in one).

    `call_id` is made up where it is "", unique within a conversation.
    """

    name: str
    arguments: Mapping[str, object] | str = ""
    call_id: str = ""
    size: int = 8


class Pause(msgspec.Struct, frozen=True):
    """Nothing for `seconds`; before a `Status` or `Unreachable`, the headers wait too."""

    seconds: float


class Fail(msgspec.Struct, frozen=True):
    """The provider reports an error inside its stream, in the words of its dialect; nothing follows."""

    code: ErrorCode = ErrorCode.UPSTREAM_ERROR
    message: str = "The scripted provider failed."
    retryable: bool = False


class Status(msgspec.Struct, frozen=True):
    """An HTTP error instead of a stream. b"" for `body` means the dialect's own error body for `status`."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Unreachable(msgspec.Struct, frozen=True):
    """No connection: the request fails before there is a response."""


class Cut(msgspec.Struct, frozen=True):
    """The body ends here, in order, without the terminal event."""


class Reset(msgspec.Struct, frozen=True):
    """The connection breaks here: the reader gets a read error."""


class Stall(msgspec.Struct, frozen=True):
    """Nothing more, for ever, on an open connection."""


Stop: TypeAlias = Cut | Reset | Stall
Action: TypeAlias = Say | Think | Refuse | Call | Pause | Fail | Status | Unreachable | Stop | Spoken | bytes
Reply: TypeAlias = Sequence[Action]
Moment: TypeAlias = Spoken | Pause | Stop | bytes

_WORDLESS: Final = (bytes, Pause, Cut, Reset, Stall)
_COUNTED: Final = (TextDelta, ReasoningDelta, RefusalDelta, CallDelta)
_LAST: Final = (End, Failure, Cut, Reset, Stall)
_word = re.compile(r"\S*\s+|\S+").findall


def perform(reply: Reply, *, call_prefix: str = "call", input_tokens: int = 1) -> Iterator[Moment]:
    """Yield what `reply` does, moment by moment; the last one is its `End`, `Failure` or `Stop`, or of a recording.

    `call_prefix` begins the ids of calls that have none; `input_tokens` is the prompt in usage that the script leaves
    out. `Status` and `Unreachable` are no moments of a stream, the caller looks for them first: ValueError here.
    """
    if any(isinstance(action, bytes) for action in reply) and all(isinstance(action, _WORDLESS) for action in reply):
        yield from _moments(reply, call_prefix)
        return
    counting = not any(isinstance(action, UsageDelta) for action in reply)
    output_tokens = 0
    if counting:
        yield UsageDelta(input_tokens=input_tokens)
    for moment in _moments(reply, call_prefix):
        if isinstance(moment, _COUNTED):
            output_tokens += 1
        elif counting and isinstance(moment, Finish | End):
            yield UsageDelta(output_tokens=output_tokens)
            counting = False
        yield moment
        if isinstance(moment, _LAST):
            return
    if counting:
        yield UsageDelta(output_tokens=output_tokens)
    yield End()


def shortened(reply: Reply, most: int | None) -> Reply:
    """Return `reply` as a model gives it that may say no more than `most` tokens (None: any), each of a word: its text
    is cut off there, and a call that does not fit is left out.
    """
    if most is None:
        return reply
    kept: list[Action] = []
    most = max(most, 0)
    for action in reply:
        words = cut_words(action.text, 1) if isinstance(action, Say | Think | Refuse) else []
        spoken = _called(action, "", 0) if isinstance(action, Call) else words
        cost = sum(not isinstance(each, CallEnd) for each in spoken)
        if cost > most:
            if isinstance(action, Say | Think | Refuse):
                cut = msgspec.structs.replace(action, text="".join(words[:most]))
                kept.append(msgspec.structs.replace(cut, signature="") if isinstance(cut, Think) else cut)
            return [*kept, Finish(FinishReason.LENGTH, "")]
        most -= cost
        kept.append(action)
    return kept


def _moments(reply: Reply, call_prefix: str) -> Iterator[Moment]:
    calls = 0
    for action in reply:
        match action:
            case Say(text=text, words=words, rate=rate):
                yield from _paced((TextDelta(piece) for piece in cut_words(text, words)), words, rate)
            case Think(text=text, signature=signature, words=words, rate=rate):
                yield from _paced((ReasoningDelta(piece) for piece in cut_words(text, words)), words, rate)
                if signature:
                    yield SignatureDelta(signature)
            case Refuse(text=text, words=words, rate=rate):
                yield from _paced((RefusalDelta(piece) for piece in cut_words(text, words)), words, rate)
            case Call():
                yield from _called(action, f"{call_prefix}_{calls}", calls)
                calls += 1
            case Fail(code=code, message=message, retryable=retryable):
                yield Failure(RunError(code, message, retryable))
            case Status() | Unreachable():
                raise ValueError(f"{type(action).__name__} after the response has begun")
            case _:
                yield action


def _paced(deltas: Iterator[Spoken], words: int, rate: float) -> Iterator[Moment]:
    for delta in deltas:
        if rate:
            yield Pause(words / rate)
        yield delta


def _called(call: Call, made_id: str, key: int) -> Iterator[Moment]:
    arguments = call.arguments
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    size = call.size or len(text)
    yield CallDelta(key, call.call_id or made_id, call.name)
    for start in range(0, len(text), size or 1):
        yield CallDelta(key, arguments=text[start : start + size])
    yield CallEnd(key)


def cut_words(text: str, words: int) -> list[str]:
    """Return `text` in pieces of `words` words each, with the white space after them; joined they are `text`."""
    if not words:
        return [text]
    single = _word(text)
    return ["".join(single[start : start + words]) for start in range(0, len(single), words)]
