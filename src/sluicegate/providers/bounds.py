"""What a provider's body may come to where its size is not seen on the wire, or where the SDKs would read all of it."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import httpx2

from ..machine.errors import ErrorCode, RunError
from .base import StreamLost

# Inflated bytes of a reply that comes compressed, unasked. 200 bytes of wire for each token leave room for 300,000.
MAX_INFLATED: Final = 64 * 1024 * 1024
MAX_REFUSAL: Final = 64 * 1024  # bytes of an error body, inflated; what is told of it stands at its beginning


async def inflated(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    """Yield the body of `response`, decoded in bounded pieces. Raises StreamLost behind MAX_INFLATED bytes."""
    size = 0
    async with aclosing(response.aiter_bytes()) as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > MAX_INFLATED:
                raise StreamLost(
                    RunError(
                        ErrorCode.UPSTREAM_ERROR,
                        f"The provider's compressed reply is longer than {MAX_INFLATED} bytes.",
                        truncated=True,
                    )
                )
            yield piece


async def bound_refusal(response: httpx2.Response) -> None:
    """Let `response`, if it is an error, end after MAX_REFUSAL bytes: the SDKs read error bodies to their end, whatever
    that is. As a hook of httpx2's client; no checkpoint.
    """
    if response.is_error:
        whole = httpx2.Response(response.status_code, headers=response.headers, stream=response.stream)
        response.headers.pop("content-encoding", None)
        response.stream = _Beginning(whole)


class _Beginning(httpx2.AsyncByteStream):
    """The first MAX_REFUSAL bytes of a body, decoded."""

    def __init__(self, whole: httpx2.Response) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_REFUSAL
        async with aclosing(self._whole.aiter_bytes()) as pieces:
            async for piece in pieces:
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    return

    async def aclose(self) -> None:
        await self._whole.aclose()
