"""Providers from the environment: the official SDKs' own variables, else the scripted provider.

OPENAI_API_KEY, OPENAI_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL mean what they mean to the SDKs.
"""

from collections.abc import Mapping
from functools import partial

import anthropic
import httpx2
import msgspec
import openai

from ..wire.upstream import anthropic_messages_request, openai_chat_request, openai_responses_request
from ..wire.upstream.anthropic_messages import AnthropicMessagesDecoder
from ..wire.upstream.openai_chat import OpenAIChatDecoder
from ..wire.upstream.openai_responses import OpenAIResponsesDecoder
from ..wire.upstream.profiles import AUTO, Profile
from .base import Provider
from .demo import demo_brain
from .models import Models
from .scripted import ScriptedTransport
from .sdk import Dialect, SdkProvider
from .transport import TrioTransport

DIALECTS = ("openai_chat", "openai_responses", "anthropic")
DEFAULT_MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-sonnet-4-5", "scripted": "scripted-demo"}


class UpstreamOptions(msgspec.Struct, frozen=True):
    """How upstreams are reached. Times in seconds; `read_seconds` is the longest silence within a reply."""

    dialect: str = "openai_chat"
    profile: Profile = AUTO
    default_model: str = ""
    connect_seconds: float = 10.0
    read_seconds: float = 120.0
    max_retries: int = 2


def dialect_of(name: str, profile: Profile = AUTO) -> Dialect:
    """Return the dialect of that name. Raises KeyError for another."""
    return {
        "openai_chat": Dialect(
            "/chat/completions",
            partial(openai_chat_request.encode_request, profile=profile),
            partial(OpenAIChatDecoder, profile),
        ),
        "openai_responses": Dialect("/responses", openai_responses_request.encode_request, OpenAIResponsesDecoder),
        "anthropic": Dialect("/v1/messages", anthropic_messages_request.encode_request, AnthropicMessagesDecoder),
    }[name]


def sdk_provider(
    dialect: str,
    options: UpstreamOptions,
    *,
    api_key: str,
    base_url: str | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> SdkProvider:
    """Return a provider that speaks `dialect` through the official SDK. `base_url` None is the SDK's default."""
    timeout = httpx2.Timeout(options.read_seconds, connect=options.connect_seconds)
    http_client = httpx2.AsyncClient(transport=transport or TrioTransport(), timeout=timeout, trust_env=False)
    client: openai.AsyncOpenAI | anthropic.AsyncAnthropic
    if dialect == "anthropic":
        client = anthropic.AsyncAnthropic(
            api_key=api_key,
            base_url=base_url,
            http_client=http_client,
            max_retries=options.max_retries,
            timeout=timeout,
        )
    else:
        client = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            http_client=http_client,
            max_retries=options.max_retries,
            timeout=timeout,
        )
    return SdkProvider(client, dialect_of(dialect, options.profile))


def scripted_provider(dialect: str, transport: ScriptedTransport | None = None) -> SdkProvider:
    """Return the embedded provider: no key, no network, the real wire of `dialect` under the real SDK."""
    return sdk_provider(
        dialect,
        UpstreamOptions(max_retries=0),
        api_key="scripted",
        base_url="http://scripted.invalid" + ("" if dialect == "anthropic" else "/v1"),
        transport=transport or ScriptedTransport(demo_brain),
    )


def from_environment(env: Mapping[str, str], options: UpstreamOptions) -> Models:
    """Return the providers for which `env` has a key, the one of `options.dialect` first; else the scripted one."""
    providers: dict[str, Provider] = {}
    wants_anthropic = options.dialect == "anthropic"
    if key := env.get("OPENAI_API_KEY"):
        dialect = "openai_chat" if wants_anthropic else options.dialect
        providers["openai"] = sdk_provider(dialect, options, api_key=key, base_url=env.get("OPENAI_BASE_URL"))
    if key := env.get("ANTHROPIC_API_KEY"):
        providers["anthropic"] = sdk_provider("anthropic", options, api_key=key, base_url=env.get("ANTHROPIC_BASE_URL"))
    if not providers:
        providers["scripted"] = scripted_provider(options.dialect)
    preferred = "anthropic" if wants_anthropic else "openai"
    default = preferred if preferred in providers else next(iter(providers))
    return Models(providers, default, options.default_model or DEFAULT_MODELS[default])
