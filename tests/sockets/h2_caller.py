"""A client that speaks HTTP/2 on a raw socket, in clear text by prior knowledge or over TLS, and leaves impolitely."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal, get_args

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import msgspec
import trio

from tests.sockets.caller import NONE, RESET, Answer

H2How = Literal["fin", "rst", "half", "cancel", "goaway"]
H2_HOWS: tuple[H2How, ...] = get_args(H2How)
STREAM = 1


class H2Caller:
    """One request on one connection. `heard` is the body so far, `reset` why the stream was reset behind its end.

    What was read is given back to the server's window, unless `window` says how many bytes it may send in all.
    """

    def __init__(
        self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], window: int | None = None
    ) -> None:
        self.stream = stream
        self._window = window
        self._head: dict[str, str] | None = None
        self._complete = False
        self.heard = bytearray()
        self.reset: int | None = None
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        if window is not None:
            self.http.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window
            self.http.local_settings.acknowledge()
        self.http.initiate_connection()

    @property
    def raw(self) -> trio.SocketStream:
        """The plain stream, below TLS if there is any."""
        return self.stream if isinstance(self.stream, trio.SocketStream) else self.stream.transport_stream

    @property
    def run_id(self) -> str:
        assert self._head is not None
        return self._head["run-id"]

    async def ask(
        self, method: str, target: str, body: bytes = b"", sent: float = 1.0, more: Mapping[str, str] = NONE
    ) -> None:
        """Send a request with `more` headers, of its body (which must fit the first window and frame) only the part
        `sent`.
        """
        fields = [(":method", method), (":path", target), (":scheme", "http"), (":authority", "x")]
        fields += [("content-type", "application/json"), ("content-length", str(len(body)))]
        fields += more.items()
        self.http.send_headers(STREAM, fields, end_stream=not body)
        if body:
            self.http.send_data(STREAM, body[: int(sent * len(body))], end_stream=sent == 1.0)
        await self.flush()

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
        headers = dict(self._head)
        return Answer(int(headers.pop(":status")), headers, bytes(self.heard))

    async def hear_close(self) -> None:
        """Read until the server closes the connection, in whichever way."""
        try:
            while await self.stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass

    async def leave(self, how: H2How) -> None:
        """Go away: close, reset, shut the sending side only, cancel the stream, or say so and see the server close."""
        if how == "cancel":
            with contextlib.suppress(h2.exceptions.StreamClosedError):  # it has ended by itself
                self.http.reset_stream(STREAM)
            await self.flush()
            return  # the connection lives on
        if how == "goaway":
            self.http.close_connection()
            await self.flush()
            await self.hear_close()
        elif how == "half":
            await self.raw.send_eof()
            await self.hear_close()
        elif how == "rst":
            self.raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.raw.socket.close()

    async def flush(self) -> None:
        """Send what the HTTP/2 side has to say."""
        if data := self.http.data_to_send():
            await self.stream.send_all(data)

    async def _hear(self) -> None:
        data = await self.stream.receive_some(65536)
        assert data, f"the connection ended early: {bytes(self.heard)!r}"
        for event in self.http.receive_data(bytes(data)):
            if isinstance(event, h2.events.ResponseReceived):
                self._head = {str(name): str(value) for name, value in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                self.heard += event.data
                if self._window is None:
                    self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self._complete = True
            elif isinstance(event, h2.events.StreamReset) and self._complete:
                self.reset = event.error_code  # the rest of the request is not wanted (RFC 9113, section 8.1)
            assert self.reset is not None or not isinstance(
                event, (h2.events.StreamReset, h2.events.ConnectionTerminated)
            ), f"unexpected {event!r}"
        await self.flush()


@asynccontextmanager
async def calling_h2(
    port: int, context: ssl.SSLContext | None = None, window: int | None = None
) -> AsyncIterator[H2Caller]:
    """A connection to the service on `port`; closed at the end if it has not been left. With `context`, over TLS: it
    must trust the server as "localhost" and offer h2.
    """
    async with await trio.open_tcp_stream("127.0.0.1", port) as raw:
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] = raw
        if context is not None:
            stream = trio.SSLStream(raw, context, server_hostname="localhost", https_compatible=True)
            await stream.do_handshake()
            assert stream.selected_alpn_protocol() == "h2"
        caller = H2Caller(stream, window)
        await caller.flush()
        yield caller
