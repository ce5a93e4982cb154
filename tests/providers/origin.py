"""A provider on a real socket, of a real server: Hypercorn, which speaks HTTP/1.1, and HTTP/2 to who asks for it."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import trio
import trustme
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework

CA = trustme.CA()
_CERT = CA.issue_cert("127.0.0.1", "provider.localhost")

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
Answer = Callable[[Send], Awaitable[None]]


def client_tls() -> ssl.SSLContext:
    """Return a context that verifies, by our authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CA.configure_trust(context)
    return context


def server_tls(*alpn: str) -> ssl.SSLContext:
    """Return a context with a certificate of our authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _CERT.configure_cert(context)
    context.set_alpn_protocols(list(alpn))
    return context


class Asked(NamedTuple):
    """One request as the provider saw it; `connection` tells connections apart."""

    http_version: str
    connection: int
    headers: dict[bytes, bytes]
    body: bytes


class Origin:
    """Answers every request with `answer`. `asked` are all requests so far; `under_way` of them are not over."""

    def __init__(self, url: str, answer: Answer) -> None:
        self.url = url
        self.answer = answer
        self.asked: list[Asked] = []
        self.under_way = 0

    @property
    def connections(self) -> int:
        """How many connections brought a request."""
        return len({asked.connection for asked in self.asked})

    async def wait_idle(self, seconds: float) -> None:
        """Wait until no request is under way. Fails after `seconds`."""
        with trio.fail_after(seconds):
            while self.under_way:
                await trio.lowlevel.checkpoint()

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        self.under_way += 1
        try:
            await self._exchange(scope, receive, send)
        finally:
            self.under_way -= 1

    async def _exchange(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = dict(scope["headers"])
        self.asked.append(Asked(scope["http_version"], scope["client"][1], headers, body))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, receive, nursery.cancel_scope)
            await self.answer(send)
            nursery.cancel_scope.cancel()


async def _watch(receive: Callable[[], Awaitable[Message]], answering: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()


async def start(send: Send, status: int = 200, **headers: str) -> None:
    """Send a response head; underscores in the names of `headers` stand for hyphens."""
    headers = {"content_type": "text/event-stream", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def say(send: Send, data: bytes) -> None:
    """Send a piece of the body, not the last one."""
    await send({"type": "http.response.body", "body": data, "more_body": True})


def replying(*pieces: bytes, status: int = 200, **headers: str) -> Answer:
    """Answer with the body `pieces`, each of them sent when the one before is on its way."""

    async def answer(send: Send) -> None:
        await start(send, status, **headers)
        for piece in pieces:
            await say(send, piece)
            await trio.lowlevel.checkpoint()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return answer


@asynccontextmanager
async def running_origin(answer: Answer, folder: Path, *, tls: bool) -> AsyncIterator[Origin]:
    """Serve on a free port of loopback; `folder` takes the certificate."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0
    config.errorlog = None
    if tls:
        chain, key = folder / "chain.pem", folder / "key.pem"
        chain.write_bytes(b"".join(pem.bytes() for pem in _CERT.cert_chain_pems))
        key.write_bytes(_CERT.private_key_pem.bytes())
        config.certfile, config.keyfile = str(chain), str(key)
    origin = Origin("", answer)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        app = cast(ASGIFramework, origin)  # whose messages are plain dictionaries
        bound = await nursery.start(partial(serve, app, config, shutdown_trigger=stop.wait))
        port = bound[0].rpartition(":")[2]
        origin.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield origin
        stop.set()
