"""The dialects by name: where each API is, how a request is written and how its reply is read. No SDK in here."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias, get_args
from urllib.parse import quote

import msgspec

from ..machine.history import Request
from ..machine.price import CacheCount
from ..wire.upstream import anthropic_messages_request, openai_chat_request, openai_responses_request
from ..wire.upstream.anthropic_messages import AnthropicMessagesDecoder
from ..wire.upstream.base import Decoder
from ..wire.upstream.openai_chat import OpenAIChatDecoder
from ..wire.upstream.openai_responses import OpenAIResponsesDecoder
from ..wire.upstream.profiles import AUTO, Profile

DialectName: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic"]
DIALECTS: tuple[DialectName, ...] = get_args(DialectName)


class Dialect(msgspec.Struct, frozen=True):
    """How one API of a provider is spoken; `path` is relative to the SDK client's base URL, and may hold `{model}`.
    `models_path` is where the models are listed, "" for nowhere.
    """

    path: str
    encode: Callable[[Request], bytes]
    decoder: Callable[[], Decoder]
    cache_count: CacheCount = CacheCount.INSIDE
    models_path: str = "/models"

    def path_for(self, model: str) -> str:
        """Return the path of a request to `model`."""
        return self.path.replace("{model}", quote(model, safe="!$&'()*+,=:@")) if "{" in self.path else self.path


def dialect_of(name: str, profile: Profile = AUTO) -> Dialect:
    """Return the dialect of that name. Raises KeyError for another."""
    return {
        "openai_chat": Dialect(
            "/chat/completions",
            partial(openai_chat_request.encode_request, profile=profile),
            partial(OpenAIChatDecoder, profile),
        ),
        "openai_responses": Dialect("/responses", openai_responses_request.encode_request, OpenAIResponsesDecoder),
        "anthropic": Dialect(
            "/v1/messages",
            anthropic_messages_request.encode_request,
            AnthropicMessagesDecoder,
            CacheCount.BESIDE,
            "/v1/models",
        ),
    }[name]
