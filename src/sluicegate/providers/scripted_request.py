"""What a scripted model is asked: the three dialects' request bodies as one value."""

from typing import Final

import msgspec


class Said(msgspec.Struct, frozen=True):
    """The text of one message; `role` is system, user, assistant or tool."""

    role: str
    text: str


class OfferedTool(msgspec.Struct, frozen=True):
    """A tool that the model may call; `schema` is the JSON Schema of its arguments."""

    name: str
    description: str
    schema: dict[str, object]


class Returned(msgspec.Struct, frozen=True):
    """The result of a tool call, with the call it answers; `arguments` is JSON text as the model wrote it."""

    call_id: str
    name: str
    arguments: str
    content: str


class ScriptedRequest(msgspec.Struct, frozen=True):
    """A request to a provider.

    `dialect` is the module name of its wire, `results` are those since the last user message, `include_usage` is
    Chat's `stream_options.include_usage`, `max_output_tokens` what the dialect calls so, None for no limit.
    """

    dialect: str
    model: str
    messages: tuple[Said, ...] = ()
    tools: tuple[OfferedTool, ...] = ()
    results: tuple[Returned, ...] = ()
    include_usage: bool = False
    max_output_tokens: int | None = None

    @property
    def question(self) -> str:
        """The last thing that the user said, "" for nothing."""
        return next((said.text for said in reversed(self.messages) if said.role == "user"), "")


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str = ""
    description: str = ""
    parameters: dict[str, object] = {}


class _ToolCall(msgspec.Struct):
    id: str = ""
    function: _Function = msgspec.field(default_factory=_Function)


class _Piece(msgspec.Struct):
    """A content part, or an Anthropic block."""

    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    tool_use_id: str = ""
    content: "str | list[_Piece] | None" = None


class _Item(msgspec.Struct):
    """A message of any dialect, or a Responses input item."""

    type: str = "message"
    role: str = ""
    content: str | list[_Piece] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[_Piece] = ""


class _Tool(msgspec.Struct):
    name: str = ""
    description: str | None = ""
    parameters: dict[str, object] | None = None
    input_schema: dict[str, object] | None = None
    function: _Function | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Body(msgspec.Struct):
    model: str
    stream: bool = False
    messages: list[_Item] = []
    input: str | list[_Item] = []
    system: str | list[_Piece] = ""
    instructions: str | None = None
    tools: list[_Tool] | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None


_decoder: Final = msgspec.json.Decoder(_Body)


class _Reader:
    """Walks the messages once, remembering which call has which name."""

    def __init__(self) -> None:
        self.messages: list[Said] = []
        self.results: list[Returned] = []
        self._calls: dict[str, tuple[str, str]] = {}

    def say(self, role: str, text: str) -> None:
        if text:
            self.messages.append(Said(role, text))

    def result(self, call_id: str, content: str) -> None:
        self.messages.append(Said("tool", content))
        self.results.append(Returned(call_id, *self._calls.get(call_id, ("", "")), content))

    def read(self, item: _Item) -> None:
        if item.type == "function_call":
            self._calls[item.call_id] = (item.name, item.arguments)
        elif item.type == "function_call_output":
            self.result(item.call_id, _text(item.output))
        elif item.role == "tool":
            self.result(item.tool_call_id, _text(item.content))
        else:
            for call in item.tool_calls or ():
                self._calls[call.id] = (call.function.name, call.function.arguments)
            pieces = item.content if isinstance(item.content, list) else []
            if item.role == "user" and not any(piece.type == "tool_result" for piece in pieces):
                self.results.clear()
            for piece in pieces:
                if piece.type == "tool_use":
                    self._calls[piece.id] = (piece.name, bytes(piece.input).decode())
                elif piece.type == "tool_result":
                    self.result(piece.tool_use_id, _text(piece.content))
            self.say("system" if item.role == "developer" else item.role, _text(item.content))


def decode_request(dialect: str, body: bytes) -> ScriptedRequest:
    """Return what `body` asks. Raises ValueError, saying why, for a body that is no streaming request."""
    asked = _decoder.decode(body)
    if not asked.stream:
        raise ValueError("the scripted provider only streams: send stream=true")
    reader = _Reader()
    reader.say("system", _text(asked.system) or asked.instructions or "")
    if isinstance(asked.input, str):
        reader.say("user", asked.input)
    else:
        for item in asked.messages or asked.input:
            reader.read(item)
    tools = tuple(_tool(tool) for tool in asked.tools or ())
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    caps = (asked.max_tokens, asked.max_completion_tokens, asked.max_output_tokens)
    most = min((cap for cap in caps if cap is not None), default=None)
    return ScriptedRequest(dialect, asked.model, tuple(reader.messages), tools, tuple(reader.results), usage, most)


def _tool(tool: _Tool) -> OfferedTool:
    if tool.function is not None:
        return OfferedTool(tool.function.name, tool.function.description, tool.function.parameters)
    return OfferedTool(tool.name, tool.description or "", tool.parameters or tool.input_schema or {})


def _text(content: str | list[_Piece] | None) -> str:
    if isinstance(content, list):
        return "".join(piece.text for piece in content if piece.type in {"text", "input_text", "output_text"})
    return content or ""
