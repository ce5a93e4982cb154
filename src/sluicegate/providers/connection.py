"""One HTTP/1.1 client connection: a non-blocking socket, plain or TLS, and the parser of the response it carries.

The parser does no I/O; `feed` and `eof` are its inputs, and how the bytes were cut never changes what it yields.
"""

import math
import re
import select
import socket
import ssl
from enum import Enum, auto
from typing import NoReturn

import httptools
import httpx2
import trio
from trio.lowlevel import notify_closing, wait_readable, wait_writable

READ_SIZE = 65_536  # bytes asked of the socket at once
_CHUNK_HEADER = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n").match
MAX_OVERHEAD = 65_536  # bytes of head, interim heads included; also of framing and trailers without a body byte


class Stage(Enum):
    """How far a response has come."""

    HEAD = auto()
    BODY = auto()
    COMPLETE = auto()


class ResponseParser:
    """Parses the response to one request with llhttp, strictly: bare LF, folded headers, two lengths are errors.

    `pending` are the body bytes that `take` will return; `failure` is what it raises behind them.

    `status`, `headers` and `http_version` are set once `stage` has left HEAD; interim (1xx) heads are dropped, 101 is
    an error as nobody asks for it. A failure found behind body bytes is raised only after these have been taken.
    """

    def __init__(self, method: str) -> None:
        self.stage = Stage.HEAD
        self.status = 0
        self.http_version = b""
        self.headers: list[tuple[bytes, bytes]] = []
        # Through httptools llhttp cannot be told that a response to HEAD has no body, so it would miss excess bytes.
        self._bodiless = method == "HEAD"
        self._keep_alive = not self._bodiless
        self._framed = False
        self._between = False  # two chunks: the next read begins with a size
        self._overhead = 0
        self.pending: list[bytes] = []
        self.failure: httpx2.RemoteProtocolError | None = None
        self._llhttp: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    @property
    def reusable(self) -> bool:
        """True if the connection may carry another request: complete, kept alive by the peer, and nothing behind it."""
        return self._keep_alive and self.stage is Stage.COMPLETE

    def forbid_reuse(self) -> None:
        """Makes `reusable` false, whatever the peer says."""
        self._keep_alive = False

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the connection, not empty. Never raises: failures come from `take`."""
        if self.stage is Stage.HEAD:
            room = MAX_OVERHEAD - self._overhead
            self._execute(data[:room])
            if self.stage is not Stage.HEAD:
                self._overhead = 0
                if len(data) > room:
                    self._execute(data[room:])
            elif len(data) > room:
                self._fail(f"the response head is longer than {MAX_OVERHEAD} bytes")
            else:
                self._overhead += len(data)
            return
        if self._between and (chunk := _only_chunk(data)):
            # Nearly every read of a paced reply. llhttp need not see a chunk that begins where another one ended.
            self.pending.append(chunk)
            self._overhead = 0
            return
        self._execute(data)
        if self.pending:
            self._overhead = 0
        else:
            self._overhead += len(data)
            if self._overhead > MAX_OVERHEAD:
                self._fail(f"more than {MAX_OVERHEAD} bytes of chunk framing or trailers without body bytes")

    def eof(self) -> None:
        """The peer will send no more: completes a body that ends with the connection, fails every other one."""
        if self.stage is Stage.BODY and not self._framed:
            self.stage = Stage.COMPLETE
        elif self.stage is Stage.BODY:
            self._fail("the peer closed the connection before the end of the response body")
        elif self.stage is Stage.HEAD:
            self._fail("the peer closed the connection without sending a complete response head")

    def take(self) -> bytes:
        """Returns the body bytes since the last call, joined; b"" if there are none.

        Raises httpx2.RemoteProtocolError, and goes on raising it, once the bytes before the failure are taken.
        """
        body = self.pending
        if not body:
            if self.failure is not None:
                raise self.failure
            return b""
        joined = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return joined

    def close(self) -> None:
        """No more bytes will be fed. What is left can still be taken; breaks the reference cycle with llhttp."""
        self._llhttp = None
        self._between = False

    def _execute(self, data: bytes) -> None:
        self._between = False
        if self._llhttp is None or self.failure is not None:
            return
        try:
            self._llhttp.feed_data(data)
            # What may follow the end of a chunk within a read is the beginning of a size, which has no line end yet.
            self._between = self._between and self.stage is Stage.BODY and data.endswith(b"\r\n")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._keep_alive = False
            if self.stage is not Stage.COMPLETE:  # bytes behind the response only cost the connection
                self._fail(f"the response is not valid HTTP/1.1: {exc}")

    def _fail(self, message: str) -> None:
        self._keep_alive = False
        self._between = False
        if self.failure is None:
            self.failure = httpx2.RemoteProtocolError(message)

    def _abort(self, message: str) -> NoReturn:
        """Stops llhttp from within a callback."""
        if self.stage is not Stage.COMPLETE:
            self._fail(message)
        raise ValueError(message)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        if self.stage is Stage.COMPLETE:
            self._abort("a second response")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.stage is not Stage.HEAD:  # trailers
            return
        self.headers.append((name, value))
        lowered = name.lower()
        if lowered == b"content-length":
            self._framed = True
        elif lowered == b"transfer-encoding":
            if value.strip().lower() != b"chunked" or self._framed:
                self._abort("the response has a transfer encoding that nobody asked for")
            self._framed = True

    def on_headers_complete(self) -> None:
        if self._llhttp is None:
            return
        status = self._llhttp.get_status_code()
        if status < 100 or status == 101:
            self._abort(f"the response has the unusable status {status}")
        if status < 200:
            self.headers.clear()
            self._framed = False
            return
        self.status = status
        self.http_version = b"HTTP/" + self._llhttp.get_http_version().encode()
        # Only valid here: llhttp clears its flags at the end of the message.
        self._keep_alive = self._keep_alive and self._llhttp.should_keep_alive()
        self.stage = Stage.COMPLETE if self._bodiless else Stage.BODY

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_body(self, data: bytes) -> None:
        if self.stage is Stage.BODY:
            self.pending.append(data)

    def on_message_complete(self) -> None:
        if self.stage is Stage.BODY:
            self.stage = Stage.COMPLETE


def _only_chunk(data: bytes) -> bytes:
    """The body bytes of `data` if it is one whole chunk, but not the last one; else nothing."""
    header = _CHUNK_HEADER(data)
    if header is None:
        return b""
    start, size = header.end(), int(header[1], 16)
    return data[start:-2] if len(data) == start + size + 2 and data.endswith(b"\r\n") else b""


class Connection:
    """A connected plain TCP socket. `close` is synchronous and may be called by any task, also while another waits.

    `waiting_since` (Trio's clock, inf while nobody waits) and `read_timeout` (seconds) are for an owner that watches
    many connections and closes the overdue: a cancel scope for each read would double the cost of the wait.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.waiting_since = math.inf
        self.read_timeout = math.inf
        self.write_timeout = math.inf
        self._socket = sock
        # Trio's own function looks for the clock each time: two calls more for each read.
        self._now = trio.lowlevel.current_clock().current_time
        self._closed_by: httpx2.TransportError | None = None

    async def receive(self) -> bytes:
        """Returns what one read of the socket brings, b"" at its end.

        Always waits, so it is a checkpoint. Raises httpx2.ReadError, or the reason given to `close`.
        """
        while True:
            if self._closed_by is not None:
                raise self._closed_by
            self.waiting_since = self._now()
            try:
                await wait_readable(self._socket)
                return self._socket.recv(READ_SIZE)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError) as exc:
                raise self._closed_by or httpx2.ReadError(_words(exc)) from exc
            finally:
                self.waiting_since = math.inf

    async def send(self, data: bytes) -> None:
        """Sends all of `data`; a checkpoint only where the socket is full.

        Raises httpx2.WriteTimeout after `write_timeout` seconds without progress, httpx2.WriteError, or the reason
        given to `close`. After any exception the connection is of no use for writing.
        """
        rest = memoryview(data)
        while rest:
            if self._closed_by is not None:
                raise self._closed_by
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await self._wait_writable()
            except OSError as exc:
                raise httpx2.WriteError(_words(exc)) from exc

    async def _wait_writable(self) -> None:
        try:
            with trio.fail_after(self.write_timeout):
                await wait_writable(self._socket)
        except trio.TooSlowError as exc:
            raise httpx2.WriteTimeout(f"the peer took no bytes for {self.write_timeout:g} s") from exc
        except (OSError, trio.ClosedResourceError) as exc:
            raise self._closed_by or httpx2.WriteError(_words(exc)) from exc

    def is_stale(self) -> bool:
        """True if an idle connection cannot be used again: readable means closed, or bytes that nobody asked for."""
        poller = select.poll()  # not select(), which refuses descriptors over 1023
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(0))

    def close(self, reason: httpx2.TransportError | None = None) -> None:
        """Closes the socket now, without a TLS goodbye; `reason` is what a waiting task raises. Idempotent."""
        if self._closed_by is None:
            self._closed_by = reason or httpx2.ReadError("the connection was closed")
            notify_closing(self._socket)
            self._socket.close()


