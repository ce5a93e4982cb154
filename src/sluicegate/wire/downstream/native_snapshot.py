"""What the oldest frames of a native log amount to: the parts of the answer so far, for a reader that comes too late.

Folded from the frames themselves, and only when a log outgrows its room: no token pays for it.
"""

from collections.abc import Iterable
from typing import ClassVar, TypeAlias

import msgspec


class WordsEntry(msgspec.Struct, tag_field="type"):
    """Words of one kind, all of them."""

    text: str


class TextEntry(WordsEntry, tag="text"):
    """Text of the answer."""


class ReasoningEntry(WordsEntry, tag="reasoning"):
    """The model's reasoning."""


class RefusalEntry(WordsEntry, tag="refusal"):
    """The words in which the model refuses."""


class CitationEntry(msgspec.Struct, tag_field="type", tag="citation"):
    """A source for the text before it."""

    citation: msgspec.Raw


class ProviderToolEntry(msgspec.Struct, tag_field="type", tag="provider_tool"):
    """The provider ran something itself."""

    name: str


class ResultEntry(msgspec.Struct, omit_defaults=True):
    """What a tool gave."""

    content: str
    is_error: bool = False


class CallEntry(msgspec.Struct, tag_field="type", tag="tool_call", omit_defaults=True):
    """A tool call: `delta` is what has come of its arguments until `arguments` or `fault` says how they ended;
    `progress` is the tool's latest.
    """

    id: str
    name: str = ""
    delta: str = ""
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    fault: str = ""
    activity: str = ""
    progress: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: ResultEntry | None = None


Entry: TypeAlias = TextEntry | ReasoningEntry | RefusalEntry | CitationEntry | ProviderToolEntry | CallEntry


class _Call(msgspec.Struct):
    id: str
    name: str = ""
    delta: str = ""
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    fault: str = ""


class _Progress(msgspec.Struct):
    id: str
    data: msgspec.Raw


class _Result(msgspec.Struct):
    id: str
    content: str
    is_error: bool = False


class _Named(msgspec.Struct):
    name: str


class _Frame(msgspec.Struct):
    run: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    step: int = 0
    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    citation: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    provider_tool: _Named | None = None
    tool_call: _Call | None = None
    activity: str = ""
    call_id: str = ""
    tool_progress: _Progress | None = None
    tool_result: _Result | None = None


_decode = msgspec.json.Decoder(_Frame).decode
_DATA = b"\ndata: "


class Snapshot:
    """The sum of the frames that were added, in order. `run` is the first frame's value, `size` roughly our bytes."""

    _WORDS: ClassVar[tuple[type[TextEntry | ReasoningEntry | RefusalEntry], ...]] = (
        TextEntry,
        ReasoningEntry,
        RefusalEntry,
    )

    def __init__(self) -> None:
        self.run: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
        self.step = 0
        self.size = 0
        self._entries: list[Entry] = []
        self._calls: dict[str, int] = {}  # the place of the newest call of that id
        self._pieces: dict[int, list[str]] = {}  # of words or arguments, by place, until somebody asks

    def add(self, frames: Iterable[bytes]) -> None:
        """Add frames of this wire, which must be our own. Linear in their size."""
        for data in frames:
            self._add(_decode(data[data.index(_DATA) + len(_DATA) : data.index(b"\n\n")]))

    def entries(self) -> list[Entry]:
        """Return the parts so far, in the order in which they began."""
        for at, pieces in self._pieces.items():
            entry = self._entries[at]
            if isinstance(entry, CallEntry):
                entry.delta += "".join(pieces)
            elif isinstance(entry, WordsEntry):
                entry.text += "".join(pieces)
        self._pieces.clear()
        return self._entries

    def _add(self, frame: _Frame) -> None:
        if isinstance(frame.run, msgspec.Raw):
            self.run = frame.run.copy()
        self.step = frame.step or self.step
        for kind, text in zip(self._WORDS, (frame.content, frame.reasoning, frame.refusal), strict=True):
            if text:
                self._add_words(kind, text)
        if isinstance(frame.citation, msgspec.Raw):
            self._entries.append(CitationEntry(self._keep(frame.citation)))
        if frame.provider_tool is not None:
            self._entries.append(ProviderToolEntry(frame.provider_tool.name))
        if frame.tool_call is not None:
            self._add_call(frame.tool_call)
        self._add_tool(frame)

    def _add_words(self, kind: type[TextEntry | ReasoningEntry | RefusalEntry], text: str) -> None:
        if not self._entries or type(self._entries[-1]) is not kind:
            self._entries.append(kind(""))
        self._add_piece(len(self._entries) - 1, text)

    def _add_piece(self, at: int, text: str) -> None:
        self._pieces.setdefault(at, []).append(text)
        self.size += len(text)

    def _add_call(self, call: _Call) -> None:
        ended = isinstance(call.arguments, msgspec.Raw) or bool(call.fault)
        begins = not ended and not call.delta  # an id may come again in a later step
        if begins or call.id not in self._calls:
            self._calls[call.id] = len(self._entries)
            self._entries.append(CallEntry(call.id, call.name))
        at = self._calls[call.id]
        entry = self._entries[at]
        if call.delta:
            self._add_piece(at, call.delta)
        if not ended or not isinstance(entry, CallEntry):
            return
        entry.name = call.name or entry.name
        entry.fault = call.fault
        if isinstance(call.arguments, msgspec.Raw):
            entry.arguments = self._keep(call.arguments)
            entry.delta = ""
            self._pieces.pop(at, None)

    def _add_tool(self, frame: _Frame) -> None:
        progress, result = frame.tool_progress, frame.tool_result
        call_id = progress.id if progress else result.id if result else frame.call_id
        entry = self._entries[self._calls[call_id]] if call_id in self._calls else None
        if not isinstance(entry, CallEntry):
            return
        entry.activity = frame.activity or entry.activity
        if progress is not None:
            entry.progress = self._keep(progress.data)
        if result is not None:
            entry.result = ResultEntry(result.content, result.is_error)
            self.size += len(result.content)

    def _keep(self, raw: msgspec.Raw) -> msgspec.Raw:
        copy = raw.copy()  # what was decoded would hold on to its whole frame
        self.size += len(bytes(copy))
        return copy
