"""One HTTP response that streams events."""

import httpx2

from ..wire.sse import SseDecoder, SseEvent, SseFault
from .errors import Lost


class Link:
    """Holds a response and its connection; whoever has a Link closes it."""

    def __init__(self, response: httpx2.Response) -> None:
        self.run_id: str = response.headers.get("run-id", "")
        self._response = response
        self._chunks = response.aiter_bytes()
        self._decoder = SseDecoder()

    async def read(self) -> list[SseEvent | SseFault]:
        """Return the events that one read completes, possibly none (a heartbeat). Raises Lost at the end.

        Lost or cancelled, the connection is closed; a further call raises Lost.
        """
        try:
            return self._decoder.feed(await anext(self._chunks))
        except StopAsyncIteration:
            raise Lost("the connection was closed") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise Lost(words(error)) from error

    async def aclose(self) -> None:
        """Close the connection, unless the response is complete. Does not wait."""
        await self._chunks.aclose()
        await self._response.aclose()


def words(error: Exception) -> str:
    """Return the words of an exception, its name if it has none."""
    return str(error) or type(error).__name__
