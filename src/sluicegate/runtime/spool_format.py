"""How an entry of the usage spool stands in its segment: one line with a checksum.

A line is the CRC-32 of the JSON as eight hexadecimal digits, a space, and the JSON. It has a newline of its own on both
sides, so that nothing in front of it, half an entry or a broken byte, can hide it. Empty lines mean nothing.
"""

import zlib
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from .ledger import Intent, Settlement

Entry: TypeAlias = Intent | Settlement


class Unreadable(StrEnum):
    """DAMAGED: half of a line, or not the bytes that were written. UNKNOWN: whole, but of another version."""

    DAMAGED = "damaged"
    UNKNOWN = "unknown"


Line: TypeAlias = Entry | Unreadable

_HEAD: Final = 9
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Intent | Settlement)


def encode_entry(entry: Entry) -> bytes:
    """Return the bytes to append: a line between two newlines."""
    data = _encoder.encode(entry)
    return b"\n%08x %b\n" % (zlib.crc32(data), data)


def decode_line(line: bytes) -> Line | None:
    """Return what a line holds, whatever its bytes; None if it is empty. It may end with its newline."""
    line = line.removesuffix(b"\n")
    if not line:
        return None
    data = line[_HEAD:]
    if line[:_HEAD] != b"%08x " % zlib.crc32(data):
        return Unreadable.DAMAGED
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError:
        return Unreadable.UNKNOWN
