"""Frames folded into the answer that they make."""

from enum import StrEnum
from typing import Any

import msgspec

from .frame import Frame, Gap
from .place import Place, Turn


class WordsKind(StrEnum):
    """What words are for."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"


class Words:
    """A part of words of one kind."""

    def __init__(self, kind: WordsKind, text: str = "") -> None:
        self.kind = kind
        self._pieces = [text]

    def append(self, text: str) -> None:
        """Add more words. O(1)."""
        self._pieces.append(text)

    @property
    def text(self) -> str:
        """All of them."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]


class Result(msgspec.Struct, frozen=True):
    """What a tool gave, as the model sees it."""

    content: str
    is_error: bool = False


class _Growth(msgspec.Struct, frozen=True):
    """What a frame or a snapshot says of a call."""

    id: str
    name: str = ""
    delta: str = ""
    arguments: Any = None
    fault: str = ""
    activity: str = ""
    progress: Any = None
    result: Result | None = None

    @property
    def begins(self) -> bool:
        return not (self.delta or self.fault or self.arguments is not None)


class ToolCall:
    """A part that calls a tool; `arguments` is None until they are complete, `fault` says that they never will be.
    `progress` is the latest that the tool told.
    """

    def __init__(self, call_id: str) -> None:
        self.id = call_id
        self.name = ""
        self.arguments: Any = None
        self.fault = ""
        self.activity = ""
        self.progress: Any = None
        self.result: Result | None = None
        self._pieces: list[str] = []

    @property
    def delta(self) -> str:
        """The raw JSON text of the arguments so far; empty once `arguments` has them."""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def grow(self, growth: _Growth) -> None:
        """Take what is new. O(1)."""
        self.name = growth.name or self.name
        self.fault = growth.fault or self.fault
        self.activity = growth.activity or self.activity
        self.progress = self.progress if growth.progress is None else growth.progress
        self.result = growth.result or self.result
        if growth.delta:
            self._pieces.append(growth.delta)
        if growth.arguments is not None:
            self.arguments = growth.arguments
            self._pieces.clear()


class Citation(msgspec.Struct, frozen=True):
    """A source for the words before it, in the provider's own JSON."""

    citation: Any


class ProviderTool(msgspec.Struct, frozen=True):
    """Something that the provider runs itself."""

    name: str


Part = Words | ToolCall | Citation | ProviderTool


class Transcript:
    """The answer so far. Adding a frame twice changes nothing; a `gap` replaces the parts by its snapshot.

    `parts` are in the order in which they began; adjacent words of one kind are one part. `error` or `finish_reason`
    is set once the terminal frame is in, `usage` with it where known.
    """

    def __init__(self) -> None:
        self.run: dict[str, Any] = {}
        self.step = 0
        self.parts: list[Part] = []
        self.finish_reason: str | None = None
        self.error: dict[str, Any] | None = None
        self.usage: dict[str, Any] | None = None
        self._place = Place()

    @property
    def text(self) -> str:
        """The text of the answer."""
        return self._words(WordsKind.TEXT)

    @property
    def reasoning(self) -> str:
        """The model's reasoning."""
        return self._words(WordsKind.REASONING)

    @property
    def refusal(self) -> str:
        """The words in which the model refuses."""
        return self._words(WordsKind.REFUSAL)

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls, in the order in which they began."""
        return [part for part in self.parts if isinstance(part, ToolCall)]

    @property
    def ended(self) -> bool:
        """True once the terminal frame is in."""
        return self.finish_reason is not None or self.error is not None

    @property
    def after(self) -> str:
        """The id of the last frame that is in, "" if none is."""
        return self._place.id

    def add(self, frame: Frame) -> bool:
        """Fold `frame` in; return whether it was new. Raises Misplaced for a frame of another run, or not the next."""
        if self._place.take(frame.id, jump=frame.gap is not None) is Turn.SEEN:
            return False
        if frame.gap is not None:
            self._restore(frame.gap)
        self._add_words(WordsKind.TEXT, frame.content)
        self._add_words(WordsKind.REASONING, frame.reasoning)
        self._add_words(WordsKind.REFUSAL, frame.refusal)
        self._add_tools(frame)
        if frame.citation is not None:
            self.parts.append(Citation(frame.citation))
        if frame.provider_tool is not None:
            self.parts.append(msgspec.convert(frame.provider_tool, ProviderTool))
        self.run = frame.run or self.run
        self.step = frame.step or self.step
        self.error, self.finish_reason, self.usage = frame.error, frame.finish_reason, frame.usage
        return True

    def _add_words(self, kind: WordsKind, text: str | None) -> None:
        if not text:
            return
        last = self.parts[-1] if self.parts else None
        if isinstance(last, Words) and last.kind is kind:
            last.append(text)
        else:
            self.parts.append(Words(kind, text))

    def _add_tools(self, frame: Frame) -> None:
        if frame.tool_call is not None:
            growth = msgspec.convert(frame.tool_call, _Growth)
            call = self._begin(growth.id) if growth.begins else self._call(growth.id)
            call.grow(growth)
        if frame.activity is not None:
            self._call(frame.call_id).activity = frame.activity
        if frame.tool_progress is not None:
            self._call(frame.tool_progress["id"]).progress = frame.tool_progress["data"]
        if frame.tool_result is not None:
            self._call(frame.tool_result["id"]).result = msgspec.convert(frame.tool_result, Result)

    def _call(self, call_id: str) -> ToolCall:
        """Return the latest call of that id: ids may come again in a later step."""
        for part in reversed(self.parts):
            if isinstance(part, ToolCall) and part.id == call_id:
                return part
        return self._begin(call_id)

    def _begin(self, call_id: str) -> ToolCall:
        call = ToolCall(call_id)
        self.parts.append(call)
        return call

    def _words(self, kind: WordsKind) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Words) and part.kind is kind)

    def _restore(self, gap: Gap) -> None:
        self.parts = []
        self.step = gap.step
        self.run = gap.run or {}
        for part in gap.parts:
            match part.get("type"):
                case "text" | "reasoning" | "refusal":
                    self._add_words(WordsKind(part["type"]), part["text"])
                case "tool_call":
                    growth = msgspec.convert(part, _Growth)
                    self._begin(growth.id).grow(growth)
                case "citation":
                    self.parts.append(msgspec.convert(part, Citation))
                case "provider_tool":
                    self.parts.append(msgspec.convert(part, ProviderTool))
                case _:
                    pass  # of a newer service
