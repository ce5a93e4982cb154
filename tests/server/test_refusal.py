"""A request that the application refuses is answered by its connection, whatever its body does, and the connection
goes on; connections that wait to be accepted do not wait for one another.
"""

import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

import h11
import pytest
import trio

from sluicegate.server.options import ServerOptions
from tests.server.rig import SLACK, WAIT, AnyStream, Certificate, Server, request, running
from tests.server.test_limits import TLS, hear_close

pytestmark = pytest.mark.sockets
BODY = b"x" * 300_000


class Said(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


NO = Said(503, [(b"content-length", b"4"), (b"retry-after", b"2")], b"busy")


def refuse(method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Said | None:
    assert all(name == name.lower() for name, _ in headers)
    return NO if method == "POST" and path == "/refused" else None


@asynccontextmanager
async def refusing(certificate: Certificate | None = None, **options: float) -> AsyncIterator[Server]:
    with trio.fail_after(WAIT):
        async with running("ours", ServerOptions(**options), certificate, refuse=refuse) as server:  # type: ignore[arg-type]
            yield server
            assert not server.fell.is_set()


class Talk:
    """One connection, and the answers that come over it."""

    def __init__(self, stream: AnyStream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Return the next answer; the requests are sent by hand."""
        if self._http.our_state is h11.IDLE:
            self._http.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
            self._http.send(h11.EndOfMessage())
        body, head = b"", None
        while not isinstance(event := self._http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self._http.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.InformationalResponse), event
        assert head is not None
        if self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return head.status_code, dict(head.headers), body


def post(length: int, path: str = "/refused", more: bytes = b"", fields: str = "X: y") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\nContent-Length: {length}\r\n\r\n".encode() + more


CHUNKED = b"POST /refused HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
EXPECTING = post(3, fields="Expect: 100-continue") + b"abc"


@pytest.mark.parametrize(
    "sent",
    [post(0), post(3, more=b"abc"), post(3, "/refused?a=b", b"abc"), post(3, "/%72efused", b"abc"), CHUNKED, EXPECTING],
    ids=["no body", "small", "query", "quoted", "chunked", "expecting"],
)
@TLS
async def test_a_refused_request_never_reaches_the_application_and_its_connection_goes_on(
    sent: bytes, tls: bool, certificate: Certificate
) -> None:
    async with refusing(certificate if tls else None) as server, await server.dial("http/1.1") as stream:
        talk = Talk(stream)
        for _ in range(3):
            await stream.send_all(sent)
            status, headers, body = await talk.answer()
            assert (status, body) == (503, b"busy")
            assert headers[b"retry-after"] == b"2"
            assert b"connection" not in headers
        await stream.send_all(request("/"))
        assert (await talk.answer())[::2] == (200, b"ok")
        assert server.app.begun == {"/": 1}


async def test_its_body_may_be_large_and_come_in_pieces() -> None:
    """The answer comes when all of it is thrown away, so that no reset can overtake it."""
    async with refusing() as server, await server.connect() as stream:
        talk = Talk(stream)
        await stream.send_all(post(len(BODY)))
        for start in range(0, len(BODY), 70_000):
            await stream.send_all(BODY[start : start + 70_000])
            await trio.lowlevel.checkpoint()
        assert (await talk.answer())[::2] == (503, b"busy")
        await stream.send_all(post(0))
        assert (await talk.answer())[::2] == (503, b"busy")


async def test_requests_behind_it_are_answered_in_order() -> None:
    async with refusing() as server, await server.connect() as stream:
        talk = Talk(stream)
        await stream.send_all(post(3, more=b"abc") + request("/") + post(0) + request("/"))
        assert [(await talk.answer())[0] for _ in range(4)] == [503, 200, 503, 200]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_who_wants_the_connection_closed_gets_it_closed(version: str) -> None:
    async with refusing() as server:
        async with await server.connect() as stream:
            await stream.send_all(post(0, fields="Connection: close").replace(b"HTTP/1.1", b"HTTP/" + version.encode()))
            heard = b""
            while data := await stream.receive_some():
                heard += data
        assert heard.startswith(b"HTTP/1.1 503")
        assert heard.endswith(b"busy")
        await server.wait_clean()


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    async with refusing(header_seconds=0.2, keep_alive_seconds=0.2) as server:
        async with await server.connect() as stream:
            await stream.send_all(post(10, more=b"abc"))
            with trio.fail_after(SLACK):
                await hear_close(stream)
        await server.wait_clean()


async def test_who_leaves_in_the_midst_leaves_nothing() -> None:
    async with refusing() as server:
        for sent in (post(10), post(10, more=b"abc"), post(0)):
            async with await server.connect() as stream:
                await stream.send_all(sent)
        await server.wait_clean()


class Turns(trio.abc.Instrument):
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def turns_until_served(server: Server, count: int) -> int:
    """How many turns the loop takes until `count` clients, all there before it looks, are served."""
    plain = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
    begun = server.app.ended["/"] + count
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    for one in plain:
        one.sendall(request("/", close=True))
    await server.app.until(lambda: server.app.ended["/"] >= begun)
    trio.lowlevel.remove_instrument(turns)
    for one in plain:
        one.close()
    return turns.count


async def test_clients_that_wait_to_be_accepted_do_not_wait_for_one_another() -> None:
    async with refusing() as server:
        # As Trio accepts, it would be a turn more for each of them; what it is here depends on when the system tells.
        alone = await turns_until_served(server, 1)
        assert await turns_until_served(server, 16) <= alone + 16 / 2
        assert await turns_until_served(server, 64) <= alone + 64 / 4
        await server.wait_clean()


@TLS
async def test_all_of_a_crowd_are_served(tls: bool, certificate: Certificate) -> None:
    async with refusing(certificate if tls else None) as server:

        async def ask() -> None:
            async with await server.dial("http/1.1") as stream:
                await stream.send_all(request("/"))
                assert (await Talk(stream).answer())[::2] == (200, b"ok")

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(ask)
        await server.app.until(lambda: server.app.ended == {"/": 40})
        await server.wait_clean()
