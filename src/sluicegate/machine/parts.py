"""A part of a reply while it grows: the only accumulator in sluicegate."""

from enum import StrEnum

from . import arguments, history
from .deltas import FinishReason, Key
from .events import CallBroken, CallFault, CallReady, PartKind
from .text import mend


class PartState(StrEnum):
    """A call is NAMELESS until clients can be told about it; every part is OPEN, then ENDED."""

    NAMELESS = "nameless"
    OPEN = "open"
    ENDED = "ended"


class GrowingPart:
    """Fragments of one part, joined at most once per reader of the whole; appending costs O(1)."""

    __slots__ = (
        "call_id",
        "citations",
        "fragments",
        "held",
        "index",
        "key",
        "kind",
        "name",
        "raws",
        "signatures",
        "size",
        "state",
    )

    def __init__(self, kind: PartKind, index: int, key: Key, state: PartState) -> None:
        self.kind = kind
        self.index = index
        self.key = key
        self.state = state
        self.fragments: list[str] = []
        self.held = ""
        self.size = 0
        self.call_id = ""
        self.name = ""
        self.signatures: list[str] = []
        self.raws: list[bytes] = []
        self.citations: list[bytes] = []

    def take(self, text: str) -> str:
        """Keep `text`; return what may be shown of it now (half a surrogate pair waits for its other half)."""
        if not text.isascii() or self.held:
            text, self.held = mend(self.held + text)
        if text:
            self.fragments.append(text)
        return text

    def release(self) -> str:
        """Return what `take` still held back, as U+FFFD, and keep it. Empty in all but broken streams."""
        if not self.held:
            return ""
        self.held = ""
        self.fragments.append("\ufffd")
        return "\ufffd"

    def text(self) -> str:
        """All that came so far. Joins once, then the pieces are gone."""
        if len(self.fragments) > 1 and self.kind is not PartKind.CALL:
            self.fragments = ["".join(self.fragments)]
        return "".join(self.fragments)

    def settle(self, finish: FinishReason | None) -> CallReady | CallBroken:
        """Judge a call that has ended. Parsed here, once; the fragments are gone.

        A call without arguments has none, unless the reply was cut for length: then they never came.
        """
        text, fault = arguments.settle(self.fragments)
        if not self.fragments and finish is FinishReason.LENGTH:
            text, fault = "", CallFault.TRUNCATED
        self.fragments = [text]
        if fault is None and self.name:
            return CallReady(self.index, self.call_id, self.name, text)
        return CallBroken(self.index, self.call_id, self.name, text, fault or CallFault.MALFORMED)

    def frozen(self) -> history.Part:
        """The part as a value of the history."""
        match self.kind:
            case PartKind.TEXT:
                return history.TextPart(self.text(), tuple(self.citations))
            case PartKind.REASONING:
                return history.ReasoningPart(self.text(), "".join(self.signatures), tuple(self.raws))
            case PartKind.REFUSAL:
                return history.RefusalPart(self.text())
            case PartKind.PROVIDER:
                return history.ProviderPart(self.name, self.raws[-1], self.text())
            case _:
                return history.CallPart(self.call_id, self.name, self.text(), self.raws[-1] if self.raws else b"")
