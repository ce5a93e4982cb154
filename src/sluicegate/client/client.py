"""The client. A stream that ends without its terminal event is an error here, never a quiet success."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2
import msgspec

from ..machine.errors import SluicegateError
from ..providers.transport import TrioTransport
from ..wire.sse import SseDecoder, SseEvent, SseFault
from .frame import Frame


class Interrupted(SluicegateError):
    """The stream ended before its terminal event; `run_id` may still be read on."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the stream of run {run_id or '(unknown)'} ended before its terminal event")
        self.run_id = run_id


class Refused(SluicegateError):
    """The service refused the request before the first byte; `status` is the HTTP status, `error` its JSON body."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "")) or f"HTTP status {status}")
        self.status = status
        self.error = error


class Stream:
    """One run as it comes in. Iterate over it once; each item is a Frame with the key that it carries.

    Ends after the terminal frame. Raises Interrupted if that never comes, or if what comes is not the native wire.
    """

    def __init__(self, run_id: str, chunks: AsyncIterator[bytes]) -> None:
        self.run_id = run_id
        self._chunks = chunks
        self._decoder = SseDecoder()
        self._waiting: deque[SseEvent | SseFault] = deque()
        self._over = False

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Frame:
        """Return the next frame."""
        if self._over:
            raise StopAsyncIteration
        while not self._waiting:
            try:
                self._waiting += self._decoder.feed(await anext(self._chunks))
            except (StopAsyncIteration, httpx2.HTTPError, httpx2.StreamError) as error:
                raise Interrupted(self.run_id) from error
        event = self._waiting.popleft()
        if isinstance(event, SseFault):
            raise Interrupted(self.run_id)
        try:
            frame = _decode(event.data)  # `[DONE]` without a terminal before it is no frame either
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Interrupted(self.run_id) from error
        self._over = frame.done or frame.error is not None
        return frame


_decode = msgspec.json.Decoder(Frame).decode


class Client:
    """Talks to one service. Use it as an async context manager; `timeout` is the longest silence in seconds."""

    def __init__(self, url: str, timeout: float = 120.0) -> None:
        limits = httpx2.Timeout(timeout, connect=10.0)
        # The stock transport leaves async generators behind wherever a stream is left early; Trio reports them.
        self._http = httpx2.AsyncClient(base_url=url, timeout=limits, transport=TrioTransport(), trust_env=False)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def chat(self, messages: list[dict[str, Any]], **options: Any) -> AsyncIterator[Stream]:
        """Start a run and hold its stream open; leaving the context early disconnects, which ends the run.

        Raises Refused if the service answers with an error status, httpx2.HTTPError if it does not answer.
        """
        body = msgspec.json.encode({"messages": messages, **options})
        request = self._http.build_request("POST", "/chat", content=body, headers={"content-type": "application/json"})
        response = await self._http.send(request, stream=True)
        try:
            if response.status_code != httpx2.codes.OK:
                raise Refused(response.status_code, _error(await response.aread()))
            async with aclosing(response.aiter_bytes()) as chunks:
                yield Stream(response.headers.get("run-id", ""), chunks)
        finally:
            await response.aclose()

    async def stop(self, run_id: str) -> None:
        """End a run. Raises Refused if there is no such run."""
        response = await self._http.delete(f"/runs/{run_id}")
        if response.status_code != httpx2.codes.NO_CONTENT:
            raise Refused(response.status_code, _error(response.content))


def _error(body: bytes) -> dict[str, Any]:
    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}
