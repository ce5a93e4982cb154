"""The request body of `POST /chat`: bytes to a typed request, every fault named by its field."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, NoReturn, TypeAlias

import msgspec

from ..machine.arguments import is_json
from ..machine.history import (
    AssistantMessage,
    CallPart,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from ..tools.jsontext import depth_exceeds
from .problems import Problem

MAX_MESSAGES = 2_000
MAX_PARTS = 10_000  # of content, and tool calls, in all messages
MAX_DEPTH = 100  # of arguments; Python's own limit depends on where it is met
MAX_OUTPUT_TOKENS = 2**31 - 1  # what every provider can read; each has a far lower limit of its own
MAX_TEMPERATURE = 2
IMAGE_URLS: Final = ("https://", "data:image/")


def _described(**keywords: Any) -> msgspec.Meta:
    """What the JSON Schema of a field says beyond its type; that it holds is checked below, in better words."""
    return msgspec.Meta(extra_json_schema=keywords)


class TextContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="text"):
    text: str


class ImageUrl(msgspec.Struct, frozen=True):
    url: Annotated[str, _described(pattern=f"^({'|'.join(IMAGE_URLS)})")]


class ImageContent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="image_url"):
    image_url: ImageUrl


class FunctionCall(msgspec.Struct, frozen=True):
    name: str
    arguments: str = "{}"


def _nothing() -> msgspec.Raw:
    return msgspec.Raw(b"{}")


class ToolCall(msgspec.Struct, frozen=True):
    """A call as clients send it back: `{"id", "name", "arguments"}`, or Chat Completions' form with `function`."""

    id: str
    type: str = "function"
    name: str = ""
    arguments: Annotated[msgspec.Raw, _described(type=["object", "string"])] = msgspec.field(default_factory=_nothing)
    function: FunctionCall | None = None


Content: TypeAlias = str | list[TextContent | ImageContent] | None


class ChatMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Content, _described(maxItems=MAX_PARTS)] = None
    tool_calls: Annotated[list[ToolCall] | None, _described(maxItems=MAX_PARTS)] = None
    tool_call_id: str = ""
    name: str = ""


class ChatRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /chat`. `tools` names those of the server's tools that the run may use; absent: all."""

    messages: Annotated[list[ChatMessage], _described(minItems=1, maxItems=MAX_MESSAGES)]
    model: str = ""
    system: str = ""
    tools: list[str] | None = None
    on_disconnect: Literal["cancel", "detach"] = "cancel"
    max_output_tokens: Annotated[int | None, _described(minimum=1, maximum=MAX_OUTPUT_TOKENS)] = None
    temperature: Annotated[float | None, _described(minimum=0, maximum=MAX_TEMPERATURE)] = None
    stream: Literal[True] = True


_decoder = msgspec.json.Decoder(ChatRequest)
_PATH = re.compile(r" - at `\$\.?(.*?)`$")
_FIELD = re.compile(r"`([^`]+)`")
_CURES = {
    "role": "use system, developer, user, assistant or tool",
    "type": "use text or image_url",
    "on_disconnect": "use cancel or detach",
    "stream": "every answer is streamed, leave it out",
}


def decode_chat(data: bytes) -> ChatRequest:
    """Return the request that `data` holds. Raises Problem 400, naming the field where there is one."""
    try:
        request = _decoder.decode(data)
    except msgspec.ValidationError as error:
        _refuse(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"The body is not valid JSON in UTF-8: {error}.") from None
    except RecursionError:
        raise Problem(400, "The body is nested too deeply; send flat messages.") from None
    _check(request)
    return request


def _refuse(text: str) -> NoReturn:
    match = _PATH.search(text)
    path = match[1].replace("[...]", "[]") if match else ""
    message = _PATH.sub("", text)
    cure = _CURES.get(path.rpartition(".")[2], "")
    if "unknown field" in message:
        known = ChatMessage if path.startswith("messages[") else ChatRequest
        cure = f"known are {', '.join(known.__struct_fields__)}" if path.count(".") == 0 else ""
    named = _FIELD.search(message)
    if named and ("missing required field" in message or "unknown field" in message):
        path = f"{path}.{named[1]}".lstrip(".")
    raise Problem(400, f"{path or 'body'}: {message}{'; ' if cure else ''}{cure}.", field=path)


def _check(request: ChatRequest) -> None:
    count = len(request.messages)
    if not count:
        raise Problem(400, "messages: must hold at least one message.", field="messages")
    if count > MAX_MESSAGES:
        raise Problem(400, f"messages: {count} messages, the limit is {MAX_MESSAGES}; send fewer.", field="messages")
    lists = (each for message in request.messages for each in (message.content, message.tool_calls))
    parts = sum(len(each) for each in lists if isinstance(each, list))
    if parts > MAX_PARTS:
        words = f"messages: {parts} parts of content and tool calls, the limit is {MAX_PARTS}; send fewer."
        raise Problem(400, words, field="messages")
    if request.max_output_tokens is not None and not 1 <= request.max_output_tokens <= MAX_OUTPUT_TOKENS:
        raise Problem(400, f"max_output_tokens: must be between 1 and {MAX_OUTPUT_TOKENS}.", field="max_output_tokens")
    if request.temperature is not None and not 0 <= request.temperature <= MAX_TEMPERATURE:
        raise Problem(400, f"temperature: must be between 0 and {MAX_TEMPERATURE}.", field="temperature")
    if request.messages[-1].role not in ("user", "tool"):
        where = f"messages[{count - 1}].role"
        raise Problem(400, f"{where}: the last message must be from user or tool.", field=where)


def history(request: ChatRequest) -> tuple[Message, ...]:
    """Return the conversation of `request`. Raises Problem 400, naming the field."""
    messages: list[Message] = [SystemMessage(request.system)] if request.system else []
    names: dict[str, str] = {}
    for index, message in enumerate(request.messages):
        messages.append(_message(message, f"messages[{index}]", names))
    return tuple(messages)


def _message(message: ChatMessage, where: str, names: dict[str, str]) -> Message:
    if message.role != "assistant" and message.tool_calls:
        raise Problem(400, f"{where}.tool_calls: only an assistant makes tool calls.", field=f"{where}.tool_calls")
    match message.role:
        case "system" | "developer":
            return SystemMessage(_text(message.content, where))
        case "user":
            return UserMessage(_parts(message.content, where))
        case "assistant":
            return _assistant(message, where, names)
        case "tool":
            if message.tool_call_id not in names:
                field = f"{where}.tool_call_id"
                raise Problem(
                    400, f"{field}: {message.tool_call_id!r} is not the id of an earlier tool call.", field=field
                )
            return ToolMessage(message.tool_call_id, names[message.tool_call_id], _text(message.content, where))


def _assistant(message: ChatMessage, where: str, names: dict[str, str]) -> AssistantMessage:
    parts: list[TextPart | CallPart] = []
    if message.content:
        parts.append(TextPart(_text(message.content, where)))
    for index, call in enumerate(message.tool_calls or ()):
        field = f"{where}.tool_calls[{index}]"
        name = call.function.name if call.function else call.name
        if not name or not call.id:
            raise Problem(400, f"{field}: needs an id and a name.", field=field)
        names[call.id] = name
        parts.append(CallPart(call.id, name, _arguments(call, field)))
    if not parts:
        raise Problem(
            400, f"{where}.content: an assistant message needs content or tool_calls.", field=f"{where}.content"
        )
    return AssistantMessage(tuple(parts))


def _arguments(call: ToolCall, field: str) -> str:
    wrong = Problem(400, f"{field}.arguments: must be a JSON object.", field=f"{field}.arguments")
    try:
        text = call.function.arguments if call.function else bytes(call.arguments).decode()
        if text.startswith('"'):  # JSON text within a JSON string, as Chat Completions has it
            text = msgspec.json.decode(text, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):  # msgspec does not look into what it keeps raw
        raise wrong from None
    text = text.strip() or "{}"
    if depth_exceeds(text, MAX_DEPTH):
        words = f"{field}.arguments: are nested deeper than {MAX_DEPTH} levels; send flatter ones."
        raise Problem(400, words, field=f"{field}.arguments")
    if not (text.startswith("{") and is_json(text)):
        raise wrong
    return text


def _parts(content: Content, where: str) -> tuple[TextPart | ImagePart, ...]:
    if isinstance(content, str):
        content = [TextContent(content)]
    parts: Sequence[TextPart | ImagePart] = [
        TextPart(entry.text) if isinstance(entry, TextContent) else ImagePart(_url(entry, where))
        for entry in content or ()
    ]
    if not any(isinstance(part, ImagePart) or part.text for part in parts):
        raise Problem(400, f"{where}.content: must not be empty.", field=f"{where}.content")
    return tuple(parts)


def _url(entry: ImageContent, where: str) -> str:
    url = entry.image_url.url
    if not url.startswith(IMAGE_URLS):
        raise Problem(400, f"{where}.content: an image needs an https: or data:image/ URL.", field=f"{where}.content")
    return url


def _text(content: Content, where: str) -> str:
    if content is None:
        raise Problem(400, f"{where}.content: is missing.", field=f"{where}.content")
    if isinstance(content, str):
        return content
    if not all(isinstance(entry, TextContent) for entry in content):
        raise Problem(400, f"{where}.content: only user messages hold images.", field=f"{where}.content")
    return "".join(entry.text for entry in content if isinstance(entry, TextContent))
