"""The chunks of Chat Completions as values: only the fields that are used, read strictly, else as far as possible.

`read_chunk` decodes straight into typed structs. What does not fit them (ids that are numbers, arguments that are
objects, half a surrogate pair) is read again, generically, and coerced into the same structs: slower, and rare.

Sources: `ChatCompletionChunk` of the official SDK (openai 3.54) and the compatible servers' own fields:
`reasoning_content` (DeepSeek, Moonshot, xAI, Alibaba), `reasoning` (vLLM, Groq, OpenRouter), `reasoning_details`
(OpenRouter, Vercel, MiniMax), parts in `content` (Mistral), `x_groq.usage` (Groq), `usage` within the choice
(Moonshot), `extra_content` of a call (Google).
"""

import json
import math
from typing import Any, Final

import msgspec
from msgspec import Raw

from ...machine.deltas import UsageDelta
from ...machine.errors import RunError
from .faults import fault


class WireFunction(msgspec.Struct, frozen=True, gc=False):
    """`arguments` is JSON text."""

    name: str | None = None
    arguments: str | None = None


class WireCall(msgspec.Struct, frozen=True, gc=False):
    """An entry of `tool_calls`."""

    index: int | None = None
    id: str | None = None
    function: WireFunction | None = None
    extra_content: Raw = Raw()


class WirePart(msgspec.Struct, frozen=True, gc=False):
    """An entry of `content` where that is a list: text, or `thinking`, itself text or a list of parts."""

    text: str | None = None
    thinking: "str | list[WirePart] | None" = None


class WireDelta(msgspec.Struct, frozen=True, gc=False):
    """`delta` or `message` of a choice."""

    content: str | list[WirePart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Raw] | None = None
    refusal: str | None = None
    tool_calls: list[WireCall] | None = None
    function_call: WireFunction | None = None
    annotations: list[Raw] | None = None


class WirePromptDetails(msgspec.Struct, frozen=True, gc=False):
    """Tokens of the prompt that were read from, or written to, the provider's cache."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class WireOutputDetails(msgspec.Struct, frozen=True, gc=False):
    """Tokens of the answer that nobody sees."""

    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct, frozen=True, gc=False):
    """`usage`, with the places in which compatible servers put what OpenAI puts into the details."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: WirePromptDetails | None = None
    completion_tokens_details: WireOutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    reasoning_tokens: int | None = None


class WireChoice(msgspec.Struct, frozen=True, gc=False):
    """An entry of `choices`."""

    index: int | None = None
    delta: WireDelta | None = None
    message: WireDelta | None = None
    finish_reason: str | None = None
    error: Raw = Raw()
    usage: WireUsage | None = None


class WireGroq(msgspec.Struct, frozen=True, gc=False):
    """Groq's own corner."""

    usage: WireUsage | None = None


class WireChunk(msgspec.Struct, frozen=True, gc=False):
    """One event's data."""

    object: str | None = None
    model: str | None = None
    choices: list[WireChoice] | None = None
    usage: WireUsage | None = None
    error: Raw = Raw()
    x_groq: WireGroq | None = None


class _Detail(msgspec.Struct, frozen=True, gc=False):
    text: str | None = None
    summary: str | None = None


_TELLING_BYTES: Final = 2_000
_WHOLE_DIGITS: Final = 18
_CHUNK: Final = msgspec.json.Decoder(WireChunk)
_DETAIL: Final = msgspec.json.Decoder(_Detail)


def read_chunk(data: bytes) -> WireChunk | None:
    """Return the chunk in `data`, empty for JSON that is none; None if `data` is not JSON."""
    try:
        return _CHUNK.decode(data)
    except (ValueError, RecursionError):  # ValueError covers msgspec's errors and invalid UTF-8
        pass
    try:
        return _chunk(_read(data))
    except (ValueError, RecursionError):
        return None


def read_error(raw: bytes) -> RunError | None:
    """Return what the JSON of an `error` field means, None if it means that there is no error."""
    try:
        value = _read(raw)
    except (ValueError, RecursionError):
        return fault("")
    return _error(value) if value else None


def read_bare_error(data: bytes) -> RunError | None:
    """Return the error that `data`, an object without choices, is itself; None if it is none.

    Some servers send `{"object": "error", "message": ...}`, gateways `{"detail": ...}`.
    """
    try:
        value = _object(_read(data))
    except (ValueError, RecursionError):
        return None
    said = value.get("object") == "error" or _text(value.get("message")) or value.get("detail")
    return _error(value) if said else None


def read_error_event(data: bytes) -> RunError:
    """Return what an event named `error` means, whatever its data."""
    chunk = read_chunk(data)
    found = read_error(bytes(chunk.error)) if chunk is not None and chunk.error else read_bare_error(data)
    return found or fault("", message=data[:_TELLING_BYTES].decode("utf-8", "replace"))


def read_usage(usage: WireUsage) -> UsageDelta | None:
    """Return the usage so far, None where nothing is said."""
    prompt = usage.prompt_tokens_details or WirePromptDetails()
    output = usage.completion_tokens_details or WireOutputDetails()
    found = UsageDelta(
        input_tokens=_first(usage.prompt_tokens, usage.input_tokens),
        output_tokens=_first(usage.completion_tokens, usage.output_tokens),
        cached_tokens=_first(prompt.cached_tokens, usage.prompt_cache_hit_tokens, usage.cached_tokens),
        cache_write_tokens=_first(prompt.cache_write_tokens, usage.cache_creation_input_tokens),
        reasoning_tokens=_first(output.reasoning_tokens, usage.reasoning_tokens),
    )
    return found if found != UsageDelta() else None


