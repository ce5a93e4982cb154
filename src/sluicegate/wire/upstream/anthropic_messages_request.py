"""A `Request` as the body of Anthropic's `POST /v1/messages`.

What Anthropic's own blocks need to go back is sent verbatim, in the order in which it came (cases 74, 75): signed
reasoning, redacted reasoning, server tools with their results, compactions, cited text. So a turn that ended in a pause
is continued by sending it back as it is, as the last message (case 73).

Rules of the API that shape the rest, each of them a refusal (400) that would come back on every later turn: roles
alternate, and the results of one step are one user message in which they come first; no text block is blank; the last
message, if the assistant's, does not end in white space; `input` is an object; ids are of `[a-zA-Z0-9_-]`; an error
result is not empty.
"""

import re
from typing import Final, Literal, TypeAlias

import msgspec

from ...machine.history import (
    AssistantMessage,
    CallPart,
    ImagePart,
    Message,
    Part,
    ProviderPart,
    ReasoningPart,
    Request,
    SystemMessage,
    TextPart,
    ToolMessage,
    ToolSpec,
    UserMessage,
    settled,
)


class _Text(msgspec.Struct, frozen=True, tag="text", omit_defaults=True):
    text: str
    citations: tuple[msgspec.Raw, ...] = ()


class _UrlSource(msgspec.Struct, frozen=True, tag="url"):
    url: str


class _Base64Source(msgspec.Struct, frozen=True, tag="base64"):
    media_type: str
    data: str


class _Image(msgspec.Struct, frozen=True, tag="image"):
    source: _UrlSource | _Base64Source


class _Thinking(msgspec.Struct, frozen=True, tag="thinking"):
    thinking: str
    signature: str


