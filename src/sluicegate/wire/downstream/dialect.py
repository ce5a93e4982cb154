"""What the three provider dialects share as encoders: which deltas they take, and when a part begins and ends.

A dialect adds only its own words (the hooks at the end of `DialectEncoder`). Like a decoder it reads no clock and draws
no id: the caller gives both.
"""

from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import TypeAlias

import msgspec

from ...machine.deltas import (
    CallDelta,
    CallEnd,
    End,
    Failure,
    Finish,
    FinishReason,
    Key,
    PartEnd,
    ProviderDelta,
    ReasoningDelta,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    UsageDelta,
)
from ...machine.errors import ErrorCode, LocalProtocolError, RunError
from ...machine.events import PartKind

Spoken: TypeAlias = (
    Started
    | TextDelta
    | ReasoningDelta
    | SignatureDelta
    | RefusalDelta
    | CallDelta
    | CallEnd
    | ProviderDelta
    | PartEnd
    | UsageDelta
    | Finish
    | End
    | Failure
)
"""The deltas that an encoder takes: those that say something new. A `CallDelta` with a name begins a call."""


class OpenPart(msgspec.Struct):
    """A part on its way out. `index` counts all parts of the reply from 0, `call_index` its calls."""

    kind: PartKind
    index: int
    key: Key
    call_index: int = 0
    call_id: str = ""
    name: str = ""
    raw: bytes = b""
    pieces: list[str] = []
    signatures: list[str] = []


class _Phase(Enum):
    NEW = auto()
    OPEN = auto()
    FINISHED = auto()
    ENDED = auto()


