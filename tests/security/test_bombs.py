"""Bodies made to cost more than they look: each is refused in little time, in memory bounded by its size."""

import contextlib
import time
import tracemalloc
from collections.abc import Callable, Iterator

import msgspec
import pytest
import trio

from sluicegate.providers.script import Say
from sluicegate.service.body import MAX_DEPTH
from sluicegate.service.options import ServiceOptions
from tests.security.rows import COUNTS
from tests.service.harness import DIALECTS, JSON, SocketExchange, Stack, over, stack, virtually

SECONDS = COUNTS["cpu_seconds"]
EACH = 30  # bytes of memory that a byte of a body may cost
FIXED = 1 << 20
SMALL = 1 << 20
HI = b'{"role":"user","content":"Hi"}'
DEPTHS = [10**power for power in range(1, 6)]


def filled(head: bytes, item: bytes, tail: bytes, between: bytes = b",") -> Callable[[int], bytes]:
    """`head`, as many of `item` as there is room for, `tail`."""

    def make(size: int) -> bytes:
        count = (size - len(head) - len(tail)) // (len(item) + len(between))
        return head + (between.join([item] * count) if between else item * count) + tail

    return make


def called(arguments: bytes) -> bytes:
    """A conversation in which the assistant called a tool with `arguments`."""
    call = b'{"messages":[{"role":"assistant","tool_calls":[{"id":"a","name":"f","arguments":%b}]},%b]}'
    return call % (arguments, HI)


def nested(depth: int) -> Iterator[bytes]:
    """Yield brackets of every kind, closed or not, in every place where a value may stand."""
    for opening, inner, closing in ((b"[", b"", b"]"), (b'{"a":', b"1", b"}"), (b'[{"a":', b"1", b"}]")):
        for value in (opening * depth + inner + closing * depth, opening * depth):
            yield value
            yield b'{"messages":%b}' % value
            yield b'{"messages":[%b]}' % value
            yield b'{"messages":[%b],"tools":%b}' % (HI, value)
            yield b'{"messages":[%b],"temperature":%b}' % (HI, value)
            yield b'{"x":%b,"messages":[%b]}' % (value, HI)
            yield b'{"messages":[{"role":"user","content":%b}]}' % value
            yield b'{"messages":[{"role":"user","content":[{"type":"text","text":%b}]}]}' % value
            yield b'{"messages":[{"role":"user","content":[{"type":%b}]}]}' % value
            yield b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"x":%b}}]}]}' % value
            yield b'{"messages":[{"role":"assistant","tool_calls":[{"id":"a","name":"f","x":%b}]}]}' % value
            yield called(b"[%b]" % value)
            if depth >= MAX_DEPTH:
                yield called(b'{"a":%b}' % value)


ASKED = b'{"messages":[%b],' % HI
CALLED = b'{"messages":[{"role":"assistant","tool_calls":['
WIDE: dict[str, Callable[[int], bytes]] = {
    "messages": filled(b'{"messages":[', HI, b"]}"),
    "empty messages": filled(b'{"messages":[', b'{"role":"user"}', b"]}"),
    "parts": filled(b'{"messages":[{"role":"user","content":[', b'{"type":"text","text":"x"}', b"]}]}"),
    "images": filled(
        b'{"messages":[{"role":"user","content":[', b'{"type":"image_url","image_url":{"url":"https://x"}}', b"]}]}"
    ),
    "calls": filled(CALLED, b'{"id":"a","name":"f"}', b"]}," + HI + b"]}"),
    "empty calls": filled(CALLED, b'{"id":"a"}', b"]}," + HI + b"]}"),
    "tools": filled(ASKED + b'"tools":[', b'"a"', b"]}"),
    "longer names of tools": filled(ASKED + b'"tools":[', b'"calculate"', b"]}"),
    "other fields": filled(ASKED, b'"y":1', b"}"),
    "fields of a call": filled(CALLED + b'{"name":"f",', b'"y":1', b"}]}," + HI + b"]}"),
    "the same field": filled(ASKED, b'"model":"scripted:"', b"}"),
    "white space": filled(b"", b" ", b"{}", b""),
    "digits": filled(ASKED + b'"temperature":', b"9", b"}", b""),
    "digits of an integer": filled(ASKED + b'"max_output_tokens":', b"9", b"}", b""),
    "a fraction": filled(ASKED + b'"temperature":0.', b"0", b"x}", b""),
    "an exponent": filled(ASKED + b'"temperature":1e', b"9", b"}", b""),
    "a name of a field": filled(ASKED + b'"', b"x", b'":1}', b""),
    "a role": filled(b'{"messages":[{"role":"', b"x", b'"}]}', b""),
    "escapes": filled(ASKED + b'"model":"', rb"\u0041", b"}", b""),
    "wide characters": filled(b'{"messages":[{"role":"user","content":"', "😀".encode(), b"}]}", b""),
    "one wide character": filled(b'{"messages":[{"role":"user","content":"' + "😀".encode(), b"x", b"}]}", b""),
    "arguments in text": filled(CALLED + b'{"id":"a","name":"f","arguments":"', rb"\"", b'"}]},%b]}' % HI, b""),
    "brackets": filled(CALLED + b'{"id":"a","name":"f","arguments":', b"[", b"}]},%b]}" % HI, b""),
}