class _ToolUse(msgspec.Struct, frozen=True, tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw


class _ToolResult(msgspec.Struct, frozen=True, tag="tool_result", omit_defaults=True):
    tool_use_id: str
    content: str = ""
    is_error: bool = False


_Content: TypeAlias = _Text | _Image | _Thinking | _ToolUse | msgspec.Raw


class _Turn(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    content: list[_ToolResult | _Content]


class _Tool(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    input_schema: msgspec.Raw
    description: str = ""


class _Body(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    model: str = ""
    anthropic_version: str = ""
    max_tokens: int
    messages: list[_Turn]
    stream: bool
    system: str = ""
    tools: tuple[_Tool, ...] = ()
    temperature: float | None = None


class _Citation(msgspec.Struct, frozen=True):
    type: str = ""


_Members: TypeAlias = dict[str, msgspec.Raw]
_decode_members = msgspec.json.Decoder(_Members).decode
_decode_citation = msgspec.json.Decoder(_Citation).decode
_encode = msgspec.json.encode

_DATA_URL: Final = re.compile(r"data:([^;,]+)[^,]*;base64,", re.IGNORECASE)
_NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9-]")
_PLAIN_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
# Items of the Responses wire, which a run may hold after it went on with another provider.
_FOREIGN: Final = re.compile(r".*_call|.*_output|message|reasoning|mcp_list_tools|mcp_approval_.*")
_NO_WORDS: Final = "The tool failed without saying why."


def encode_request(request: Request, *, default_max_tokens: int = 4096) -> bytes:
    """Return the JSON body, streaming asked for. `default_max_tokens` stands in where the request sets no limit: the
    API demands one. Calls without a result get a neutral one.

    Instructions are joined into `system`, wherever they stood. Parts that only another provider can read are left out.
    """
    return _encode(_body(request, default_max_tokens))


def encode_vertex_request(request: Request, *, version: str, default_max_tokens: int = 4096) -> bytes:
    """Return the same for Google Vertex AI, where the model is in the path and the API's `version` in the body."""
    body = _body(request, default_max_tokens)
    return _encode(msgspec.structs.replace(body, model="", anthropic_version=version))


def _body(request: Request, default_max_tokens: int) -> _Body:
    messages = settled(request.messages)
    return _Body(
        model=request.model,
        max_tokens=default_max_tokens if request.max_output_tokens is None else request.max_output_tokens,
        messages=_turns(messages),
        stream=True,
        system="\n\n".join(m.text for m in messages if isinstance(m, SystemMessage) and _has_words(m.text)),
        tools=tuple(_tool(spec) for spec in request.tools),
        temperature=request.temperature,
    )


def _turns(messages: tuple[Message, ...]) -> list[_Turn]:
    turns: list[_Turn] = []
    results = 0
    for message in messages:
        if isinstance(message, SystemMessage):
            continue
        role: Literal["user", "assistant"] = "assistant" if isinstance(message, AssistantMessage) else "user"
        content = _content(message)
        if not content:
            continue
        if not turns or turns[-1].role != role:
            turns.append(_Turn(role, []))
            results = 0
        if isinstance(message, ToolMessage):
            turns[-1].content[results:results] = content
            results += 1
        else:
            turns[-1].content.extend(content)
    if turns and turns[-1].role == "assistant":
        _trim_end(turns[-1].content)
    return turns


def _trim_end(content: list[_ToolResult | _Content]) -> None:
    last = content[-1]
    if isinstance(last, _Text):
        content[-1] = msgspec.structs.replace(last, text=last.text.rstrip())


def _content(message: UserMessage | AssistantMessage | ToolMessage) -> list[_ToolResult | _Content]:
    if isinstance(message, ToolMessage):
        return [_result(message)]
    blocks = (_block(part) for part in message.parts)
    return [block for block in blocks if block is not None]


def _result(message: ToolMessage) -> _ToolResult:
    content = message.content if _has_words(message.content) else ""
    if message.is_error and not content:
        content = _NO_WORDS
    return _ToolResult(_id(message.call_id), content, message.is_error)


def _block(part: Part | ImagePart) -> _Content | None:
    if isinstance(part, TextPart):
        return _Text(part.text, _citations(part.citations)) if _has_words(part.text) else None
    if isinstance(part, ImagePart):
        return _image(part.url)
    if isinstance(part, ReasoningPart):
        return _Thinking(part.text, part.signature) if part.signature else None
    if isinstance(part, CallPart):
        return _tool_use(part)
    if isinstance(part, ProviderPart):
        return _provider_block(part)
    return _Text(part.text) if _has_words(part.text) else None


def _image(url: str) -> _Image:
    found = _DATA_URL.match(url)
    if found is None:
        return _Image(_UrlSource(url))
    return _Image(_Base64Source(found[1].lower(), url[found.end() :]))


def _citations(raws: tuple[bytes, ...]) -> tuple[msgspec.Raw, ...]:
    """Anthropic's own citations, told by their form: all their types are locations."""
    return tuple(msgspec.Raw(raw) for raw in raws if _citation_type(raw).endswith("_location"))


def _citation_type(raw: bytes) -> str:
    try:
        return _decode_citation(raw).type
    except (msgspec.DecodeError, RecursionError):
        return ""


def _tool_use(part: CallPart) -> _ToolUse | msgspec.Raw:
    call_id, arguments = _id(part.call_id), _input(part.arguments)
    members = _members(part.raw)
    if members is None or bytes(members.get("type", b"")) != b'"tool_use"':
        return _ToolUse(call_id, part.name, arguments)
    members.update(id=_raw(call_id), name=_raw(part.name), input=arguments)
    return _raw(members)


def _input(arguments: str) -> msgspec.Raw:
    """The model's own JSON text. Anything but an object is wrapped as Anthropic's guide to fine-grained tool streaming
    says, so that the model sees what it wrote; that call has an error result.
    """
    if not _has_words(arguments):
        return msgspec.Raw(b"{}")
    if _members(arguments) is not None:
        return msgspec.Raw(arguments.encode())
    return _raw({"INVALID_JSON": arguments})


def _provider_block(part: ProviderPart) -> msgspec.Raw | None:
    members = _members(part.raw)
    if members is None or _FOREIGN.fullmatch(part.kind):
        return None
    if part.kind == "compaction":
        if "content" not in members:
            return None
        if part.fragment:
            members["content"] = _raw(part.fragment)
            return _raw(members)
    elif part.fragment and "input" in members and _members(part.fragment) is not None:
        members["input"] = msgspec.Raw(part.fragment.encode())
        return _raw(members)
    return msgspec.Raw(part.raw)


def _tool(spec: ToolSpec) -> _Tool:
    return _Tool(spec.name, spec.parameters, spec.description)


def _id(call_id: str) -> str:
    """`call_id` in the API's alphabet; ids of other providers and servers may hold dots and colons."""
    return call_id if _PLAIN_ID.fullmatch(call_id) else _NOT_IN_IDS.sub(lambda char: f"_{ord(char[0]):x}_", call_id)


def _has_words(text: str) -> bool:
    return bool(text) and not text.isspace()


def _members(text: bytes | str) -> _Members | None:
    try:
        return _decode_members(text)
    except (ValueError, RecursionError):
        return None


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))