class DialectEncoder(ABC):
    """One reply to one body of server-sent events, in order and complete.

    `encode` returns whole frames (LF only), b"" where the dialect has no word for the delta. Any order of deltas gives
    a legal body: a missing `Started` or `Finish` is supplied, a part ends where the next text, reasoning or refusal
    begins or where the reply finishes. Calls and provider parts stay open side by side until they are ended. Usage is
    cumulative and written at the latest possible place. The last delta is `End` or `Failure`; a `Failure` for a content
    filter is told as the dialect tells its own filter. `ProviderDelta.raw` has to be of this dialect.

    Raises LocalProtocolError, and changes nothing, for content after the finish, for anything after the end, and for
    arguments of a call or a fragment of a provider part that never began.
    """

    def __init__(self, model: str, *, reply_id: str, created: int = 0) -> None:
        """`reply_id` goes out as it is, `created` in Unix seconds; `model` is what a `Started` without a name means."""
        self._model = model
        self._id = reply_id
        self._created = created
        self._phase = _Phase.NEW
        self._prose: OpenPart | None = None
        self._keyed: dict[Key, OpenPart] = {}
        self._last_call: OpenPart | None = None
        self._begun = 0
        self._calls = 0
        self._usage: UsageDelta | None = None
        self._finish: Finish | None = None

    def encode(self, delta: Spoken) -> bytes:
        """Return the frames that say `delta`."""
        if self._phase is _Phase.ENDED:
            raise LocalProtocolError(f"{type(delta).__name__} after the end of the reply")
        out: list[bytes] = []
        match delta:
            case TextDelta(text=text, key=key):
                self._say(out, PartKind.TEXT, key, text)
            case ReasoningDelta(text=text, key=key):
                self._say(out, PartKind.REASONING, key, text)
            case RefusalDelta(text=text, key=key):
                self._say(out, PartKind.REFUSAL, key, text)
            case SignatureDelta(signature=signature, key=key):
                out.append(self._signed(self._say(out, PartKind.REASONING, key, ""), signature))
            case CallDelta():
                self._call(out, delta)
            case CallEnd(key=key):
                self._end_call(out, key)
            case ProviderDelta():
                self._provide(out, delta)
            case PartEnd(key=key):
                self._end_part(out, key)
            case Started(model=model):
                if self._phase is _Phase.NEW:
                    self._model = model or self._model
                    self._enter(out)
            case UsageDelta():
                self._usage = merged(self._usage, delta)
            case Finish():
                self._finish_reply(out, delta)
            case End():
                self._end_reply(out)
            case _:
                self._fail_reply(out, delta.error)
        return b"".join(out)

    def _enter(self, out: list[bytes]) -> None:
        if self._phase is _Phase.FINISHED:
            raise LocalProtocolError("content after the finish of the reply")
        if self._phase is _Phase.NEW:
            self._phase = _Phase.OPEN
            out.append(self._started())

    def _begin(self, out: list[bytes], part: OpenPart) -> OpenPart:
        self._end_prose(out)
        self._begun += 1
        out.append(self._part_started(part))
        return part

    def _say(self, out: list[bytes], kind: PartKind, key: Key, text: str) -> OpenPart:
        self._enter(out)
        part = self._prose
        if part is None or part.kind is not kind or (key is not None and part.key != key):
            self._prose = part = self._begin(out, OpenPart(kind, self._begun, key))
        if text:
            out.append(self._part_delta(part, text))
        return part

    def _call(self, out: list[bytes], delta: CallDelta) -> None:
        part = self._last_call if delta.key is None else self._keyed.get(delta.key)
        if delta.name:
            self._enter(out)
            self._end_keyed(out, delta.key)
            part = OpenPart(PartKind.CALL, self._begun, delta.key, self._calls, delta.call_id, delta.name)
            self._calls += 1
            self._last_call = self._keyed[delta.key] = self._begin(out, part)
        elif part is None or part.kind is not PartKind.CALL:
            raise LocalProtocolError("arguments of a tool call that has no name")
        if delta.arguments:
            out.append(self._part_delta(part, delta.arguments))

    def _provide(self, out: list[bytes], delta: ProviderDelta) -> None:
        part = self._keyed.get(delta.key)
        if part is not None and part.kind is PartKind.PROVIDER:
            part.raw = delta.raw or part.raw
        elif delta.raw:
            self._enter(out)
            self._end_keyed(out, delta.key)
            part = OpenPart(PartKind.PROVIDER, self._begun, delta.key, name=delta.kind, raw=delta.raw)
            self._keyed[delta.key] = self._begin(out, part)
        else:
            raise LocalProtocolError("fragment of a provider part that has no block")
        if delta.fragment:
            out.append(self._part_delta(part, delta.fragment))

    def _end_prose(self, out: list[bytes]) -> None:
        if self._prose is not None:
            out.append(self._part_ended(self._prose))
            self._prose = None

    def _end_keyed(self, out: list[bytes], key: Key) -> None:
        part = self._keyed.pop(key, None)
        if part is not None:
            out.append(self._part_ended(part))
        if part is self._last_call:
            self._last_call = None

    def _end_call(self, out: list[bytes], key: Key) -> None:
        part = self._last_call if key is None else self._keyed.get(key)
        if part is not None and part.kind is PartKind.CALL:
            self._end_keyed(out, part.key)

    def _end_part(self, out: list[bytes], key: Key) -> None:
        part = self._keyed.get(key)
        if self._prose is not None and (key is None or self._prose.key == key):
            self._end_prose(out)
        elif part is not None and part.kind is PartKind.PROVIDER:
            self._end_keyed(out, key)

    def _finish_reply(self, out: list[bytes], finish: Finish) -> None:
        self._enter(out)
        self._finish = finish
        self._phase = _Phase.FINISHED
        self._end_prose(out)
        for key in tuple(self._keyed):
            self._end_keyed(out, key)
        out.append(self._finished(finish))

    def _end_reply(self, out: list[bytes], reason: FinishReason | None = None) -> None:
        if self._finish is None:
            made = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
            self._finish_reply(out, Finish(reason or made, ""))
        self._phase = _Phase.ENDED
        out.append(self._ended())

    def _fail_reply(self, out: list[bytes], error: RunError) -> None:
        if error.code is ErrorCode.CONTENT_FILTER:
            self._end_reply(out, FinishReason.CONTENT_FILTER)
            return
        self._phase = _Phase.ENDED
        out.append(self._failed(error))

    @abstractmethod
    def _started(self) -> bytes:
        """The reply begins."""

    @abstractmethod
    def _part_started(self, part: OpenPart) -> bytes:
        """A part begins."""

    @abstractmethod
    def _part_delta(self, part: OpenPart, text: str) -> bytes:
        """More of an open part, never ""."""

    @abstractmethod
    def _signed(self, part: OpenPart, signature: str) -> bytes:
        """A piece of the signature of an open reasoning part."""

    @abstractmethod
    def _part_ended(self, part: OpenPart) -> bytes:
        """A part ends; `_finish` is set where the finish ended it."""

    @abstractmethod
    def _finished(self, finish: Finish) -> bytes:
        """All parts have ended, and why."""

    @abstractmethod
    def _ended(self) -> bytes:
        """The wire's explicit end, after `_finished`."""

    @abstractmethod
    def _failed(self, error: RunError) -> bytes:
        """The wire's error; parts may be open, and the reply may not have begun."""


def merged(before: UsageDelta | None, now: UsageDelta) -> UsageDelta:
    """Return `before` with every figure that `now` says."""
    if before is None:
        return now
    later = {name: value for name in now.__struct_fields__ if (value := getattr(now, name)) is not None}
    return msgspec.structs.replace(before, **later)
