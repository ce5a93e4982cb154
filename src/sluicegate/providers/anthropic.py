"""Anthropic and every server compatible with it, through the official `anthropic` SDK."""

import anthropic
import httpx2

from .dialects import dialect_of
from .failures import SdkErrors
from .sdk import SdkProvider, UpstreamOptions, http_client
from .template import Templated


class AnthropicClient(Templated, anthropic.AsyncAnthropic):
    """The SDK's client."""


_ERRORS = SdkErrors(anthropic.APIStatusError, anthropic.APITimeoutError, anthropic.APIError)


def anthropic_provider(
    options: UpstreamOptions, transport: httpx2.AsyncBaseTransport, api_key: str, base_url: str | None
) -> SdkProvider:
    """Return a provider that speaks Anthropic Messages. `base_url` None is the SDK's default."""
    client = AnthropicClient(
        api_key=api_key,
        base_url=base_url,
        http_client=http_client(options, transport),
        max_retries=options.max_retries,
        timeout=httpx2.Timeout(options.read_seconds, connect=options.connect_seconds),
    )
    return SdkProvider(client, _ERRORS, dialect_of("anthropic"))
