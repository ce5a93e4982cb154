"""An HTTP proxy on Trio: CONNECT for https, the absolute form for http, Basic authentication where it is told so."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Final
from urllib.parse import urlsplit

import trio

CREDENTIALS: Final = "user:p%40ss"  # as in a URL
_AUTHORIZATION: Final = b"proxy-authorization: basic " + base64.b64encode(b"user:p@ss").lower()


class Manner(Enum):
    """What the proxy does with a request."""

    PASS = auto()
    ASK_PASSWORD = auto()
    REFUSE = auto()
    FAIL = auto()
    HANG_UP = auto()
    GIBBERISH = auto()


_REFUSALS: Final = {
    Manner.REFUSE: b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
    Manner.FAIL: b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
    Manner.HANG_UP: b"",
    Manner.GIBBERISH: b"220 mail.example ESMTP\r\n\r\n",
}
_NO_PASSWORD: Final = (
    b'HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm="x"\r\ncontent-length: 0\r\n\r\n'
)


class Proxy:
    """`asked` are the request lines so far, `alive` the connections of clients that are open."""

    def __init__(self, port: int, manner: Manner) -> None:
        self.port = port
        self.manner = manner
        self.asked: list[str] = []
        self.alive = 0

    @property
    def url(self) -> str:
        user = f"{CREDENTIALS}@" if self.manner is Manner.ASK_PASSWORD else ""
        return f"http://{user}127.0.0.1:{self.port}"

    async def serve(self, client: trio.SocketStream) -> None:
        """One connection of a client, which carries requests to one host only."""
        self.alive += 1
        try:
            async with client:
                await self._serve(client)
        except trio.BrokenResourceError:
            pass
        finally:
            self.alive -= 1

    async def _serve(self, client: trio.SocketStream) -> None:
        head, rest = await _head(client)
        if not head:
            return
        line, _, fields = head.partition(b"\r\n")
        method, target, _ = line.split(b" ")
        self.asked.append(line.decode())
        if self.manner in _REFUSALS:
            await client.send_all(_REFUSALS[self.manner])
            return
        if self.manner is Manner.ASK_PASSWORD and _AUTHORIZATION not in fields.lower():
            await client.send_all(_NO_PASSWORD)
            return
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            async with await trio.open_tcp_stream(host, int(port)) as server:
                await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await _relay(client, server)
            return
        url = urlsplit(target.decode())
        async with await trio.open_tcp_stream(url.hostname or "", url.port or 80) as server:
            await server.send_all(b"%b %b HTTP/1.1\r\nconnection: close\r\n" % (method, url.path.encode()))
            kept = [
                field for field in fields.split(b"\r\n") if not field.lower().startswith((b"proxy-", b"connection:"))
            ]
            await server.send_all(b"\r\n".join(kept) + rest)
            await _relay(client, server)


async def _head(client: trio.SocketStream) -> tuple[bytes, bytes]:
    """The head of a request with its blank line, and what came behind it; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = await client.receive_some()
        if not got:
            return b"", b""
        data += got
    end = data.index(b"\r\n\r\n") + 4
    return data[:end], data[end:]


async def _relay(client: trio.SocketStream, server: trio.SocketStream) -> None:
    """Pass on bytes both ways until either side ends."""
    async with trio.open_nursery() as nursery:

        async def one_way(source: trio.SocketStream, target: trio.SocketStream) -> None:
            try:
                while data := await source.receive_some():
                    await target.send_all(data)
            except trio.BrokenResourceError:
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(one_way, client, server)
        nursery.start_soon(one_way, server, client)


@asynccontextmanager
async def running_proxy(manner: Manner = Manner.PASS) -> AsyncIterator[Proxy]:
    """Serve on a free port of loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = Proxy(listener.socket.getsockname()[1], manner)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
