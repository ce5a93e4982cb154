"""Server-sent events, both ways, without I/O: the WHATWG event stream, strict, incremental and linear in bytes.

Source: WHATWG HTML, section 9.2 "Server-sent events" (parsing and interpreting an event stream).

Where the decoder differs from a browser, and why:

- `SseEvent.data` stays bytes and is not checked for UTF-8. The standard replaces malformed sequences; here the JSON
  decoder that reads the data refuses them, and no event pays for a second scan. Names and ids are replaced as in the
  standard. A stream that ends inside a character is a fault (`SseDecoder.eof`).
- `SseEvent.event` is empty where the standard says "message": the stream named no type.
- An event without any `data` line is not dispatched; one whose data is the empty string is, as the standard says.
  Callers that expect JSON skip empty data themselves.
- A `retry` of more than 15 significant digits is ignored.
"""

import codecs
import enum
import re
from typing import Final

import msgspec

_BOM: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data: "
# As numbers: `13 in data` is one memchr, while `b"\r" in data` first raises and swallows a TypeError (CPython 3.11).
_CR: Final = 13
_LF: Final = 10
_RETRY_DIGITS: Final = 15
_CACHED_HEADS: Final = 64
_CACHED_HEAD_BYTES: Final = 128
_token = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
_line_end = re.compile(rb"\r\n|\r|\n")


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event.

    `event` is "" where the stream named none ("message" is implied); `data` holds the bytes as received, its lines
    joined by LF, possibly empty; `id` is the last event id in force, "" if none.
    """

    event: str
    data: bytes
    id: str


class SseFault(msgspec.Struct, frozen=True, gc=False):
    """The stream cannot be read further; nothing follows a fault. `reason` is for logs, not for clients."""

    reason: str


class _Phase(enum.Enum):
    START = enum.auto()
    """No byte yet, or only the first bytes of what may be a BOM (in `_partial`)."""
    BETWEEN = enum.auto()
    """At the start of a line, no event begun: a read can be cut at its blank lines."""
    PENDING = enum.auto()
    """Something is held over: fields, part of a line, or the question whether a LF belongs to the last CR."""
    ENDED = enum.auto()
    """A fault was returned, or the input has ended."""


_BETWEEN: Final = _Phase.BETWEEN


class SseDecoder:
    """Turns the bytes of one event stream into events; how they are cut into reads never matters.

    `feed` takes reads in order; at the end of input call `eof`, then, where a missing last blank line is to be
    forgiven, `take_pending`. No method raises, whatever the bytes. `retry` is the last reconnection time that the
    stream asked for, in milliseconds; `last_event_id` is what a reconnection would send.

    `max_event_bytes` bounds one event: all its lines and the line ends between them, but for comments (of which each
    must fit by itself beside the event so far). A larger one gives `SseFault`. Bytes held never exceed this and one
    read. Every byte is scanned and copied a constant number of times.
    """

    __slots__ = ("_after_cr", "_data", "_event", "_id", "_max", "_names", "_partial", "_phase", "_size",
                 "last_event_id", "retry")  # fmt: skip

    def __init__(self, max_event_bytes: int = 8 * 1024 * 1024) -> None:
        self.retry: int | None = None
        self.last_event_id = ""
        self._max = max_event_bytes
        self._phase = _Phase.START
        self._after_cr = False
        self._partial = bytearray()
        self._size = 0
        self._event = ""
        self._data = bytearray()
        self._id = ""
        # What precedes "data: " in a block, to the event's name: "" or one `event` line. Streams repeat a few of them.
        self._names = {b"": ""}

    def feed(self, data: bytes) -> list[SseEvent | SseFault]:
        """Returns the events that `data` completes, in order; a fault, if any, comes last. After it: nothing, ever."""
        out: list[SseEvent | SseFault] = []
        if self._phase is not _BETWEEN or _CR in data:
            data = self._resume(data, out)
        if len(data) > self._max:
            self._lines(data, out)
            return out
        # At the start of a line, outside an event, two LFs can only be the end of a line and a blank line.
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        names = self._names
        last_event_id = self.last_event_id
        for block in blocks:
            head, mark, value = block.partition(_DATA)
            if mark and head in names and _LF not in value:
                out.append(SseEvent(names[head], value, last_event_id))
            else:
                self._block(block, out)
                self._learn(head)
                last_event_id = self.last_event_id
        if rest:
            self._lines(rest, out)
        return out

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a line outside an event."""
        return self._phase is _BETWEEN

    def eof(self) -> list[SseEvent | SseFault]:
        """Ends the input: a fault if it stopped inside a UTF-8 character (or inside the BOM), else nothing.

        An event without its blank line is not returned, as the standard says; see `take_pending`.
        """
        if self._phase is _Phase.ENDED:
            return []
        if _cut_in_character(self._partial):
            return [self._fault("the stream ended inside a UTF-8 character")]
        self._phase = _Phase.ENDED
        return []

    def take_pending(self) -> SseEvent | None:
        """Ends the input and returns the event that lacked only its blank line, None if there is none.

        The event needs a data line. A last line without line end counts if it is a `data` line and does not stop inside
        a character: whoever parses the data sees whether it is whole. A name, id or retry without line end is dropped,
        because nobody could see that. After a fault there is nothing to take.
        """
        self._phase = _Phase.ENDED
        line = bytes(self._partial)
        if _cut_in_character(line):
            self._clear()
            return None
        self._partial.clear()
        if line.partition(b":")[0] == b"data":
            self._field(line)
        if self._data:
            return self._dispatch()
        self._clear()
        return None

    def _resume(self, data: bytes, out: list[SseEvent | SseFault]) -> bytes:
        """Deals with all that is not plain: BOM, CR, what is pending. Returns the rest: LF only, outside an event."""
        if not data or self._phase is _Phase.ENDED:
            return b""
        if self._phase is _Phase.START:
            data = bytes(self._partial) + data
            self._partial.clear()
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._partial += data
                return b""
            data = data.removeprefix(_BOM)
        elif self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        if _CR in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        rest = data
        if self._partial or self._size:
            if data.startswith(b"\n") and not self._partial:
                end = 1
            else:
                found = data.find(b"\n\n")
                end = len(data) if found < 0 else found + 2
            rest = data[end:]
            if not self._lines(data[:end], out):
                return b""
        else:
            self._settle()
        return rest

    def _lines(self, data: bytes, out: list[SseEvent | SseFault]) -> bool:
        """Takes `data` (LF only) line by line. Returns False after a fault."""
        lines = data.split(b"\n")
        last = lines.pop()
        if lines and self._partial:
            self._partial += lines[0]
            lines[0] = bytes(self._partial)
            self._partial.clear()
        for line in lines:
            if not line:
                event = self._dispatch()
                if event is not None:
                    out.append(event)
            elif self._size + len(line) > self._max:
                out.append(self._oversize())
                return False
            else:
                self._field(line)
        self._partial += last
        if self._partial and self._size + len(self._partial) > self._max:
            out.append(self._oversize())
            return False
        self._settle()
        return True

    def _block(self, block: bytes, out: list[SseEvent | SseFault]) -> None:
        """Takes one whole block known to be within the limit, its blank line implied."""
        for line in block.split(b"\n"):
            if line:
                self._field(line)
        event = self._dispatch()
        if event is not None:
            out.append(event)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            return
        self._size += len(line) + 1
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data += value
            self._data += b"\n"
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            digits = value.lstrip(b"0") or b"0"
            if len(digits) <= _RETRY_DIGITS:
                self.retry = int(digits)

    def _dispatch(self) -> SseEvent | None:
        """A blank line: the id takes effect, with or without data."""
        self.last_event_id = self._id
        event = None
        if self._data:
            del self._data[-1:]
            event = SseEvent(self._event, bytes(self._data), self._id)
            self._data.clear()
        self._event = ""
        self._size = 0
        return event

    def _learn(self, head: bytes) -> None:
        """Remembers a head of exactly one `event` line, within fixed bounds."""
        one_line = head.startswith(b"event: ") and head.find(b"\n") == len(head) - 1
        if one_line and len(head) <= _CACHED_HEAD_BYTES and len(self._names) < _CACHED_HEADS:
            self._names[head] = head[len(b"event: ") : -1].decode("utf-8", "replace")

    def _settle(self) -> None:
        pending = self._partial or self._size or self._after_cr
        self._phase = _Phase.PENDING if pending else _BETWEEN

    def _oversize(self) -> SseFault:
        return self._fault(f"an event is larger than {self._max} bytes")

    def _fault(self, reason: str) -> SseFault:
        self._phase = _Phase.ENDED
        self._clear()
        return SseFault(reason)

    def _clear(self) -> None:
        self._partial.clear()
        self._data.clear()
        self._event = ""
        self._size = 0


