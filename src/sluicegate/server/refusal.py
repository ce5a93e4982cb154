"""Requests over HTTP/1.1 that the application refuses, answered by their connection itself.

A refusal has to cost little: at twice the load that can be carried there is one for every run, and what it costs, runs
do not get. By way of the application, with its task, channels and writes, it costs 0.78 ms, here 0.32 (a connection
that is kept; a short run 2.8).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Protocol

import h11
from hypercorn.protocol.events import EndBody, Event

ASKED: Final = "sluicegate.asked"  # in the ASGI state: the application was asked, and the request may go on


class Refusal(Protocol):
    """A whole response; `headers` include its length."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def body(self) -> bytes: ...


# From method, path and headers of a request to the answer, None if it goes on to the application. Synchronous.
Refuse = Callable[[str, str, Iterable[tuple[bytes, bytes]]], Refusal | None]


class RefusedStream:
    """Stands in for Hypercorn's stream of one request: throws its body away, then answers. The connection can be used
    again then; closed before the body is read, it would be reset, and the client might not see the answer.
    """

    def __init__(self, respond: Callable[[], Awaitable[None]]) -> None:
        self._respond = respond

    async def handle(self, event: Event) -> None:
        """Take what comes of the request."""
        if isinstance(event, EndBody):
            await self._respond()


def encode(answer: Refusal, more_headers: list[tuple[bytes, bytes]], connection: h11.Connection) -> bytes:
    """Return the bytes of the whole response, for one write."""
    head = h11.Response(status_code=answer.status, headers=[*answer.headers, *more_headers])
    parts = (head, h11.Data(data=answer.body), h11.EndOfMessage())
    return b"".join(connection.send(part) or b"" for part in parts)
