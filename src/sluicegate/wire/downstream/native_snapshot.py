"""What the oldest frames of a native log amount to: the parts of the answer so far, for a reader that comes too late.

Folded from the frames themselves, and only when a log outgrows its room: no token pays for it.
"""

from collections.abc import Iterable
from typing import ClassVar, TypeAlias

import msgspec

from ...machine.text import utf8_len


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
        self._growing: list[tuple[WordsEntry | CallEntry, list[str]]] = []  # joined when somebody asks
        self._calls: dict[str, tuple[CallEntry, list[str]]] = {}  # of this step

    def add(self, frames: Iterable[bytes]) -> None:
        """Add frames of this wire, which must be our own. Linear in their size."""
        for data in frames:
            json = data[data.index(_DATA) + len(_DATA) : data.index(b"\n\n")].replace(_DATA, b"\n")
            self._add(_decode(json))

    def entries(self) -> list[Entry]:
        """Return the parts so far, in the order in which they began."""
        for entry, pieces in self._growing:
            if isinstance(entry, CallEntry):
                entry.delta += "".join(pieces)
            else:
                entry.text += "".join(pieces)
            pieces.clear()
        return self._entries

    def _add(self, frame: _Frame) -> None:
        if isinstance(frame.run, msgspec.Raw):
            self.run = frame.run.copy()
        if frame.step:
            self.step = frame.step
            self._calls.clear()  # all of them have ended, and their ids may come again
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
            self._grow(kind(""))
        self._growing[-1][1].append(text)  # calls may have begun before these words, but none behind them
        self.size += utf8_len(text)

    def _add_call(self, call: _Call) -> None:
        if call.id not in self._calls:
            begun = CallEntry(call.id)
            self._calls[call.id] = (begun, self._grow(begun))
        entry, pieces = self._calls[call.id]
        entry.name = call.name or entry.name
        entry.fault = call.fault
        pieces.append(call.delta)
        self.size += utf8_len(call.delta)
        if isinstance(call.arguments, msgspec.Raw):
            entry.arguments = self._keep(call.arguments)
            entry.delta = ""
            pieces.clear()

    def _add_tool(self, frame: _Frame) -> None:
        progress, result = frame.tool_progress, frame.tool_result
        call_id = progress.id if progress else result.id if result else frame.call_id
        if call_id not in self._calls:
            return
        entry, _ = self._calls[call_id]
        entry.activity = frame.activity or entry.activity
        if progress is not None:
            entry.progress = self._keep(progress.data)
        if result is not None:
            entry.result = ResultEntry(result.content, result.is_error)
            self.size += utf8_len(result.content)

    def _grow(self, entry: TextEntry | ReasoningEntry | RefusalEntry | CallEntry) -> list[str]:
        pieces: list[str] = []
        self._entries.append(entry)
        self._growing.append((entry, pieces))
        return pieces

    def _keep(self, raw: msgspec.Raw) -> msgspec.Raw:
        copy = raw.copy()  # what was decoded would hold on to its whole frame
        self.size += len(bytes(copy))
        return copy