def read_detail(raw: bytes) -> str:
    """Return the text of one of `reasoning_details`; encrypted ones have none."""
    try:
        detail = _DETAIL.decode(raw)
    except (ValueError, RecursionError):
        return ""
    return detail.text or detail.summary or ""


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)


# -- the generic way: any JSON value in, the nearest struct out -------------------------------------------------------


def _read(data: bytes) -> Any:
    return json.loads(data.decode(), parse_float=_finite, parse_constant=lambda _name: None)


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _chunk(value: Any) -> WireChunk:
    if isinstance(value, list):  # Google wraps its errors so
        value = next(iter(value), None)
    fields = _object(value)
    return WireChunk(
        object=_text(fields.get("object")),
        model=_text(fields.get("model")),
        choices=_each(_choice, fields.get("choices")),
        usage=_usage(fields.get("usage")),
        error=_raw(fields.get("error")),
        x_groq=WireGroq(_usage(_object(fields.get("x_groq")).get("usage"))),
    )


def _choice(value: Any) -> WireChoice:
    fields = _object(value)
    return WireChoice(
        index=_whole(fields.get("index")),
        delta=_delta(fields.get("delta")),
        message=_delta(fields.get("message")),
        finish_reason=_text(fields.get("finish_reason")),
        error=_raw(fields.get("error")),
        usage=_usage(fields.get("usage")),
    )


def _delta(value: Any) -> WireDelta | None:
    if not isinstance(value, dict):
        return None
    content = value.get("content")
    calls = value.get("tool_calls")
    return WireDelta(
        content=_each(_part, content) if isinstance(content, list | dict) else _text(content),
        reasoning_content=_text(value.get("reasoning_content")),
        reasoning=_text(value.get("reasoning")),
        reasoning_details=_each(_raw, value.get("reasoning_details")),
        refusal=_text(value.get("refusal")),
        tool_calls=_each(_call, calls),
        function_call=_function(value.get("function_call")),
        annotations=_each(_raw, value.get("annotations")),
    )


def _part(value: Any) -> WirePart:
    if isinstance(value, str):
        return WirePart(text=value)
    fields = _object(value)
    thinking = fields.get("thinking")
    return WirePart(
        text=_text(fields.get("text")),
        thinking=_each(_part, thinking) if isinstance(thinking, list) else _text(thinking),
    )


def _call(value: Any) -> WireCall:
    fields = _object(value)
    return WireCall(
        index=_whole(fields.get("index")),
        id=_text(fields.get("id")),
        function=_function(fields.get("function")),
        extra_content=_raw(fields.get("extra_content")),
    )


def _function(value: Any) -> WireFunction | None:
    if not isinstance(value, dict):
        return None
    arguments = value.get("arguments")
    return WireFunction(
        name=_text(value.get("name")),
        arguments=arguments if arguments is None or isinstance(arguments, str) else _json(arguments),
    )


def _usage(value: Any) -> WireUsage | None:
    if not isinstance(value, dict):
        return None
    prompt, output = _object(value.get("prompt_tokens_details")), _object(value.get("completion_tokens_details"))
    return WireUsage(
        prompt_tokens=_whole(value.get("prompt_tokens")),
        completion_tokens=_whole(value.get("completion_tokens")),
        input_tokens=_whole(value.get("input_tokens")),
        output_tokens=_whole(value.get("output_tokens")),
        prompt_tokens_details=WirePromptDetails(
            _whole(prompt.get("cached_tokens")), _whole(prompt.get("cache_write_tokens"))
        ),
        completion_tokens_details=WireOutputDetails(_whole(output.get("reasoning_tokens"))),
        prompt_cache_hit_tokens=_whole(value.get("prompt_cache_hit_tokens")),
        cached_tokens=_whole(value.get("cached_tokens")),
        cache_creation_input_tokens=_whole(value.get("cache_creation_input_tokens")),
        reasoning_tokens=_whole(value.get("reasoning_tokens")),
    )


def _error(value: Any) -> RunError:
    if isinstance(value, list):
        value = value[0]
    if not isinstance(value, dict):
        text = _text(value) or ""
        return fault("", text if text.isdigit() else "", message=text)
    status = _whole(value.get("status_code")) or _whole(value.get("status"))
    kind = _text(value.get("type")) or _text(value.get("status")) or ""
    message = _text(value.get("message")) or _text(value.get("detail")) or ""
    return fault(kind, _text(value.get("code")) or "", status, message)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _each(read: Any, value: Any) -> list[Any] | None:
    if isinstance(value, dict):  # one entry, unwrapped
        value = [value]
    return [read(entry) for entry in value if entry is not None] if isinstance(value, list) else None


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and len(value) <= _WHOLE_DIGITS and value.isascii() and value.isdigit():
        return int(value)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _raw(value: Any) -> Raw:
    return Raw() if value is None else Raw(_json(value).encode())


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
