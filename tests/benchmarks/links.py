"""One request on a connection of its own, over HTTP/1.1 or HTTP/2 in clear text; may be left impolitely."""

import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11
import trio

from tests.sockets.caller import RESET

STREAM = 1


class Lost(Exception):
    """The connection broke, or the response did not end as it should."""


class Link(ABC):
    """`status` and `headers` are there behind `head`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._stream = stream
        self._complete = False
        self._body = bytearray()

    @abstractmethod
    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Send a request. Raises Lost."""

    @abstractmethod
    async def _take(self, data: bytes) -> None:
        """Take what the socket brought, b"" at its end. Raises Lost."""

    async def head(self) -> int:
        """Wait for the head of the response; returns the status. Raises Lost."""
        while not self.status:
            await self._receive()
        return self.status

    async def read(self) -> bytes:
        """Return the next bytes of the body, b"" at its proper end. Raises Lost."""
        while not self._body and not self._complete:
            await self._receive()
        data = bytes(self._body)
        self._body.clear()
        return data

    async def leave(self, how: str) -> None:
        """Go away: `fin` closes the connection, `rst` resets it."""
        if how == "rst":
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._stream.socket.close()

    async def _receive(self) -> None:
        try:
            data = await self._stream.receive_some(65536)
        except trio.BrokenResourceError as error:
            raise Lost("reset") from error
        await self._take(data)

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise Lost("reset") from error


class Http1Link(Link):
    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        fields = [("Host", "x"), *headers.items(), ("Content-Length", str(len(body)))]
        head = self._http.send(h11.Request(method=method, target=path, headers=fields)) or b""
        for event in (h11.Data(data=body), h11.EndOfMessage()):
            self._http.send(event)
        await self._send(head + body)

    async def _take(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Response):
                    self.status = event.status_code
                    self.headers = {name.decode(): value.decode() for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self._complete = True
                    return
                else:
                    raise Lost("closed")
        except h11.RemoteProtocolError as error:
            raise Lost(str(error)) from error


class Http2Link(Link):
    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._http.initiate_connection()

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        fields = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "x")]
        fields += [(name.lower(), value) for name, value in headers.items()]
        self._http.send_headers(STREAM, [*fields, ("content-length", str(len(body)))], end_stream=not body)
        if body:
            self._http.send_data(STREAM, body, end_stream=True)
        await self._flush()

    async def leave(self, how: str) -> None:
        """Besides `fin` and `rst` of the connection there is `cancel`, of the stream alone."""
        if how == "cancel":
            if not self._complete:
                self._http.reset_stream(STREAM)
                await self._flush()
        else:
            await super().leave(how)

    async def _take(self, data: bytes) -> None:
        if not data:
            raise Lost("closed")
        try:
            events = self._http.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise Lost(str(error)) from error
        for event in events:
            if isinstance(event, h2.events.ResponseReceived):
                self.headers = {str(name): str(value) for name, value in event.headers}
                self.status = int(self.headers.pop(":status"))
            elif isinstance(event, h2.events.DataReceived):
                self._body += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self._complete = True
            elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated) and not self._complete:
                raise Lost(repr(event))
        await self._flush()

    async def _flush(self) -> None:
        if data := self._http.data_to_send():
            await self._send(data)


@asynccontextmanager
async def linked(port: int, *, http2: bool = False, receive_buffer: int = 0) -> AsyncIterator[Link]:
    """A connection to the service on `port`; closed at the end if it has not been left. `receive_buffer` bounds what
    the system takes in while nobody reads, in bytes; 0 leaves that to the system. Raises Lost.
    """
    with trio.socket.socket() as raw:
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await raw.connect(("127.0.0.1", port))
        except OSError as error:
            raise Lost(str(error)) from error
        stream = trio.SocketStream(raw)
        yield Http2Link(stream) if http2 else Http1Link(stream)
