"""The official SDKs carry the request (keys, base URL, headers, retries, errors); the reply is read as raw bytes.

The body is encoded once, by our wire: the SDKs' typed `create` costs 1 ms for a short and 14 ms for a long
conversation, `post` with finished bytes 0.6 ms for both.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, cast

import httpx2
import msgspec
import trio
from annotated_types import Ge

from ..machine.history import Request
from ..machine.quantities import DOCUMENTED, Count, Seconds
from ..wire.upstream.base import Decoder
from ..wire.upstream.profiles import ProfileName
from .base import BODY, NO_TRACE, Body, ProviderRejected
from .bounds import bound_refusal, inflated
from .dialects import Dialect, DialectName
from .failures import SdkErrors, lost, opening
from .proxies import checked_proxy

if TYPE_CHECKING:
    from .anthropic import AnthropicClient, VertexClient
    from .openai import AzureClient, OpenAIClient

    SdkClient: TypeAlias = OpenAIClient | AzureClient | AnthropicClient | VertexClient

NOT_FOUND = 404
CLOSE_GRACE = 1.0  # seconds that closing an upstream may take
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
_HEADERS = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}


class Transport(StrEnum):
    """What carries the requests. DIRECT: our own transport, HTTP/1.1, straight to the provider. STOCK: httpcore2, which
    goes through proxies. STOCK_HTTP2: the same, and HTTP/2 where the server chooses it.
    """

    DIRECT = "direct"
    STOCK = "stock"
    STOCK_HTTP2 = "stock-http2"


@dataclass(frozen=True)
class UpstreamOptions:
    """How upstreams are reached. Times in seconds."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    dialect: DialectName = "openai_chat"
    """The API that is spoken with the provider of the environment's key."""
    profile: ProfileName = "auto"
    """Quirks of a compatible server."""
    default_model: str = ""
    """The model for requests that name none; "" for the provider's usual one."""
    connect_seconds: Seconds = 10.0
    """Until a connection stands."""
    read_seconds: Seconds = 120.0
    """The longest silence within a reply."""
    max_retries: Annotated[int, Ge(0)] = 2
    """How often a provider is asked again where its failure may pass, before the first word of a reply only."""
    max_upstreams: Count = 10_000
    """Requests to one provider at once; more wait."""
    transport: Transport = Transport.DIRECT
    """What carries the requests: our own transport, or httpcore2, which goes through proxies and speaks HTTP/2."""
    proxy: str = ""
    """URL of the proxy of the stock transports, for all requests; "" for the proxies of the environment."""

    def __post_init__(self) -> None:
        if self.max_upstreams < 1:
            raise ValueError(f"max_upstreams: must be at least 1, is {self.max_upstreams}")
        if self.proxy:
            checked_proxy("proxy", self.proxy)


class SdkProvider:
    """A provider behind an official SDK client. Owns the client: `aclose` closes it."""

    def __init__(self, client: "SdkClient", errors: SdkErrors, dialect: Dialect) -> None:
        self._client = client
        self._errors = errors
        self._dialect = dialect

    def decoder(self) -> Decoder:
        return self._dialect.decoder()

    @asynccontextmanager
    async def open(self, request: Request, trace: Mapping[str, str] = NO_TRACE) -> AsyncIterator[AsyncIterator[bytes]]:
        with opening(self._errors):
            path = self._dialect.path_for(request.model)
            response = await self._client.post_bytes(path, self._dialect.encode(request), _HEADERS, trace)
        body = _plain_body(response)
        try:
            if body is not None:
                del response  # who streams needs no more of it, and it is several KiB
                with closing(body):
                    yield body
            else:
                async with _closing(response), aclosing(_chunks(response)) as chunks:
                    yield chunks
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise lost(error) from error

    async def list_models(self) -> list[str] | None:
        """Ask for the models that there are, which costs nothing; None where the provider has no list. Raises
        ProviderUnavailable or ProviderRejected.
        """
        if not self._dialect.models_path:
            return None
        try:
            with opening(self._errors):
                response = await self._client.get(self._dialect.models_path, cast_to=httpx2.Response)
            return [model.id for model in msgspec.json.decode(response.content, type=_Listing).data]
        except ProviderRejected as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return None
        except msgspec.MsgspecError:
            return None

    async def aclose(self) -> None:
        await self._client.close()


class _Listed(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_Listed]


def _plain_body(response: httpx2.Response) -> Body | None:
    """The body by itself, if the transport hands it out and it is the stream that was asked for."""
    body: Body | None = response.extensions.get(BODY)
    return None if body is None or _is_encoded(response) or _is_plain_json(response) else body


@asynccontextmanager
async def _closing(response: httpx2.Response) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with trio.move_on_after(CLOSE_GRACE, shield=True):
            await response.aclose()


async def _chunks(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    async with aclosing(_body(response)) as chunks:
        if _is_plain_json(response):
            # A server that does not stream, or an error with status 200 (case 43): as one event, decoders read it.
            yield b"data: "
            async for chunk in chunks:
                yield chunk.translate(_ONE_LINE)
            yield b"\n\n"
        async for chunk in chunks:
            yield chunk


def _is_plain_json(response: httpx2.Response) -> bool:
    media_type: str = response.headers.get("content-type", "")
    return media_type.partition(";")[0].strip().lower() == "application/json"


def _is_encoded(response: httpx2.Response) -> bool:
    encoding: str = response.headers.get("content-encoding", "identity")
    return encoding != "identity"


def _body(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """The body as the transport hands it out; only one that is encoded, unasked, is decoded, up to a bound."""
    if _is_encoded(response):
        return inflated(response)
    return cast(AsyncGenerator[bytes, None], aiter(cast(httpx2.AsyncByteStream, response.stream)))


def http_client(options: UpstreamOptions, transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncClient:
    """Return the HTTP client for an SDK. It looks for no proxies, not even in the environment: `transport` decides."""
    timeout = httpx2.Timeout(options.read_seconds, connect=options.connect_seconds)
    hooks = {"response": [bound_refusal]}
    return httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False, event_hooks=hooks)