async def refused(up: Stack, body: bytes) -> None:
    """Send `body`, which is refused in time."""
    began = time.process_time()
    answer = await (await up.open("POST", "/chat", body, JSON)).answer()
    spent = time.process_time() - began
    assert answer.status == 400, (body[:100], answer.status)
    assert len(answer.body) < 2_000
    assert spent < SECONDS, (body[:100], spent)


@pytest.mark.parametrize("depth", DEPTHS)
def test_depth_is_refused_fast(depth: int) -> None:
    assert max(DEPTHS) >= COUNTS["depth"]

    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")]) as up:
            for body in nested(depth):
                await refused(up, body)

    virtually(main)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_arguments_may_be_as_deep_as_the_limit_and_no_deeper(dialect: str) -> None:
    """As values and as text; what is taken goes through to the provider, in every dialect."""

    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")], dialect=dialect) as up:
            for depth, status in ((MAX_DEPTH, 200), (MAX_DEPTH + 1, 400), (10 * MAX_DEPTH, 400)):
                arrays = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
                for arguments in (b'{"a":' * depth + b"1" + b"}" * depth, arrays):
                    for written in (arguments, msgspec.json.encode(arguments.decode())):
                        answer = await (await up.open("POST", "/chat", called(written), JSON)).answer()
                        assert answer.status == status, (depth, answer.body)
                        if status == 400:
                            assert "nested" in answer.error["message"]

    virtually(main)


@pytest.mark.parametrize("name", WIDE)
def test_a_bomb_is_refused_fast_and_in_bounded_memory(name: str) -> None:
    """Though the limit of size would let it in; memory is traced, which is slow, for a smaller one."""
    body = WIDE[name](COUNTS["body_mib"] << 20)

    async def main() -> None:
        async with stack([], options=ServiceOptions(max_body_bytes=len(body))) as up:
            await refused(up, body)
            small = WIDE[name](SMALL)
            tracemalloc.start()
            await (await up.open("POST", "/chat", small, JSON)).answer()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < EACH * len(small) + FIXED, peak / len(small)

    virtually(main)


def test_so_many_messages_are_refused_fast() -> None:
    async def main() -> None:
        async with stack([]) as up:
            await refused(up, b'{"messages":[%b]}' % b",".join([HI] * COUNTS["messages"]))

    virtually(main)


@pytest.mark.sockets
def test_bombs_over_a_socket() -> None:
    """What is too large is refused before it is read, by its length; and the service goes on."""

    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")], socket=True) as up:
            for name in ("messages", "calls", "white space", "brackets"):
                body = WIDE[name](COUNTS["body_mib"] << 20)
                began = time.process_time()
                exchange = SocketExchange(await trio.open_tcp_stream("127.0.0.1", int(up.url.rpartition(":")[2])))
                with contextlib.suppress(trio.BrokenResourceError):  # it need not read all of it
                    await exchange.ask("POST", "/chat", JSON, body)
                assert (await exchange.answer()).status == 413
                assert time.process_time() - began < SECONDS
            for body in list(nested(max(DEPTHS)))[::7]:
                await refused(up, body)
            assert (await up.ask()).status == 200

    over(True, main)