def encode_event(data: bytes, *, event: str = "", id: str = "") -> bytes:  # noqa: A002 - the field's name
    """Returns one whole frame, LF only. Each CR LF, CR or LF in `data` starts a further data line (and is read back
    as LF).

    Raises ValueError unless `event` and `id` are empty or 1 to 64 of `A-Z a-z 0-9 . _ -`: our bug, never the peer's.
    """
    if _LF in data or _CR in data:
        data = _line_end.sub(b"\ndata: ", data)
    if not event and not id:
        return b"data: %b\n\n" % data
    if event and not _token(event):
        raise ValueError(f"not an event name: {event!r}")
    if not id:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
    if not _token(id):
        raise ValueError(f"not an event id: {id!r}")
    if not event:
        return b"id: %b\ndata: %b\n\n" % (id.encode(), data)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id.encode(), event.encode(), data)


def encode_comment(text: bytes = b"") -> bytes:
    """Returns a comment as a whole frame, its blank line included, so that readers that wait for one pass it on."""
    if not text:
        return b":\n\n"
    return b": %b\n\n" % _line_end.sub(b"\n: ", text)


def _cut_in_character(line: bytes | bytearray) -> bool:
    tail = line[-3:]
    return codecs.utf_8_decode(tail, "replace", False)[1] < len(tail)
