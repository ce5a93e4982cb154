"""Compressed bodies: none are taken in, and what a provider's inflate to is bounded, in size and in memory."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import httpx2
import pytest
import trio

from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.providers import bounds
from sluicegate.providers.base import ProviderError, ProviderRejected, StreamLost
from sluicegate.providers.environment import provider_of
from sluicegate.providers.sdk import UpstreamOptions
from tests.providers.origin import Send, say, start
from tests.providers.ways import REQUEST, Way, every_way, running
from tests.security.rows import COUNTS
from tests.service.harness import DIALECTS, LINKS, over, stack

BODY = b'{"messages":[{"role":"user","content":"Hi"}]}'
CODINGS = (
    "gzip",
    "GZIP",
    "x-gzip",
    "deflate",
    "br",
    "zstd",
    "compress",
    "gzip, identity",
    "identity, gzip",
    "aes128gcm",
    "x",
)
MIB = 1 << 20
MEMORY = 8 * MIB  # that reading a bomb may take at once; a piece is 1 MiB
COMMENT = b": " + b" " * 1021 + b"\n"
WHOLE = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@LINKS
def test_an_encoded_request_is_415(socket: bool) -> None:
    """Whatever it is encoded with, said to be encoded with, and whether it is."""
    assert len(CODINGS) >= COUNTS["codings"]

    async def main() -> None:
        async with stack([], socket=socket) as up:
            for coding in CODINGS:
                for body in (BODY, gzip.compress(BODY), zlib.compress(BODY), gzip.compress(b"[" * MIB)):
                    fields = {"Content-Type": "application/json", "Content-Encoding": coding}
                    answer = await (await up.open("POST", "/chat", body, fields)).answer()
                    assert (answer.status, answer.error["code"]) == (415, "INVALID_REQUEST")
            assert up.transport.requests == []

    over(socket, main)


class Bomb(httpx2.AsyncByteStream):
    """Inflates without end: `read` counts its compressed pieces, of which each comes to a MiB or so."""

    def __init__(self) -> None:
        self.read = 0
        self.closed = False

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        while True:
            await trio.lowlevel.checkpoint()
            self.read += 1
            yield packer.compress(COMMENT * 1024) + packer.flush(zlib.Z_SYNC_FLUSH)

    async def aclose(self) -> None:
        self.closed = True


def answering(status: int, body: httpx2.AsyncByteStream, coding: str = "gzip") -> httpx2.MockTransport:
    headers = {"content-type": "text/event-stream", "content-encoding": coding}
    return httpx2.MockTransport(lambda _: httpx2.Response(status, headers=headers, stream=body))


class Peak:
    """The most memory that was held within, in bytes."""

    def __enter__(self) -> "Peak":
        tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


async def size_of_reply(transport: httpx2.AsyncBaseTransport, dialect: str) -> int:
    """Return how many bytes a reader gets. Raises ProviderError, but for a reply that was too long."""
    provider = provider_of(dialect, UpstreamOptions(max_retries=0), transport, "k", "http://provider.invalid")
    size = 0
    told: list[RunError] = []
    try:
        async with provider.open(REQUEST) as chunks:
            async for chunk in chunks:
                size += len(chunk)
    except StreamLost as lost:
        told.append(lost.error)
    await provider.aclose()
    words = f"The provider's compressed reply is longer than {bounds.MAX_INFLATED} bytes."
    assert told in ([], [RunError(ErrorCode.UPSTREAM_ERROR, words, truncated=True)])
    return size


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_reply_is_cut_off_at_the_cap(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it up to the cap, not one byte more, and the upstream is closed. What is read of it is far smaller."""
    monkeypatch.setattr(bounds, "MAX_INFLATED", 16 * MIB)
    await size_of_reply(answering(200, Bomb()), dialect)  # imports
    bomb = Bomb()
    with Peak() as peak:
        size = await size_of_reply(answering(200, bomb), dialect)
    assert 15 * MIB < size <= 16 * MIB
    assert bomb.closed
    assert bomb.read <= 18
    assert peak.bytes < MEMORY


class Once(httpx2.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body
        self.closed = False

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        yield self._body

    async def aclose(self) -> None:
        self.closed = True


async def test_one_read_that_is_a_bomb_is_not_inflated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is packed twice: 200 bytes then come to 16 MiB."""
    monkeypatch.setattr(bounds, "MAX_INFLATED", 8 * MIB)
    packed = gzip.compress(COMMENT * (16 * 1024))
    for body, coding in ((packed, "gzip"), (gzip.compress(packed), "gzip, gzip"), (gzip.compress(packed), "gzip,gzip")):
        await size_of_reply(answering(200, Once(body), coding), "openai_chat")
        once = Once(body)
        with Peak() as peak:
            size = await size_of_reply(answering(200, once, coding), "openai_chat")
        assert 7 * MIB <= size <= 8 * MIB
        assert once.closed
        assert peak.bytes < MEMORY


@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_up_to_the_cap_a_reply_is_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body = COMMENT * size + WHOLE
    monkeypatch.setattr(bounds, "MAX_INFLATED", len(body))
    assert await size_of_reply(answering(200, Once(gzip.compress(body))), "openai_chat") == len(body)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("coding", ["gzip", "identity"])
async def test_a_refusal_is_read_to_its_cap(coding: str, dialect: str) -> None:
    """The SDKs read error bodies to their end: that end comes soon, and what stands at their beginning counts."""
    body = Bomb() if coding == "gzip" else Endless()
    with Peak() as peak, pytest.raises(ProviderError) as caught:
        await size_of_reply(answering(400, body, coding), dialect)
    assert caught.value.error.code is ErrorCode.UPSTREAM_ERROR
    assert body.closed
    assert body.read <= 2 + bounds.MAX_REFUSAL // len(COMMENT)
    assert peak.bytes < MEMORY


class Endless(Bomb):
    """The same uncompressed."""

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        while True:
            await trio.lowlevel.checkpoint()
            self.read += 1
            yield COMMENT


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_encoded_refusal_is_understood(dialect: str) -> None:
    error = b'{"type":"error","error":{"type":"context_length_exceeded","code":"context_length_exceeded","message":""}}'
    with pytest.raises(ProviderError) as caught:
        await size_of_reply(answering(400, Once(gzip.compress(error))), dialect)
    assert caught.value.error.code is ErrorCode.CONTEXT_LENGTH


@every_way
@pytest.mark.sockets
async def test_the_provider_sees_it_on_a_socket(way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By every way to a provider: its request is over once the cap is reached."""
    monkeypatch.setattr(bounds, "MAX_INFLATED", 4 * MIB)

    statuses = [200, 400]

    async def answer(send: Send) -> None:
        await start(send, statuses.pop(0), content_encoding="gzip")
        async with aclosing(aiter(Bomb())) as pieces:
            async for piece in pieces:
                await say(send, piece)

    async def read() -> None:
        async with road.provider("openai_chat").open(REQUEST) as chunks:
            async for _ in chunks:
                pass

    async with running(way, answer, tmp_path) as road:
        for kind in (StreamLost, ProviderRejected):
            with trio.fail_after(10), pytest.raises(kind):
                await read()
            await road.origin.wait_idle(5)
        assert statuses == []
