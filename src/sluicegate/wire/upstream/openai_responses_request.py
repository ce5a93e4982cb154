"""OpenAI Responses: one step's request as the JSON body.

Source: `ResponseCreateParams` and `ResponseInputItemParam` of the official SDK (openai 3.54). Nothing is stored at the
provider: what a later step needs of an earlier one (encrypted reasoning, hosted tools' items, calls with their
`caller` and `namespace`) goes back as the item that came, in the place where it came.

System messages are input items with the role `system`: the API takes it for every model and ranks it with
`developer`, compatible servers know no other, and unlike `instructions` it can stand anywhere. Assistant text goes as
an `output_text` entry of a `message` item without an id: a plain string is read as `input_text` by some servers, and
an id that we made up would be refused.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from ...machine.history import (
    CallPart,
    ImagePart,
    Message,
    Part,
    ProviderPart,
    ReasoningPart,
    RefusalPart,
    Request,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    settled,
)

_FOREIGN: Final = ("_tool_use", "_tool_result", "redacted_thinking", "container_upload")
# Models that do not reason; the API refuses to encrypt their reasoning with 400 "Encrypted content is not supported
# with this model". Names come with the prefixes of gateways and fine-tunes.
_plain_model = re.compile(r"(?:^|[/:])(?:chatgpt-|gpt-[34]|gpt-5[\d.]*-chat)").search


class _Kind(msgspec.Struct):
    type: str = ""


_KIND: Final = msgspec.json.Decoder(_Kind)
_FIELDS: Final = msgspec.json.Decoder(dict[str, Raw])


def encode_request(request: Request) -> bytes:
    """Return the body of `POST /responses`, streaming. `max_output_tokens` caps reasoning and answer together."""
    body: dict[str, Any] = {
        "model": request.model,
        "input": list(_items(settled(request.messages))),
        "stream": True,
        "store": False,
    }
    if not _plain_model(request.model):
        body["include"] = ["reasoning.encrypted_content"]
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": False,
            }
            for tool in request.tools
        ]
    if request.max_output_tokens is not None:
        body["max_output_tokens"] = request.max_output_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return msgspec.json.encode(body)


def _items(messages: tuple[Message, ...]) -> Iterator[object]:
    custom: set[str] = set()
    for message in messages:
        match message:
            case SystemMessage(text=text):
                yield {"type": "message", "role": "system", "content": text}
            case UserMessage(parts=parts):
                yield {"type": "message", "role": "user", "content": [_input(part) for part in parts]}
            case ToolMessage(call_id=call_id, content=content):
                kind = "custom_tool_call_output" if call_id in custom else "function_call_output"
                yield {"type": kind, "call_id": call_id, "output": content}
            case _:
                for part in message.parts:
                    if isinstance(part, CallPart) and _kind(part.raw) == "custom_tool_call":
                        custom.add(part.call_id)
                    yield from _output(part)


def _input(part: TextPart | ImagePart) -> object:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    return {"type": "input_image", "image_url": part.url, "detail": "auto"}


def _output(part: Part) -> Iterator[object]:
    """The items that `part` came from, none where this API has no use for it (another provider's reasoning)."""
    match part:
        case TextPart(text=text) if text:
            yield _message({"type": "output_text", "text": text, "annotations": []})
        case RefusalPart(text=text):
            yield _message({"type": "refusal", "refusal": text})
        case ReasoningPart(raw=raws):
            yield from (Raw(raw) for raw in raws if _kind(raw) == "reasoning")
        case CallPart():
            yield _call(part)
        case ProviderPart(kind=kind, raw=raw, fragment="") if not kind.endswith(_FOREIGN):
            yield Raw(raw)


def _message(entry: dict[str, Any]) -> object:
    return {"type": "message", "role": "assistant", "status": "completed", "content": [entry]}


def _call(part: CallPart) -> object:
    """The call as it came, with the id and the arguments that the run used."""
    match _kind(part.raw):
        case "custom_tool_call":
            return {**_FIELDS.decode(part.raw), "call_id": part.call_id, "input": part.arguments}
        case "function_call":
            known: dict[str, object] = {**_FIELDS.decode(part.raw)}
        case _:
            known = {"type": "function_call"}
    return {**known, "call_id": part.call_id, "name": part.name, "arguments": part.arguments}


def _kind(raw: bytes) -> str:
    """The `type` of a verbatim value, "" if it has none. Other dialects' values need not be objects of this kind."""
    try:
        return _KIND.decode(raw).type
    except msgspec.DecodeError:
        return ""
