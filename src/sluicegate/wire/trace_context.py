"""Trace context as W3C writes it into the headers `traceparent` and `tracestate`: decoded strictly, and encoded.

Source: W3C Trace Context Level 2. What is wrong is passed over as if it were not there, as the standard says: a trace
then begins anew. Stricter than that in one place: a `tracestate` of more than 512 characters is dropped as a whole.
"""

import enum
import re
from collections.abc import Sequence
from typing import Final

import msgspec

MAX_STATE: Final = 512  # characters that everybody has to pass on
_MAX_MEMBERS: Final = 32
_VERSION: Final = b"00"
_KNOWN: Final = 3  # of the flags
_parent = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?").fullmatch
_member = re.compile(rb"([a-z0-9][a-z0-9_*/@-]{0,255})=([ -+\--<>-~]{0,255}[!-+\--<>-~])").fullmatch


class TraceFlags(enum.IntFlag):
    """SAMPLED: whoever asks has recorded this. RANDOM: the id of the trace was drawn by chance, so that everybody may
    sample by it.
    """

    NONE = 0
    SAMPLED = 1
    RANDOM = 2


class TraceParent(msgspec.Struct, frozen=True):
    """Who asks, in which trace. Ids are hexadecimal: 32 characters, and 16."""

    trace_id: str
    span_id: str
    flags: TraceFlags


def decode_traceparent(values: Sequence[bytes]) -> TraceParent | None:
    """Return what the `traceparent` fields of a request say; None where there is not exactly one, or it is wrong."""
    if len(values) != 1 or (found := _parent(values[0])) is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == _VERSION and rest is not None) or not trace_id.strip(b"0"):
        return None
    if not span_id.strip(b"0"):
        return None
    return TraceParent(trace_id.decode(), span_id.decode(), TraceFlags(int(flags, 16) & _KNOWN))


def decode_tracestate(values: Sequence[bytes]) -> str:
    """Return the `tracestate` fields of a request as one, to be passed on; "" where there is none that is right."""
    members = [stripped for value in values for each in value.split(b",") if (stripped := each.strip(b" \t"))]
    found = [_member(each) for each in members]
    keys = {each[1] for each in found if each is not None}
    whole = b",".join(members)
    if len(keys) < len(members) or len(members) > _MAX_MEMBERS or len(whole) > MAX_STATE:
        return ""
    return whole.decode()


def encode_traceparent(parent: TraceParent) -> str:
    """Return the value of the field `traceparent`."""
    return f"00-{parent.trace_id}-{parent.span_id}-{parent.flags:02x}"
