"""OpenAI Chat Completions: one step's request as the JSON body.

Source: `CompletionCreateParamsStreaming` and `ChatCompletionMessageParam` of the official SDK (openai 3.54). Compatible
servers take less than that, so the plainest form is sent: a user's text as a string unless there are images, an
assistant's text as a string, a tool's result as a string.

Reasoning goes back within its run, in the form that `openai_chat` noted in `raw`: OpenRouter's `reasoning_details`, or
the text in the field from which it came (DeepSeek and Moonshot refuse the next step without it, Mistral wants it as
parts of the content). So does a call's `extra_content` (Google refuses the next step without its signature). Reasoning
and provider parts of other wires are left out.
"""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ...machine.arguments import is_json
from ...machine.history import (
    AssistantMessage,
    CallPart,
    ImagePart,
    Message,
    ReasoningPart,
    RefusalPart,
    Request,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    settled,
)
from .profiles import AUTO, Profile

# Fragments of one reasoning detail are joined again; encrypted ones come whole and stay as they are.
_STREAMED: Final = {"reasoning.text": "text", "reasoning.summary": "summary"}


class _Function(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class _Call(msgspec.Struct, frozen=True):
    id: str
    function: _Function
    type: str = "function"
    extra_content: Raw | UnsetType = UNSET


class _ImageUrl(msgspec.Struct, frozen=True):
    url: str


class _Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: str


class _Image(msgspec.Struct, frozen=True, tag_field="type", tag="image_url"):
    image_url: _ImageUrl


class _Thinking(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    thinking: list[_Text]


class _Message(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str
    content: str | list[_Text | _Image | _Thinking] | None
    refusal: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_details: list[Raw] | UnsetType = UNSET
    tool_calls: list[_Call] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET


class _CallRaw(msgspec.Struct, frozen=True):
    extra_content: Raw = Raw()


_CALL_RAW: Final = msgspec.json.Decoder(_CallRaw)


def encode_request(request: Request, profile: Profile = AUTO) -> bytes:
    """Return the body of `POST /chat/completions`, streaming, usage asked for as `profile` says."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": list(_messages(settled(request.messages), profile)),
        "stream": True,
    }
    if profile.stream_options:
        body["stream_options"] = Raw(profile.stream_options)
    if request.tools:
        body["tools"] = [{"type": "function", "function": tool} for tool in request.tools]
    if request.max_output_tokens is not None:
        body[profile.max_tokens_field] = request.max_output_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return msgspec.json.encode(body)


def _messages(messages: tuple[Message, ...], profile: Profile) -> Iterator[_Message]:
    for message in messages:
        match message:
            case SystemMessage():
                yield _Message("system", message.text)
            case UserMessage():
                yield _user(message)
            case ToolMessage():
                yield _Message("tool", message.content, tool_call_id=message.call_id)
            case _:
                yield from _assistant(message, profile)


def _user(message: UserMessage) -> _Message:
    parts = [part for part in message.parts if isinstance(part, ImagePart) or part.text]
    if any(isinstance(part, ImagePart) for part in parts):
        return _Message(
            "user", [_Text(part.text) if isinstance(part, TextPart) else _Image(_ImageUrl(part.url)) for part in parts]
        )
    return _Message("user", "\n".join(part.text for part in parts if isinstance(part, TextPart)))


def _assistant(message: AssistantMessage, profile: Profile) -> Iterator[_Message]:
    """The message, or none where it would say nothing: servers refuse an empty one."""
    text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
    refusal = "".join(part.text for part in message.parts if isinstance(part, RefusalPart))
    calls = [_call(part) for part in message.parts if isinstance(part, CallPart)]
    if not (text or refusal or calls):
        return
    reasoning = [part for part in message.parts if isinstance(part, ReasoningPart)] if profile.reasoning_back else []
    fields, details = _reasoning(reasoning)
    thought = "".join(part.text for part in reasoning)
    content: str | list[_Text | _Image | _Thinking] | None = text or None
    if thought and "content" in fields:
        content = [_Thinking([_Text(thought)]), *([_Text(text)] if text else [])]
    yield _Message(
        "assistant",
        content,
        refusal=refusal or UNSET,
        reasoning_content=thought if thought and "reasoning_content" in fields else UNSET,
        reasoning=thought if thought and "reasoning" in fields else UNSET,
        reasoning_details=details or UNSET,
        tool_calls=calls or UNSET,
    )


def _call(part: CallPart) -> _Call:
    """The call as the model wrote it; several servers parse the arguments, so broken ones go as JSON about them."""
    arguments = part.arguments if is_json(part.arguments) else json.dumps({"invalid_json": part.arguments})
    return _Call(part.call_id, _Function(part.name, arguments), extra_content=_extra_content(part.raw))


def _extra_content(raw: bytes) -> Raw | UnsetType:
    try:
        return _CALL_RAW.decode(raw).extra_content or UNSET
    except (msgspec.DecodeError, RecursionError):  # none, or of another wire
        return UNSET


def _reasoning(parts: list[ReasoningPart]) -> tuple[set[str], list[Raw]]:
    """The fields that the reasoning came in, and its details, ready to go back."""
    fields: set[str] = set()
    details: list[dict[str, Any]] = []
    for raw in (raw for part in parts for raw in part.raw):
        value = _decode(raw)
        if isinstance(value, str):
            fields.add(value)
        elif isinstance(value, dict) and str(value.get("type", "")).startswith("reasoning."):
            details.append(value)
    return fields, [Raw(json.dumps(detail, separators=(",", ":"))) for detail in _joined(details)]


def _joined(details: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for (kind, _), group in groupby(details, key=lambda detail: (detail["type"], detail.get("index"))):
        if (field := _STREAMED.get(kind)) is None:
            yield from group
            continue
        fragments = list(group)
        whole = {name: value for fragment in fragments for name, value in fragment.items() if value is not None}
        texts = [fragment[field] for fragment in fragments if isinstance(fragment.get(field), str)]
        yield fragments[0] | whole | ({field: "".join(texts)} if texts else {})


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)  # takes halves of surrogate pairs, which meet again when fragments are joined
    except (ValueError, RecursionError):
        return None
