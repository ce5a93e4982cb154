"""Anthropic and every server compatible with it, through the official `anthropic` SDK."""

from functools import partial

import anthropic
import httpx2
import msgspec
from anthropic._constants import ANTHROPIC_API_VERSION  # private, and pinned with the SDK

from ..wire.upstream.anthropic_messages_request import encode_vertex_request
from .dialects import dialect_of
from .failures import SdkErrors
from .sdk import SdkProvider, UpstreamOptions, http_client
from .template import Templated


class AnthropicClient(Templated, anthropic.AsyncAnthropic):
    """The SDK's client."""


class VertexClient(Templated, anthropic.AsyncAnthropicVertex):
    """The SDK's client for Anthropic on Google Vertex AI."""


_ERRORS = SdkErrors(anthropic.APIStatusError, anthropic.APITimeoutError, anthropic.APIError)


def anthropic_provider(
    options: UpstreamOptions, transport: httpx2.AsyncBaseTransport, api_key: str, base_url: str | None
) -> SdkProvider:
    """Return a provider that speaks Anthropic Messages. `base_url` None is the SDK's default."""
    client = AnthropicClient(
        api_key=api_key,
        base_url=base_url,
        http_client=http_client(options, transport),
        max_retries=0,  # who is asked next, and when, is decided where all providers are known
        timeout=httpx2.Timeout(options.read_seconds, connect=options.connect_seconds),
    )
    return SdkProvider(client, _ERRORS, dialect_of("anthropic"))


def vertex_provider(
    options: UpstreamOptions,
    transport: httpx2.AsyncBaseTransport,
    access_token: str | None,
    base_url: str | None,
    project: str,
    region: str,
) -> SdkProvider:
    """Return a provider that speaks Anthropic Messages with Google Vertex AI. Without a token, Google's library finds
    the credentials of the machine, in a thread.
    """
    client = VertexClient(
        access_token=access_token,
        base_url=base_url,
        project_id=project,
        region=region,
        http_client=http_client(options, transport),
        max_retries=0,  # as above
        timeout=httpx2.Timeout(options.read_seconds, connect=options.connect_seconds),
    )
    path = f"/projects/{project}/locations/{region}/publishers/anthropic/models/{{model}}:streamRawPredict"
    encode = partial(encode_vertex_request, version=ANTHROPIC_API_VERSION)
    dialect = msgspec.structs.replace(dialect_of("anthropic"), path=path, encode=encode, models_path="")
    return SdkProvider(client, _ERRORS, dialect)
