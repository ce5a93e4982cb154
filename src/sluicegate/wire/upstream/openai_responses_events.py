"""OpenAI Responses: the shapes of its JSON, as far as they are read, and a reader that forgives odd servers.

The fast readers know the types of the official API. Where a server sends a number for an id, text for an index, null
or an object for text, or cuts a surrogate pair in two, the value is read once more, slowly, and bent into shape.
"""

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import Raw

from ...machine.deltas import UsageDelta
from ...machine.errors import RunError
from .faults import fault


class WireEvent(msgspec.Struct, gc=False):
    """The fields of all events that are read; an event has a few of them."""

    type: str = ""
    delta: str = ""
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str = ""
    text: str = ""
    refusal: str = ""
    arguments: str = ""
    input: str = ""
    code: str = ""
    message: str = ""
    item: Raw = Raw()
    part: Raw = Raw()
    annotation: Raw = Raw()
    response: Raw = Raw()
    error: Raw = Raw()


class WireItem(msgspec.Struct):
    """An output item: the fields of messages, reasoning and client calls."""

    type: str = ""
    id: str = ""
    status: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    input: str = ""
    content: list[Raw] = []
    summary: list[Raw] = []


class WireContent(msgspec.Struct):
    """An entry of a message's `content`, or of a reasoning item's `content` or `summary`."""

    type: str = ""
    text: str = ""
    refusal: str = ""
    annotations: list[Raw] = []


class WireResponse(msgspec.Struct):
    """The response object of the events of its life."""

    status: str = ""
    model: str = ""
    incomplete_details: Raw = Raw()
    error: Raw = Raw()
    usage: Raw = Raw()
    output: list[Raw] = []


class WireDetails(msgspec.Struct):
    """`incomplete_details`, `input_tokens_details` or `output_tokens_details`."""

    reason: str = ""
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """The usage of a whole response."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Raw = Raw()
    output_tokens_details: Raw = Raw()


class WireError(msgspec.Struct):
    """An `error` object."""

    type: str = ""
    code: str = ""
    status: int | None = None
    message: str = ""


_S = TypeVar("_S", bound=msgspec.Struct)
_EVENT: Final = msgspec.json.Decoder(WireEvent)
_FAST: Final[dict[type, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (WireItem, WireContent, WireResponse, WireDetails, WireUsage, WireError)
}


def is_said(raw: Raw) -> bool:
    """True if the field is there and not null."""
    return bytes(raw) not in (b"", b"null")


def read_event(data: bytes) -> WireEvent:
    """Raises ValueError or RecursionError if `data` is not UTF-8 or not JSON. What is no object has no type."""
    if not data.isascii():
        data.decode()  # the JSON reader checks only the strings that it is asked for; others are kept and sent back
    try:
        return _EVENT.decode(data)
    except msgspec.DecodeError:
        return _bend(WireEvent, data)


def read(kind: type[_S], raw: Raw) -> _S:
    """Read a nested object. Raises ValueError or RecursionError if `raw` is no JSON; what is no object is empty."""
    if not is_said(raw):
        return kind()
    try:
        fast: _S = _FAST[kind].decode(raw)
    except msgspec.DecodeError:
        return _bend(kind, raw)
    return fast


def read_usage(raw: Raw) -> UsageDelta:
    """The usage of a whole response; raises as `read`."""
    usage = read(WireUsage, raw)
    into = read(WireDetails, usage.input_tokens_details)
    out_of = read(WireDetails, usage.output_tokens_details)
    return UsageDelta(
        usage.input_tokens, usage.output_tokens, into.cached_tokens, into.cache_write_tokens, out_of.reasoning_tokens
    )


def read_error_event(event: WireEvent) -> RunError:
    """An error event has an `error` object, or the fields of one at its top (case 44)."""
    if is_said(event.error):
        return read_fault(event.error, "error")
    return fault("error", event.code, message=event.message)


def read_fault(raw: Raw, kind: str) -> RunError:
    """What an `error` value, of whatever shape, means; `kind` is what is known where it says nothing."""
    value = json.loads(bytes(raw)) if is_said(raw) else None
    if not isinstance(value, dict):
        return fault(kind, message=_text(value))
    error = read(WireError, raw)
    return fault(error.type or kind, error.code, error.status, error.message)


def _bend(kind: type[_S], data: bytes | Raw) -> _S:
    value = json.loads(bytes(data), parse_constant=_refuse)
    if not isinstance(value, dict):
        return kind()
    fields = msgspec.structs.fields(kind)
    return kind(**{field.name: _TO_TYPE[field.type](value[field.name]) for field in fields if field.name in value})


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, separators=(",", ":"))


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _raw(value: object) -> Raw:
    return Raw(json.dumps(value, separators=(",", ":")).encode())


def _raws(value: object) -> list[Raw]:
    return [_raw(entry) for entry in value] if isinstance(value, list) else []


_TO_TYPE: Final[dict[object, Callable[[object], Any]]] = {str: _text, int | None: _number, Raw: _raw, list[Raw]: _raws}
