"""A streamed response: a reader of a run's log, and who is told when the last reader leaves."""

import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, cast

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable
from quart import Request, Response, request
from quart.wrappers.response import ResponseBody
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Response as WerkzeugResponse

from ..machine.events import RunFailed
from ..runtime.driver import Driver
from ..runtime.ports import Sink
from .problems import respond_run_error

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
SINK = "sluicegate.sink"  # the server's key in the ASGI state
_LEASE = "sluicegate.lease"
_BLANK = dict(Response(b"", status=200).__dict__)


class Lease:
    """One request's hold on a run: a reader of its log. Released once, whatever becomes of the request: by the server
    in the tick that sees the client leave, or by the connection at the latest.
    """

    def __init__(self, driver: Driver, after: int = 0, sink: Sink | None = None) -> None:
        self._driver = driver
        self.reader = driver.attach(after, sink)
        self._sink = sink
        if sink is not None:
            sink.on_gone = self.release

    def begin(self) -> None:
        """The response is about to be sent: its head goes out with the first frames, where they are there."""
        if self._sink is not None and self.reader.is_behind:
            self._sink.cork()

    def release(self) -> None:
        """Leave. Synchronous, so a cancelled request cannot forget it; a second time does nothing."""
        if self._sink is not None:
            self._sink.on_gone = None
        self._driver.detach(self.reader)


def take_lease(driver: Driver, after: int = 0) -> Lease:
    """Attach this request to `driver`; the connection releases the lease when the request is over."""
    scope: dict[str, Any] = cast(dict[str, Any], request.scope)  # ASGI leaves room for keys of the application
    lease = Lease(driver, after, scope.get("state", {}).get(SINK))
    scope[_LEASE] = lease
    return lease


class Connection(TrioASGIHTTPConnection):
    """Quart-Trio's connection, which also settles what the response is and releases the lease: the only place that
    every request passes on its way out, also one that is cancelled between its handler and its response body.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        request = self._create_request_from_scope(send)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.handle_request, nursery, request, send)
                # In this task, not in another one as Quart-Trio has it: a task less for each stream, and messages that
                # are here already are with the request before it is looked at.
                with contextlib.suppress(_BodyOver):
                    await self.handle_messages(nursery, request, _until_body_over(receive))
                del request
                while (await receive())["type"] != "http.disconnect":
                    pass
                self._disconnected = True  # for Quart 0.23
                nursery.cancel_scope.cancel()
        finally:
            lease = self.scope.get(_LEASE)
            if isinstance(lease, Lease):
                lease.release()

    async def handle_request(  # type: ignore[override]  # as Quart-Trio's
        self, nursery: trio.Nursery, request: Request, send: ASGISendCallable
    ) -> None:
        """As Quart-Trio's, without a timeout, but lets go of the request, which is several KiB, before it answers."""
        response = await self.app.handle_request(request)
        del request
        await self._send_response(send, response)
        nursery.cancel_scope.cancel()

    async def _send_response(self, send: ASGISendCallable, response: Response | WerkzeugResponse) -> None:
        if isinstance(response, Answer):
            await response.settle()
        await super()._send_response(send, response)


class _BodyOver(Exception):
    """The body of a request is complete."""


def _until_body_over(receive: ASGIReceiveCallable) -> ASGIReceiveCallable:
    """Return a `receive` that raises _BodyOver when the body is complete or the client has left."""
    more = True

    async def receive_body() -> ASGIReceiveEvent:
        nonlocal more
        if not more:
            raise _BodyOver
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
        return message

    return receive_body


class Body(ResponseBody):
    """What Quart iterates over: all frames that are there, at most 16 KiB at a time. Not a generator (PEP 789)."""

    def __init__(self, lease: Lease, headers: Headers) -> None:
        self._reader = lease.reader
        self._headers = headers

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._headers.clear()  # they are sent: who streams needs no more of them, and with rates it is a KiB
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


class Answer(Response):
    """The SSE response that reads `lease`. With `hold_seconds` its status waits so long for the first word: a run that
    fails before that is told by the status, and `on_refusal` is called.

    It is settled only when it is sent. By then all is done that Quart does with a response, and nothing of that stands
    between the provider's first word and the client.
    """

    def __init__(
        self,
        driver: Driver,
        lease: Lease,
        hold_seconds: float | None = None,
        on_refusal: Callable[[Driver], None] = lambda _driver: None,
    ) -> None:
        # Without Quart's own, which makes headers that are none of ours first, at 40 us.
        self.__dict__.update(_BLANK)
        self.headers = Headers(list(headers(driver).items()))
        self.response = Body(lease, self.headers)
        self.timeout = None
        self._driver = driver
        self._lease = lease
        self._hold_seconds = hold_seconds
        self._on_refusal = on_refusal

    async def settle(self) -> None:
        """Wait for the first word, but not long. A checkpoint only if it has to wait; cancelled, nothing is changed."""
        driver = self._driver
        if self._hold_seconds is not None:
            if driver.first is None:
                with trio.move_on_after(self._hold_seconds):
                    await driver.answered.wait()
            refusal = respond_run_error(driver.first.error) if isinstance(driver.first, RunFailed) else None
            if refusal is not None:
                self._refuse(refusal)
        self._lease.begin()

    def _refuse(self, refusal: Response) -> None:
        for name in headers(self._driver):
            del self.headers[name]
        self.headers.update(refusal.headers)  # beside those that others have set meanwhile
        self.status_code = refusal.status_code
        self.response = refusal.response
        self._on_refusal(self._driver)
