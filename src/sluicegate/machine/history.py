"""The conversation as values: what a client sends in, what replies and tools add, what request encoders send out."""

from typing import TypeAlias

import msgspec


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """Text, with the verbatim citations that a provider attached to it."""

    text: str
    citations: tuple[bytes, ...] = ()


class ImagePart(msgspec.Struct, frozen=True, tag="image"):
    """An image by reference (https: or data: URL). sluicegate passes it on and never fetches it."""

    url: str


class ReasoningPart(msgspec.Struct, frozen=True, tag="reasoning"):
    """A model's reasoning. `signature` and `raw` go back to the provider verbatim within the same run."""

    text: str
    signature: str = ""
    raw: tuple[bytes, ...] = ()


class RefusalPart(msgspec.Struct, frozen=True, tag="refusal"):
    """The words in which a model refused."""

    text: str


class CallPart(msgspec.Struct, frozen=True, tag="call"):
    """A client tool call as the model wrote it; `arguments` is JSON text, "{}" where the model sent none."""

    call_id: str
    name: str
    arguments: str
    raw: bytes = b""


class ProviderPart(msgspec.Struct, frozen=True, tag="provider"):
    """A part that the provider ran or owns, verbatim: `raw` is its JSON, `fragment` the streamed rest (see deltas)."""

    kind: str
    raw: bytes
    fragment: str = ""


Part: TypeAlias = TextPart | ReasoningPart | RefusalPart | CallPart | ProviderPart


class SystemMessage(msgspec.Struct, frozen=True, tag="system"):
    """Instructions of the application."""

    text: str


class UserMessage(msgspec.Struct, frozen=True, tag="user"):
    """What the user said."""

    parts: tuple[TextPart | ImagePart, ...]


class AssistantMessage(msgspec.Struct, frozen=True, tag="assistant"):
    """One model reply, its parts in the order in which they began (case 75)."""

    parts: tuple[Part, ...]


class ToolMessage(msgspec.Struct, frozen=True, tag="tool"):
    """The result of one tool call, as the model shall see it."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as the model sees it. `parameters` is the JSON Schema of its arguments, encoded once."""

    name: str
    description: str
    parameters: msgspec.Raw


class Request(msgspec.Struct, frozen=True):
    """What one step asks of a provider, whichever it is. None means: the provider's default."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_output_tokens: int | None = None
    temperature: float | None = None


INTERRUPTED = "The tool call was interrupted before it gave a result."


def settled(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return `messages` with a neutral error result after every tool call that has none.

    Providers refuse a history with an unanswered call, for ever (case 62). Results are expected right after the
    assistant message that made the calls; the order of existing messages is kept.
    """
    answered = {m.call_id for m in messages if isinstance(m, ToolMessage)}
    out: list[Message] = []
    for message in messages:
        out.append(message)
        if isinstance(message, AssistantMessage):
            out.extend(
                ToolMessage(part.call_id, part.name, INTERRUPTED, is_error=True)
                for part in message.parts
                if isinstance(part, CallPart) and part.call_id not in answered
            )
    return tuple(out)
