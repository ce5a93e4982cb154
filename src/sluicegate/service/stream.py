"""A streamed response: a reader of a run's log, and who is told when the last reader leaves."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart import Response, request
from quart.wrappers.response import ResponseBody
from quart_trio.asgi import TrioASGIHTTPConnection

from ..runtime.driver import Driver
from ..runtime.ports import Sink

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
SINK = "sluicegate.sink"  # the server's key in the ASGI state
_LEASE = "sluicegate.lease"


class Lease:
    """One request's hold on a run: a reader of its log. Released once, whatever becomes of the request: by the server
    in the tick that sees the client leave, or by the connection at the latest.
    """

    def __init__(self, driver: Driver, after: int = 0, sink: Sink | None = None) -> None:
        self._driver = driver
        self.reader = driver.attach(after, sink)
        if sink is not None:
            sink.on_gone = self.release

    def release(self) -> None:
        """Leave. Synchronous, so a cancelled request cannot forget it; a second time does nothing."""
        self._driver.detach(self.reader)


def take_lease(driver: Driver, after: int = 0) -> Lease:
    """Attach this request to `driver`; the connection releases the lease when the request is over."""
    scope: dict[str, Any] = cast(dict[str, Any], request.scope)  # ASGI leaves room for keys of the application
    lease = Lease(driver, after, scope.get("state", {}).get(SINK))
    scope[_LEASE] = lease
    return lease


class Connection(TrioASGIHTTPConnection):
    """Quart-Trio's connection, which also releases the lease: the only place that every request passes on its way
    out, also one that is cancelled between its handler and its response body.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await super().__call__(receive, send)
        finally:
            lease = self.scope.get(_LEASE)
            if isinstance(lease, Lease):
                lease.release()


class Body(ResponseBody):
    """What Quart iterates over: all frames that are there, at most 16 KiB at a time. Not a generator (PEP 789)."""

    def __init__(self, lease: Lease) -> None:
        self._reader = lease.reader

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Nothing to do: the connection releases the lease."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await self._reader.next()
        if data is None:
            raise StopAsyncIteration
        return data


def headers(driver: Driver) -> dict[str, str]:
    """Return the headers of every response that streams `driver`'s run."""
    return {**HEADERS, "Run-Id": driver.run.run_id}


def respond(driver: Driver, lease: Lease) -> Response:
    """Return the SSE response that reads `lease`."""
    response = Response(b"", status=200)
    response.response = Body(lease)
    response.headers.clear()
    response.headers.update(headers(driver))
    response.timeout = None
    return response
