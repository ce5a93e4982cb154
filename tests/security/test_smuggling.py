"""Malformed requests with a second request behind them: the connection ends, and the second one is never run."""

import contextlib

import pytest
import trio

from sluicegate.providers.script import Say
from tests.security.rows import COUNTS
from tests.service.harness import Stack, over, stack

pytestmark = pytest.mark.sockets

BODY = b'{"messages":[{"role":"user","content":"first"}]}'
HIDDEN = b'{"messages":[{"role":"user","content":"hidden"}]}'
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SIZE = b"%x" % len(BODY)
UNKNOWN_CODING = 501  # RFC 9112, section 6.1


def head(*lines: bytes, first: bytes = b"POST /chat HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: x", b"Content-Type: application/json", *lines, b"", b""])


SECOND = head(b"Content-Length: %d" % len(HIDDEN), b"Connection: close") + HIDDEN


def plain(*lines: bytes, first: bytes = b"POST /chat HTTP/1.1") -> bytes:
    return head(*lines, first=first) + BODY


def chunks(*lines: bytes, body: bytes = CHUNKS) -> bytes:
    return head(*lines or (CHUNKED,)) + body


MALFORMED = {
    # which length?
    "a length and chunks": chunks(LENGTH, CHUNKED),
    "chunks and a length": chunks(CHUNKED, LENGTH),
    "chunks and the length 0": chunks(CHUNKED, b"Content-Length: 0"),
    "two lengths": plain(LENGTH, b"Content-Length: 0"),
    "two lengths in one": plain(b"Content-Length: %d, 0" % len(BODY)),
    "a length with a sign": plain(b"Content-Length: +%d" % len(BODY)),
    "a negative length": plain(b"Content-Length: -%d" % len(BODY)),
    "a length in hexadecimal": plain(b"Content-Length: 0x" + SIZE),
    "a length with a fraction": plain(LENGTH + b".0"),
    "a length with an underscore": plain(b"Content-Length: 4_8"),
    "a length with a gap": plain(b"Content-Length: 4 8"),
    "a length of other digits": plain("Content-Length: ٤٨".encode()),
    "no number for a length": plain(b"Content-Length: many"),
    "an empty length": plain(b"Content-Length:"),
    "a length beyond all": plain(b"Content-Length: 1" + b"0" * 5_000),
    "chunked twice": chunks(b"Transfer-Encoding: chunked, chunked"),
    "chunked in two lines": chunks(CHUNKED, CHUNKED),
    "chunked and another": chunks(b"Transfer-Encoding: gzip, chunked"),
    "another and not chunked": chunks(b"Transfer-Encoding: identity"),
    "nearly chunked": chunks(b"Transfer-Encoding: xchunked"),
    "chunked behind a vertical tab": chunks(b"Transfer-Encoding: \x0bchunked"),
    "chunked in quotes": chunks(b'Transfer-Encoding: "chunked"'),
    # lines
    "a space before the colon": plain(b"Content-Length : %d" % len(BODY)),
    "a tab before the colon": chunks(b"Transfer-Encoding\t: chunked"),
    "a line without a colon": plain(LENGTH, b"Transfer-Encoding"),
    "a line without a name": plain(LENGTH, b": chunked"),
    "a first line that is folded": b"POST /chat HTTP/1.1\r\n " + plain(LENGTH).partition(b"\r\n")[2],
    "a CR within a line": plain(LENGTH, b"X: a\rTransfer-Encoding: chunked"),
    "a NUL within a line": plain(LENGTH, b"X: a\0b"),
    "a NUL within a name": plain(LENGTH, b"X\0: a"),
    "a name of other letters": plain(LENGTH, "Tränsfer-Encoding: chunked".encode()),
    "a head that is too long": plain(LENGTH, b"X: " + b"a" * 100_000),
    # the first line
    "no host": b"POST /chat HTTP/1.1\r\n" + LENGTH + b"\r\n\r\n" + BODY,
    "two hosts": plain(LENGTH, b"Host: y"),
    "no version": plain(LENGTH, first=b"POST /chat"),
    "a version that there is not": plain(LENGTH, first=b"POST /chat HTTP/1.1.1"),
    "a space in the target": plain(LENGTH, first=b"POST /chat HTTP/1.1 HTTP/1.1"),
    "a control character in the target": plain(LENGTH, first=b"POST /ch\x01at HTTP/1.1"),
    "a method of other characters": plain(LENGTH, first=b"PO(ST /chat HTTP/1.1"),
    "no request at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    # chunks
    "a chunk of negative size": chunks(body=b"-1\r\n" + CHUNKS),
    "a chunk size with 0x": chunks(body=b"0x" + CHUNKS),
    "a chunk size with a plus": chunks(body=b"+" + CHUNKS),
    "a chunk size beyond all": chunks(body=b"f" * 30 + b"\r\n" + BODY),
    "an empty chunk size": chunks(body=b"\r\n" + CHUNKS),
    "a chunk longer than its size": chunks(body=b"3\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "a chunk without an end": chunks(body=SIZE + b"\r\n" + BODY + b"0\r\n\r\n"),
    "a trailer without a colon": chunks(body=CHUNKS[:-2] + b"trailer\r\n\r\n"),
}  # fmt: skip


async def sent(up: Stack, data: bytes) -> bytes:
    """Send `data`; return all that comes back until the server closes. Fails where it does not."""
    host, _, port = up.url.removeprefix("http://").rpartition(":")
    answer = b""
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(data)
            while more := await stream.receive_some():
                answer += more
    return answer


def questions(up: Stack) -> list[str]:
    return [said.text for asked in up.transport.requests for said in asked.messages]


def statuses(answer: bytes) -> list[int]:
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_a_malformed_request_ends_its_connection() -> None:
    """Before anything of it is run; over HTTP/1.1, where alone there are lengths to be mistaken."""
    assert len(MALFORMED) >= COUNTS["malformed"]

    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")], socket=True) as up:
            for name, data in MALFORMED.items():
                seen = statuses(await sent(up, data + SECOND))
                assert len(seen) <= 1, name
                assert all(400 <= status < 500 or status == UNKNOWN_CODING for status in seen), (name, seen)
                assert questions(up) == [], name

    over(True, main)


def test_a_sound_request_lets_the_next_one_in() -> None:
    """So what the others lack is not for another reason."""

    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")], socket=True) as up:
            for data in (plain(LENGTH), chunks()):
                assert statuses(await sent(up, data + SECOND)) == [200, 200]
            assert questions(up) == ["first", "hidden"] * 2

    over(True, main)
