"""A provider's errors hold a key: no byte of them reaches a client, whatever the error looks like."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sluicegate.machine.errors import ErrorCode
from sluicegate.providers.script import Action, Cut, Fail, Reply, Say, Status
from tests.security.rows import COUNTS
from tests.service.harness import DIALECTS, Stack, over, stack, virtually

KEY = "sk-proj-Zq7Xw9Vb4Kj2"
NAMES = (
    "x-request-id", "www-authenticate", "location", "set-cookie", "server", "via", "link", "retry-after",
    "retry-after-ms",
)  # fmt: skip
HEADERS = {**dict.fromkeys(NAMES, KEY), "x-should-retry": "false"}
PIECE = 4  # characters of it that would already be told
PIECES = {KEY[at : at + PIECE] for at in range(len(KEY) - PIECE + 1)}
STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 415, 422, 429, 451, 500, 501, 502, 503, 504, 529, 599)


def errors() -> Iterator[Any]:
    """Yield bodies of errors, with the key in every place that a provider may put text."""
    yield {"error": {"message": KEY, "type": KEY, "code": KEY, "param": KEY}}
    yield {
        "error": {
            "message": f"Incorrect API key provided: {KEY}.",
            "type": "invalid_request_error",
            "code": "invalid_api_key",
        }
    }
    yield {"error": {"message": f"maximum context length, {KEY}", "type": f"context_length_exceeded {KEY}"}}
    yield {"error": {"message": {"nested": KEY}, "type": [KEY], "code": {"x": KEY}}}
    yield {"error": {"type": f"rate_limit_error{KEY}", "message": KEY, "innererror": {"content_filter_result": KEY}}}
    yield {"error": KEY}
    yield {"error": [KEY, {"message": KEY}]}
    yield {"type": "error", "error": {"type": "overloaded_error", "message": KEY}, "request_id": KEY}
    yield {"type": "error", "error": {"type": KEY, "message": KEY}}
    yield {"message": KEY, "detail": KEY, "code": KEY, "object": "error"}
    yield {"detail": [{"loc": ["body", KEY], "msg": KEY, "input": KEY}]}
    yield [{"error": {"code": 429, "message": KEY, "status": f"RESOURCE_EXHAUSTED {KEY}"}}]
    yield KEY
    yield {KEY: KEY}


def bodies() -> Iterator[bytes]:
    yield from (json.dumps(error).encode() for error in errors())
    yield f"<html><title>{KEY}</title>{KEY}</html>".encode()
    yield f"upstream connect error {KEY}".encode()
    yield b"\xff\xfe" + KEY.encode("utf-16-le")
    yield f'{{"error": {{"message": "{KEY}'.encode()


def in_stream() -> Iterator[bytes]:
    """Yield events that say an error, in the words of all dialects and in none."""
    for error in errors():
        data = json.dumps(error).encode()
        yield b"data: %b\n\n" % data
        yield b"event: error\ndata: %b\n\n" % data
        yield b"event: %b\nid: %b\ndata: %b\n\n" % (KEY.encode(), KEY.encode(), data)
    failed = {
        "id": KEY,
        "status": "failed",
        "error": {"code": KEY, "message": KEY},
        "incomplete_details": {"reason": KEY},
    }
    for kind in ("response.failed", "response.incomplete", "error", "response.error"):
        data = json.dumps({"type": kind, "response": failed, "code": KEY, "message": KEY}).encode()
        yield b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
    yield b'data: {"id":"%b","choices":[{"delta":{},"finish_reason":"%b"}]}\n\n' % (
        KEY.encode(),
        KEY.encode(),
    )
    yield b'data: {"choices":[{"finish_reason":"error","error":{"message":"%b"}}]}\n\n' % KEY.encode()
    yield b": %b\n\nretry: %b\n\n" % (KEY.encode(), KEY.encode())
    yield b"data: {%b\n\n" % KEY.encode()
    yield b"data: %b\n\n" % (KEY.encode() * 100)
    yield KEY.encode()


def replies() -> list[Reply]:
    """Every error, as a status, as the first event and behind words."""
    within: list[Action] = [*in_stream(), *(Fail(code, KEY) for code in ErrorCode)]
    found: list[Reply] = [[Status(status, HEADERS, body)] for status in STATUSES for body in bodies()]
    found += [[action, Cut()] for action in within]
    found += [[Say("Half an answer"), action, Cut()] for action in within]
    return found


async def check(up: Stack, count: int) -> None:
    for _ in range(count):
        answer = await up.ask()
        told = answer.body.decode() + str(answer.headers)
        assert not [piece for piece in PIECES if piece in told], told
        if answer.status == 200:
            assert "error" in answer.frames[-1] or "done" in answer.frames[-1]
        else:
            assert answer.error["message"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_byte_of_a_providers_error_reaches_a_client(dialect: str) -> None:
    async def main() -> None:
        every = replies()
        assert len(every) >= COUNTS["echoes"]
        async with stack(every, dialect=dialect) as up:
            await check(up, len(every))

    virtually(main)


@pytest.mark.sockets
def test_nor_does_it_over_a_socket() -> None:
    async def main() -> None:
        some = replies()[::10]
        async with stack(some, socket=True) as up:
            await check(up, len(some))

    over(True, main)
