"""The client. A stream that ends without its terminal event is an error here, never a quiet success."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2
import msgspec

from ..machine.errors import SluicegateError
from ..wire.sse import SseDecoder, SseFault
from .frame import Frame


class Interrupted(SluicegateError):
    """The stream ended before its terminal event; `run_id` may still be read on."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the stream of run {run_id} ended before its terminal event")
        self.run_id = run_id


class Refused(SluicegateError):
    """The service refused the request before the first byte; `status` is the HTTP status, `error` its JSON body."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "")) or f"HTTP status {status}")
        self.status = status
        self.error = error


class Stream:
    """One run as it comes in. Iterate over it once; each item is a Frame with the key that it carries."""

    def __init__(self, response: httpx2.Response) -> None:
        self.run_id = response.headers.get("run-id", "")
        self._response = response

    async def __aiter__(self) -> AsyncGenerator[Frame, None]:
        """Yield every frame up to the terminal. Raises Interrupted if that never comes."""
        decoder = SseDecoder()
        try:
            async with aclosing(self._response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    for event in decoder.feed(chunk):
                        if isinstance(event, SseFault):
                            raise Interrupted(self.run_id)
                        if event.data == b"[DONE]":
                            return
                        frame = msgspec.json.decode(event.data, type=Frame)
                        yield frame
        except httpx2.HTTPError as error:
            raise Interrupted(self.run_id) from error
        raise Interrupted(self.run_id)


class Client:
    """Talks to one service. Use it as an async context manager; `timeout` is the longest silence in seconds."""

    def __init__(self, url: str, timeout: float = 120.0) -> None:
        self._http = httpx2.AsyncClient(base_url=url, timeout=httpx2.Timeout(timeout, connect=10.0), trust_env=False)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def chat(self, messages: list[dict[str, Any]], **options: Any) -> AsyncIterator[Stream]:
        """Start a run and hold its stream open; leaving the context early disconnects, which ends the run.

        Raises Refused if the service answers with an error status.
        """
        body = msgspec.json.encode({"messages": messages, **options})
        request = self._http.build_request("POST", "/chat", content=body, headers={"content-type": "application/json"})
        response = await self._http.send(request, stream=True)
        try:
            if response.status_code != httpx2.codes.OK:
                raise Refused(response.status_code, _error(await response.aread()))
            yield Stream(response)
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
    except (msgspec.DecodeError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}
