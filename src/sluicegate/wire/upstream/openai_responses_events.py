"""OpenAI Responses: the shapes of its JSON, as far as they are read, and a reader that forgives odd servers.

The fast readers know the types of the official API. Where a server sends a number for an id, text for an index, null
or an object for text, or cuts a surrogate pair in two, the value is read once more, slowly, and bent into shape.
"""

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import Raw


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
    type: str = ""
    text: str = ""
    refusal: str = ""
    annotations: list[Raw] = []


class WireResponse(msgspec.Struct):
    status: str = ""
    model: str = ""
    incomplete_details: Raw = Raw()
    error: Raw = Raw()
    usage: Raw = Raw()
    output: list[Raw] = []


class WireDetails(msgspec.Struct):
    reason: str = ""
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Raw = Raw()
    output_tokens_details: Raw = Raw()


class WireError(msgspec.Struct):
    type: str = ""
    code: str = ""
    status: int | None = None
    message: str = ""


_S = TypeVar("_S", bound=msgspec.Struct)
_DECODERS: Final[dict[type, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (WireEvent, WireItem, WireContent, WireResponse, WireDetails, WireUsage, WireError)
}  # fmt: skip


def is_said(raw: Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


def read(kind: type[_S], raw: Raw) -> _S:
    """Raises ValueError or RecursionError if `raw` is no JSON; anything but an object reads as an empty one."""
    if not is_said(raw):
        return kind()
    try:
        decoded: _S = _DECODERS[kind].decode(raw)
    except msgspec.DecodeError:
        return bend(kind, raw)
    return decoded


def bend(kind: type[_S], data: bytes | Raw) -> _S:
    """Read an object whose fields have unexpected types, or whose strings hold half a surrogate pair, which the
    fast decoder refuses. Raises ValueError or RecursionError if `data` is no JSON.
    """
    value = json.loads(bytes(data), parse_constant=_refuse)
    if not isinstance(value, dict):
        return kind()
    fields = msgspec.structs.fields(kind)
    return kind(**{field.name: _COERCE[field.type](value[field.name]) for field in fields if field.name in value})


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def text_of(value: object) -> str:
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


_COERCE: Final[dict[object, Callable[[object], Any]]] = {str: text_of, int | None: _number, Raw: _raw, list[Raw]: _raws}
