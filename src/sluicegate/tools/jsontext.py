"""JSON at the edge of a tool: checks of the text that a model wrote, encoding of the values that a tool gave."""

import re

import msgspec
from pydantic_core import to_json, to_jsonable_python

MAX_ARGUMENT_BYTES = 262_144
MAX_ARGUMENT_DEPTH = 32

# Strings, and all that is no bracket. Possessive, and with an optional closing quote, so that no text makes it go
# back: linear on whatever a model writes.
_NOT_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[^\[\]{}"]++', re.DOTALL)


def depth_exceeds(text: str, limit: int) -> bool:
    """Tell whether arrays and objects nest deeper than `limit` in `text`, which need not be valid JSON."""
    if text.count("[") + text.count("{") <= limit:
        return False
    depth = 0
    for bracket in _NOT_BRACKETS.sub("", text):
        if bracket in "[{":
            depth += 1
            if depth > limit:
                return True
        else:
            depth -= 1
    return False


def argument_fault(text: str) -> str | None:
    """Return what makes `text` unfit to be parsed as arguments, in words without its content; None where it is fit.

    Fit is JSON by RFC 8259 (NaN and Infinity are not), within MAX_ARGUMENT_BYTES and MAX_ARGUMENT_DEPTH.
    """
    if len(text) > MAX_ARGUMENT_BYTES:
        return f"the JSON text is larger than {MAX_ARGUMENT_BYTES} bytes"
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return "the JSON text contains a lone surrogate"
    if len(data) > MAX_ARGUMENT_BYTES:
        return f"the JSON text is larger than {MAX_ARGUMENT_BYTES} bytes"
    if depth_exceeds(text, MAX_ARGUMENT_DEPTH):
        return f"the JSON text is nested deeper than {MAX_ARGUMENT_DEPTH} levels"
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return f"the text is not valid JSON: {error}"
    return None


def encode_json(value: object) -> bytes:
    """Return `value` as JSON by RFC 8259, UTF-8.

    Takes what pydantic encodes (dataclasses, models, dates, enums, UUIDs, sets ...) and msgspec structs, in any
    mixture. Raises ValueError for everything that JSON cannot hold: unknown types, NaN, lone surrogates, cycles.
    """
    try:
        data = to_json(value, fallback=_fallback)
        msgspec.json.decode(data, type=msgspec.Raw)  # pydantic writes NaN and Infinity as such, which is not JSON
    except Exception as error:
        raise ValueError(f"a {type(value).__name__} cannot be written as JSON: {error}") from error
    return data


def _fallback(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, enc_hook=_hook)
    raise TypeError(f"no JSON form for the type {type(value).__name__}")


def _hook(value: object) -> object:
    return to_jsonable_python(value, fallback=_fallback)


def is_json(data: bytes) -> bool:
    """Tell whether `data` is one JSON value by RFC 8259."""
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
