"""Answers that do not wait for the body of their request: they are heard, and say that the connection ends."""

import pytest
import trio

from sluicegate.providers.script import Reply, Say
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.service.options import ServiceOptions
from tests.service.harness import Stack, over, stack

SIZE = 256 * 1024
HEAD = b"%s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
EARLY = {
    "415": (b"POST /chat", b"text/plain", b"415"),
    "413": (b"POST /chat", b"application/json", b"413"),
    "404": (b"GET /runs/nobody/events", b"text/plain", b"404"),
    "200": (b"GET /healthz", b"text/plain", b"200"),
}


def brain(_: ScriptedRequest) -> Reply:
    return [Say("Hi")]


async def connect(up: Stack) -> trio.SocketStream:
    host, _, port = up.url.removeprefix("http://").rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def until(stream: trio.SocketStream, end: bytes) -> bytes:
    data = b""
    while end not in data:
        more = await stream.receive_some(65536)
        assert more, data
        data += more
    return data


@pytest.mark.sockets
@pytest.mark.parametrize("name", EARLY)
def test_an_answer_before_the_end_of_the_body_ends_the_connection_and_says_so(name: str) -> None:
    async def main() -> None:
        asked, kind, status = EARLY[name]
        async with stack(brain, socket=True, options=ServiceOptions(max_body_bytes=SIZE - 1)) as up:
            stream = await connect(up)
            await stream.send_all(HEAD % (asked, kind, SIZE))
            head = await until(stream, b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            assert b"connection: close" in head.lower()
            await stream.send_all(b"x" * SIZE)  # a reset would be raised here, or below
            while await stream.receive_some(65536):
                pass
            await stream.aclose()

    over(True, main)


@pytest.mark.sockets
@pytest.mark.parametrize("name", ["415", "404", "200"])
def test_behind_a_whole_body_the_connection_goes_on(name: str) -> None:
    async def main() -> None:
        asked, kind, status = EARLY[name]
        async with stack(brain, socket=True) as up:
            stream = await connect(up)
            for _ in range(3):
                await stream.send_all(HEAD % (asked, kind, 2) + b"{}")
                answer = await until(stream, b"}}" if status != b"200" else b"}")
                assert answer.startswith(b"HTTP/1.1 " + status)
                assert b"connection: close" not in answer.lower()
            await stream.send_all(HEALTHZ)
            assert (await until(stream, b"ok")).startswith(b"HTTP/1.1 200")
            await stream.aclose()

    over(True, main)
