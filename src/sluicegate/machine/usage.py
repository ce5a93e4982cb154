"""The published estimator: what a reply costs where the provider never said."""

from collections.abc import Iterable

from .deltas import Usage
from .history import (
    CallPart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
)
from .text import utf8_len

BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 1000


def estimate_tokens(size: int) -> int:
    """Return the estimated tokens of `size` UTF-8 bytes of text: one for each four bytes, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def estimate_prompt_tokens(messages: Iterable[Message]) -> int:
    """Return the estimated input tokens of a conversation: its words and tool texts, by the same rule."""
    return sum(estimate_tokens(_message_size(message)) for message in messages)


def add_usage(a: Usage, b: Usage) -> Usage:
    """Return the sum of two steps' usage; estimated if one of them is."""
    return Usage(
        input_tokens=a.input_tokens + b.input_tokens,
        output_tokens=a.output_tokens + b.output_tokens,
        cached_tokens=a.cached_tokens + b.cached_tokens,
        cache_write_tokens=a.cache_write_tokens + b.cache_write_tokens,
        reasoning_tokens=a.reasoning_tokens + b.reasoning_tokens,
        estimated=a.estimated or b.estimated,
    )


def _message_size(message: Message) -> int:
    match message:
        case SystemMessage(text=text):
            return utf8_len(text)
        case ToolMessage(content=content):
            return utf8_len(content)
        case _:
            return sum(_part_size(part) for part in message.parts)


def _part_size(part: Part | ImagePart) -> int:
    match part:
        case TextPart(text=text) | ReasoningPart(text=text) | RefusalPart(text=text):
            return utf8_len(text)
        case CallPart(name=name, arguments=arguments):
            return utf8_len(name) + utf8_len(arguments)
        case ImagePart():
            return IMAGE_TOKENS * BYTES_PER_TOKEN
        case _:
            return len(part.raw) + utf8_len(part.fragment)
