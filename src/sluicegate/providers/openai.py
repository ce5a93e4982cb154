"""OpenAI and every server compatible with it, through the official `openai` SDK."""

import httpx2
import openai

from ..wire.upstream.profiles import PROFILES
from .dialects import dialect_of
from .failures import SdkErrors
from .sdk import SdkProvider, UpstreamOptions, http_client
from .template import Templated


class OpenAIClient(Templated, openai.AsyncOpenAI):
    """The SDK's client."""


_ERRORS = SdkErrors(openai.APIStatusError, openai.APITimeoutError, openai.APIError)


def openai_provider(
    dialect: str,
    options: UpstreamOptions,
    transport: httpx2.AsyncBaseTransport,
    api_key: str,
    base_url: str | None,
) -> SdkProvider:
    """Return a provider that speaks `openai_chat` or `openai_responses`. `base_url` None is the SDK's default."""
    client = OpenAIClient(
        api_key=api_key,
        base_url=base_url,
        http_client=http_client(options, transport),
        max_retries=options.max_retries,
        timeout=httpx2.Timeout(options.read_seconds, connect=options.connect_seconds),
    )
    return SdkProvider(client, _ERRORS, dialect_of(dialect, PROFILES[options.profile]))
