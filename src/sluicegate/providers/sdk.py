"""The official SDKs carry the request (keys, base URL, headers, retries, errors); the reply is read as raw bytes.

The body is encoded once, by our wire: the SDKs' typed `create` costs 1 ms for a short and 14 ms for a long
conversation, `post` with finished bytes 0.6 ms for both.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import anthropic
import httpx2
import msgspec
import openai
import trio

from ..machine.history import Request
from ..wire.upstream.base import Decoder
from .failures import opening, reading

CLOSE_GRACE = 1.0  # seconds that closing an upstream may take
_HEADERS = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}


class Dialect(msgspec.Struct, frozen=True):
    """How one API of a provider is spoken: where, with which body, and how its reply is read."""

    path: str
    encode: Callable[[Request], bytes]
    decoder: Callable[[], Decoder]


class SdkProvider:
    """A provider behind an official SDK client. Owns the client: `aclose` closes it."""

    def __init__(self, client: openai.AsyncOpenAI | anthropic.AsyncAnthropic, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect

    def decoder(self) -> Decoder:
        return self._dialect.decoder()

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        with opening():
            response = await self._client.post(
                self._dialect.path,
                cast_to=httpx2.Response,
                stream=True,
                content=self._dialect.encode(request),
                options={"headers": _HEADERS},
            )
        try:
            async with aclosing(_chunks(response)) as chunks:
                yield chunks
        finally:
            with trio.move_on_after(CLOSE_GRACE, shield=True):
                await response.aclose()

    async def aclose(self) -> None:
        await self._client.close()


async def _chunks(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    with reading():
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                yield chunk
