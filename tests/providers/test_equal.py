"""Whatever way a reply comes, it is the same reply, and whatever goes wrong is told in the same words."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from sluicegate.machine.errors import RunError
from sluicegate.providers.base import ProviderError
from sluicegate.providers.failures import LOST
from sluicegate.wire.upstream.faults import fault
from tests import shared
from tests.path import path
from tests.providers.origin import Answer, Send, replying, say, start
from tests.providers.ways import DIALECTS, REQUEST, Road, Way, every_way, running

pytestmark = pytest.mark.sockets

PIECE = 1000  # bytes of a reply that are sent at once
EVERY = 6  # so many recorded streams share one that is sent
LEAST = 60  # streams in all


class Outcome(NamedTuple):
    """What a caller gets: bytes, then perhaps an error."""

    data: bytes
    kind: str = ""
    error: RunError | None = None


async def outcome(road: Road, dialect: str) -> Outcome:
    data = b""
    provider = road.provider(dialect)
    try:
        async with provider.open(REQUEST) as chunks:
            async for chunk in chunks:
                data += chunk
    except ProviderError as failure:
        return Outcome(data, type(failure).__name__, failure.error)
    return Outcome(data)


async def reads(road: Road, dialect: str) -> list[bytes]:
    async with road.provider(dialect).open(REQUEST) as chunks:
        return [chunk async for chunk in chunks]


def pieces(data: bytes) -> list[bytes]:
    return [data[start : start + PIECE] for start in range(0, len(data), PIECE)]


@every_way
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_reply_is_the_same_by_every_way(way: Way, dialect: str, tmp_path: Path) -> None:
    async with running(way, replying(), tmp_path) as road:
        for _ in range(2):
            road.origin.answer = replying(*pieces(path.FOLLOW_UPS[dialect]))
            assert b"".join(await reads(road, dialect)) == path.FOLLOW_UPS[dialect]
        assert [asked.http_version for asked in road.origin.asked] == ["2" if way.http2 and way.tls else "1.1"] * 2
        assert all(asked.headers[b"accept"] == b"text/event-stream" for asked in road.origin.asked)
        assert road.origin.asked[0].body == road.origin.asked[1].body != b""
        kept = way.manner is None or way.tls  # this proxy keeps nothing but tunnels
        assert (road.origin.connections, road.transport.idle_connections) == ((1, 1) if kept else (2, 0))
        if road.proxy is not None:
            target = road.origin.url.partition("://")[2]
            line = f"CONNECT {target} HTTP/1.1" if way.tls else f"POST {road.origin.url}/v1/"
            assert all(asked.startswith(line.removesuffix("v1/")) for asked in road.proxy.asked)
            assert len(road.proxy.asked) == (1 if way.tls else 2)


@every_way
async def test_recorded_streams_make_the_same_events(way: Way, tmp_path: Path, note: Callable[[str], None]) -> None:
    streams = shared.streams()[::EVERY]
    async with running(way, replying(), tmp_path) as road:
        for stream in streams:
            data = stream.read()
            road.origin.answer = replying(*pieces(data))
            got = await reads(road, stream.dialect)
            assert b"".join(got) == data, stream.name
            assert path.walk(stream.dialect, got).said() == path.walk(stream.dialect, [data]).said(), stream.name
    note(f"recorded streams by each way to a provider: {len(streams)}")
    assert len(streams) >= LEAST


async def breaks_off(send: Send) -> None:
    await start(send)
    await say(send, b"data: {}\n\n")
    raise RuntimeError("the provider has a bug")


ERROR = msgspec.json.encode({"error": {"type": "x", "message": "words"}})
TROUBLES: dict[str, tuple[Answer, Outcome]] = {
    "refused": (replying(ERROR, status=401), Outcome(b"", "ProviderRejected", fault("x", status=401))),
    "rate": (replying(ERROR, status=429), Outcome(b"", "ProviderUnavailable", fault("x", status=429))),
    "failed": (replying(ERROR, status=500), Outcome(b"", "ProviderUnavailable", fault("x", status=500))),
    "json": (replying(ERROR, content_type="application/json"), Outcome(b"data: " + ERROR + b"\n\n")),
    "empty": (replying(), Outcome(b"")),
    "broken": (breaks_off, Outcome(b"data: {}\n\n", "StreamLost", LOST)),
}


@every_way
async def test_trouble_is_told_in_the_same_words(way: Way, tmp_path: Path) -> None:
    async with running(way, replying(), tmp_path) as road:
        for name, (answer, expected) in TROUBLES.items():
            # Over HTTP/2 Hypercorn keeps the stream of a broken application open; see test_http2 for what breaks there.
            if name != "broken" or not (way.http2 and way.tls):
                road.origin.answer = answer
                assert await outcome(road, "openai_chat") == expected, name
