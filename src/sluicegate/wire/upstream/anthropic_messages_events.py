"""The events of Anthropic's Messages stream as typed values: only the members that are used, read as generously as it
can be done without guessing.

Each reader first decodes into a typed struct, which is fast and is all that Anthropic itself ever needs. What does not
fit (numbers for ids, text for indexes, null for text, halves of surrogate pairs) is read once more with the standard
library and coerced, member by member. Members that go back to the provider are verbatim JSON, but re-encoded on that
second way.
"""

import json
from typing import Any, Final

import msgspec

from ...machine.errors import RunError
from ...machine.text import mend
from .faults import fault

NOTHING: Final = msgspec.Raw(b"")
_NOT_SAID: Final = frozenset((b"", b"null", b"false", b'""', b"{}"))


class OutputDetails(msgspec.Struct, frozen=True, gc=False):
    """`usage.output_tokens_details`."""

    thinking_tokens: int | None = None


class WireUsage(msgspec.Struct, frozen=True, gc=False):
    """`usage`, cumulative; None where the event does not say it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class WireMessage(msgspec.Struct, frozen=True, gc=False):
    """`message` of message_start."""

    model: str = ""
    usage: WireUsage | None = None
    content: list[msgspec.Raw] = []


class WireDelta(msgspec.Struct, frozen=True, gc=False):
    """`delta` of content_block_delta and of message_delta."""

    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    citation: msgspec.Raw = NOTHING
    stop_reason: str | None = None


class WireEvent(msgspec.Struct, frozen=True, gc=False):
    """Any event."""

    type: str = ""
    index: int | None = None
    delta: WireDelta | None = None
    content_block: msgspec.Raw = NOTHING
    message: WireMessage | None = None
    usage: WireUsage | None = None
    error: msgspec.Raw = NOTHING


class WireBlock(msgspec.Struct, frozen=True, gc=False):
    """Any content block, as it stands in its start event."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = NOTHING
    citations: list[msgspec.Raw] | None = None

    def arguments(self) -> str:
        """The JSON text of `input`, or "" for the usual `{}`. Text is taken as the JSON that it should hold."""
        value = json.loads(bytes(self.input) or b"null")
        if isinstance(value, str):
            return value.strip()
        return bytes(self.input).decode() if value else ""


_decode_event = msgspec.json.Decoder(WireEvent).decode
_decode_block = msgspec.json.Decoder(WireBlock).decode


def read_event(data: bytes) -> WireEvent | None:
    """Return the event that `data` holds; None where it is not a JSON object in UTF-8."""
    try:
        if not data.isascii():
            data.decode()
        return _decode_event(data)
    except (ValueError, RecursionError):
        pass
    try:
        return _odd_event(read_object(data))
    except (ValueError, RecursionError):
        return None


def read_block(raw: bytes) -> WireBlock | None:
    """Return the content block that `raw` holds; None where it is no JSON object or its input cannot be read."""
    try:
        block = _decode_block(raw)
        block.arguments()
    except (ValueError, RecursionError):
        pass
    else:
        return block
    try:
        return _odd_block(read_object(raw))
    except (ValueError, RecursionError):
        return None


def read_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object, halves of surrogate pairs allowed. Raises ValueError or RecursionError."""
    value = json.loads(data.decode(), parse_constant=_refuse)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one exception for all that cannot be read
    return value


def read_error(data: bytes) -> RunError:
    """What an error event says, whatever its shape. Its words are looked at and never passed on."""
    words = data.decode("utf-8", "replace")
    try:
        body = read_object(data)
        inner = body.get("error")
        if isinstance(inner, str):
            return fault("", "", None, inner)
        error = inner if isinstance(inner, dict) else body
        kind = text(error.get("type"))
        return fault("" if kind == "error" else kind, text(error.get("code")), None, text(error.get("message")))
    except (ValueError, RecursionError):
        return fault("", "", None, words)


def is_said(raw: msgspec.Raw) -> bool:
    """True unless the member is absent, null, false or empty."""
    return raw is not NOTHING and bytes(raw) not in _NOT_SAID


def text(value: object) -> str:
    """`value` as text: null is "", what is not text is its JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _odd_event(event: dict[str, Any]) -> WireEvent:
    delta, message = event.get("delta"), event.get("message")
    return WireEvent(
        text(event.get("type")),
        _integer(event.get("index")),
        _odd_delta(delta) if isinstance(delta, dict) else None,
        _raw(event.get("content_block")),
        _odd_message(message) if isinstance(message, dict) else None,
        _odd_usage(event.get("usage")),
        _raw(event.get("error")),
    )


def _odd_delta(delta: dict[str, Any]) -> WireDelta:
    return WireDelta(
        type=text(delta.get("type")),
        text=text(delta.get("text")),
        partial_json=text(delta.get("partial_json")),
        thinking=text(delta.get("thinking")),
        signature=text(delta.get("signature")),
        citation=_raw(delta.get("citation")),
        stop_reason=text(delta.get("stop_reason")),
    )


def _odd_message(message: dict[str, Any]) -> WireMessage:
    return WireMessage(text(message.get("model")), _odd_usage(message.get("usage")), _raws(message.get("content")))


def _odd_usage(usage: object) -> WireUsage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("output_tokens_details")
    return WireUsage(
        input_tokens=_integer(usage.get("input_tokens")),
        output_tokens=_integer(usage.get("output_tokens")),
        cache_read_input_tokens=_integer(usage.get("cache_read_input_tokens")),
        cache_creation_input_tokens=_integer(usage.get("cache_creation_input_tokens")),
        output_tokens_details=OutputDetails(_integer(details.get("thinking_tokens")))
        if isinstance(details, dict)
        else None,
    )


def _odd_block(block: dict[str, Any]) -> WireBlock:
    return WireBlock(
        type=text(block.get("type")),
        text=text(block.get("text")),
        thinking=text(block.get("thinking")),
        signature=text(block.get("signature")),
        id=text(block.get("id")),
        name=text(block.get("name")),
        input=_raw(block.get("input")),
        citations=_raws(block.get("citations")),
    )


def _raws(values: object) -> list[msgspec.Raw]:
    return [_raw(value) for value in values] if isinstance(values, list) else []


def _raw(value: object) -> msgspec.Raw:
    if value is None:
        return NOTHING
    # The API refuses a body with half a surrogate pair in it.
    body, _ = mend(json.dumps(value, ensure_ascii=False, allow_nan=False))
    return msgspec.Raw(body.encode())


def _integer(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _refuse(constant: str) -> None:
    raise ValueError(constant)
