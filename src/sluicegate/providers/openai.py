"""OpenAI and every server compatible with it, through the official `openai` SDK."""

import httpx2
import msgspec
import openai

from ..wire.upstream.profiles import OPENAI, PROFILES, ProfileName
from .dialects import dialect_of
from .failures import SdkErrors
from .sdk import SdkProvider, UpstreamOptions, http_client
from .template import Templated


class OpenAIClient(Templated, openai.AsyncOpenAI):
    """The SDK's client."""


class AzureClient(Templated, openai.AsyncAzureOpenAI):
    """The SDK's client for Azure OpenAI."""


_ERRORS = SdkErrors(openai.APIStatusError, openai.APITimeoutError, openai.APIError)


def openai_provider(
    dialect: str,
    options: UpstreamOptions,
    transport: httpx2.AsyncBaseTransport,
    api_key: str,
    base_url: str | None,
    profile: ProfileName,
) -> SdkProvider:
    """Return a provider that speaks `openai_chat` or `openai_responses`. `base_url` None is the SDK's default."""
    client = OpenAIClient(
        api_key=api_key,
        base_url=base_url,
        http_client=http_client(options, transport),
        max_retries=0,  # who is asked next, and when, is decided where all providers are known
        timeout=httpx2.Timeout(options.read_seconds, connect=options.connect_seconds),
    )
    return SdkProvider(client, _ERRORS, dialect_of(dialect, PROFILES[profile]))


def azure_provider(
    options: UpstreamOptions,
    transport: httpx2.AsyncBaseTransport,
    api_key: str,
    endpoint: str,
    api_version: str,
) -> SdkProvider:
    """Return a provider that speaks Chat Completions with a resource of Azure OpenAI; its models are deployments."""
    client = AzureClient(
        api_key=api_key,
        azure_endpoint=endpoint,
        api_version=api_version,
        http_client=http_client(options, transport),
        max_retries=0,  # as above
        timeout=httpx2.Timeout(options.read_seconds, connect=options.connect_seconds),
    )
    dialect = dialect_of("openai_chat", OPENAI)
    return SdkProvider(client, _ERRORS, msgspec.structs.replace(dialect, path="/deployments/{model}/chat/completions"))
