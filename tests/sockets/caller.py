"""A client on a raw socket, because it has to leave in every impolite way there is."""

import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Literal, NamedTuple

import h11
import msgspec
import trio

How = Literal["fin", "rst", "half"]
HOWS: tuple[How, ...] = ("fin", "rst", "half")
NONE: Mapping[str, str] = MappingProxyType({})
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s


class Answer(NamedTuple):
    """A complete response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> list[bytes]:
        """The data lines of a body of server-sent events."""
        return [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]


class Caller:
    """One request on one connection. `heard` is the body so far."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._head: h11.Response | None = None
        self._complete = False
        self.heard = bytearray()

    @property
    def run_id(self) -> str:
        assert self._head is not None
        return dict(self._head.headers)[b"run-id"].decode()

    async def ask(
        self, method: str, target: str, body: bytes = b"", sent: float = 1.0, more: Mapping[str, str] = NONE
    ) -> None:
        """Send a request with `more` headers, of its body only the part `sent`."""
        headers = [("Host", "x"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        headers += more.items()
        head = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        for event in (h11.Data(data=body), h11.EndOfMessage()):
            self._http.send(event)
        await self.stream.send_all(head + body[: int(sent * len(body))])

    async def chat(self, question: object, sent: float = 1.0) -> None:
        """Ask for a run whose user says `question` as JSON."""
        content = msgspec.json.encode(question).decode()
        body = msgspec.json.encode({"messages": [{"role": "user", "content": content}]})
        await self.ask("POST", "/chat", body, sent)

    async def hear_head(self) -> None:
        """Read until the response's head is here."""
        while self._head is None:
            await self._hear()

    async def hear(self, size: int, words: bytes = b"") -> None:
        """Read until `heard` holds `size` bytes and `words`."""
        while len(self.heard) < size or words not in self.heard:
            assert not self._complete, f"the response ended early: {bytes(self.heard)!r}"
            await self._hear()

    async def hear_all(self) -> Answer:
        """Read to the proper end of the response."""
        while not self._complete:
            await self._hear()
        assert self._head is not None
        headers = {name.decode(): value.decode() for name, value in self._head.headers}
        return Answer(self._head.status_code, headers, bytes(self.heard))

    async def leave(self, how: How) -> None:
        """Go away: close, reset, or shut the sending side only and see the server close."""
        if how == "half":
            await self.stream.send_eof()
            try:
                while await self.stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        elif how == "rst":
            self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.stream.socket.close()

    async def _hear(self) -> None:
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            self._http.receive_data(await self.stream.receive_some(4096))
        elif isinstance(event, h11.Response):
            self._head = event
        elif isinstance(event, h11.Data):
            self.heard += event.data
        elif isinstance(event, h11.EndOfMessage):
            self._complete = True
        else:
            raise AssertionError(f"unexpected {event!r}")


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    """A connection to the service on `port`; closed at the end if it has not been left."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Caller(stream)