class TlsConnection(Connection):
    """TLS over the raw socket by ssl.MemoryBIO: one wake-up for each socket read, and no locks or stream layers."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._ended = False

    async def handshake(self) -> None:
        """Raises ssl.SSLError (a certificate that does not verify, too) or httpx2.NetworkError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._pull()
            else:
                return await self._flush()

    async def receive(self) -> bytes:
        """Returns all that one socket read decrypts to; b"" at the peer's close_notify.

        Raises like Connection.receive, and httpx2.RemoteProtocolError for an end without close_notify, which is how a
        truncation attack looks (RFC 9112, section 9.8).
        """
        while not self._ended:
            await self._pull()
            try:
                plain = self._decrypt()
            except ssl.SSLEOFError as exc:
                raise httpx2.RemoteProtocolError("the peer closed the connection without close_notify") from exc
            except ssl.SSLError as exc:
                raise httpx2.ReadError(_words(exc)) from exc
            await self._flush()
            if plain:
                return plain
        return b""

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(data), READ_SIZE):
            try:
                self._tls.write(view[start : start + READ_SIZE])
            except ssl.SSLError as exc:
                raise httpx2.WriteError(_words(exc)) from exc
            await self._flush()

    async def _pull(self) -> None:
        if data := await super().receive():
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await super().send(self._outgoing.read())

    def _decrypt(self) -> bytes:
        plain: list[bytes] = []
        try:
            while not plain or self._incoming.pending or self._tls.pending():
                if not (data := self._tls.read(READ_SIZE)):
                    self._ended = True
                    break
                plain.append(data)
        except ssl.SSLWantReadError:
            pass  # the rest of a record is still to come
        except ssl.SSLZeroReturnError:
            self._ended = True
        return plain[0] if len(plain) == 1 else b"".join(plain)


async def open_connection(host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    """Connects, with the TLS handshake if `tls` is given. Cancelled or failed, it leaves no socket behind.

    Raises httpx2.ConnectError: no such host, refused, reset, certificate not accepted.
    """
    try:
        stream = await trio.open_tcp_stream(host, port)
    except (OSError, UnicodeError) as exc:
        raise httpx2.ConnectError(_words(exc)) from exc
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    if tls is None:
        return Connection(sock)
    try:
        connection = TlsConnection(sock, tls, host)
        await connection.handshake()
    except (ssl.SSLError, ValueError, httpx2.NetworkError) as exc:
        sock.close()
        raise httpx2.ConnectError(_words(exc)) from exc
    except BaseException:
        sock.close()
        raise
    return connection


def _words(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__
