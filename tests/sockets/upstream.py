"""A provider on a real socket: Chat Completions over keep-alive HTTP/1.1, and a record of what it saw of each request.

What it does is written in the question itself: the user's message is a `Plan` as JSON. So many runs go on side by side
and each drop knows its own requests.
"""

import math
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final, Literal

import msgspec
import trio

from sluicegate.machine.deltas import CallDelta, CallEnd, End, Started, TextDelta, Usage, UsageDelta
from sluicegate.wire.downstream.openai_chat import ChatEncoder

HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SPENT: Final = Usage(input_tokens=70, output_tokens=7)  # by each complete reply
FLOOD: Final = 100_000  # tokens of an answer that never ends by itself

Phase = Literal["silent", "text", "tool", "between"]


class Plan(msgspec.Struct, frozen=True):
    """What happens to the question `drop`.

    `head` is how many bytes of its response head a silent reply sends. A text stops after `tokens` and stays open.
    `tools` calls are made at once. `open_end` keeps the body of the calls' reply open behind its `[DONE]`.
    """

    drop: int
    phase: Phase
    head: int = 0
    tokens: int = FLOOD
    tools: int = 1
    open_end: bool = False


class Ended(StrEnum):
    """How a request ended, as the provider saw it."""

    COMPLETE = "complete"
    EOF = "eof"
    RESET = "reset"


class Exchange:
    """One request. `over` is set when it has ended, `over_at` and `last_token_at` are on Trio's clock."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.tokens = 0
        self.last_token_at = -math.inf
        self.ended: Ended | None = None
        self.over = trio.Event()
        self.over_at = math.inf

    def end(self, how: Ended) -> None:
        if self.ended is None:
            self.ended = how
            self.over_at = trio.current_time()
            self.over.set()


class _Said(msgspec.Struct):
    role: str
    content: str | None = None


class _Asked(msgspec.Struct):
    messages: list[_Said]


class Upstream:
    """The server's record: `exchanges` and `asked` by the number of the drop; `connections` counts the open ones."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.exchanges: dict[int, list[Exchange]] = defaultdict(list)
        self.asked: dict[tuple[int, int], trio.Event] = defaultdict(trio.Event)

    @property
    def tokens(self) -> int:
        """All tokens that were ever sent."""
        return sum(exchange.tokens for exchanges in self.exchanges.values() for exchange in exchanges)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        try:
            async with stream:
                unread = bytearray()
                ended: Ended | None = Ended.COMPLETE
                while ended is Ended.COMPLETE and (body := await next_request(stream, unread)) is not None:
                    ended = await self._exchange(stream, unread, body)
        finally:
            self.connections -= 1

    async def _exchange(self, stream: trio.SocketStream, unread: bytearray, body: bytes) -> Ended | None:
        messages = msgspec.json.decode(body, type=_Asked).messages
        plan = msgspec.json.decode(next(said.content or "" for said in messages if said.role == "user"), type=Plan)
        exchange = Exchange(1 + sum(said.role == "assistant" for said in messages))
        self.exchanges[plan.drop].append(exchange)
        self.asked[plan.drop, exchange.step].set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, stream, unread, exchange, nursery.cancel_scope)
            try:
                await _answer(stream, plan, exchange)
                exchange.end(Ended.COMPLETE)
            except trio.BrokenResourceError:
                exchange.end(Ended.RESET)
            nursery.cancel_scope.cancel()
        return exchange.ended


async def next_request(stream: trio.SocketStream, unread: bytearray) -> bytes | None:
    """Return the body of the next request on `stream`, None at its end; `unread` keeps what came too early."""
    while (end := unread.find(b"\r\n\r\n")) < 0 or len(unread) < (total := end + 4 + _length(unread[:end])):
        try:
            data = await stream.receive_some()
        except trio.BrokenResourceError:
            return None
        if not data:
            return None
        unread += data
    body = bytes(unread[end + 4 : total])
    del unread[:total]
    return body


def _length(head: bytearray) -> int:
    return next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))


async def _watch(stream: trio.SocketStream, unread: bytearray, exchange: Exchange, answering: trio.CancelScope) -> None:
    try:
        while data := await stream.receive_some():
            unread += data
        exchange.end(Ended.EOF)
    except trio.BrokenResourceError:
        exchange.end(Ended.RESET)
    answering.cancel()


async def _answer(stream: trio.SocketStream, plan: Plan, exchange: Exchange) -> None:
    encoder = ChatEncoder("real", reply_id=f"chatcmpl-{plan.drop}")
    if plan.phase == "silent" or exchange.step > 1:
        await stream.send_all(HEAD[: plan.head])
        await trio.sleep_forever()
    await stream.send_all(HEAD)
    if plan.phase == "text":
        await stream.send_all(chunk(encoder.encode(Started())))
        while exchange.tokens < plan.tokens:
            await stream.send_all(chunk(encoder.encode(TextDelta(f"tok{exchange.tokens} "))))
            exchange.tokens += 1
            exchange.last_token_at = trio.current_time()
        await trio.sleep_forever()
    name = "hold" if plan.phase == "tool" else "quick"
    for number in range(plan.tools):
        arguments = msgspec.json.encode({"drop": plan.drop, "number": number}).decode()
        call = (CallDelta(number, f"call-{number}", name), CallDelta(number, arguments=arguments), CallEnd(number))
        await stream.send_all(chunk(b"".join([encoder.encode(delta) for delta in call])))
    end = chunk(encoder.encode(UsageDelta(SPENT.input_tokens, SPENT.output_tokens)) + encoder.encode(End()))
    await stream.send_all(end if plan.open_end else end + b"0\r\n\r\n")
    if plan.open_end:
        await trio.sleep_forever()


def chunk(data: bytes) -> bytes:
    """Return `data` in chunked framing."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def running_upstream() -> AsyncIterator[Upstream]:
    """Serve on a free port of loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    upstream = Upstream(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, upstream.serve, [listener])
        yield upstream
        nursery.cancel_scope.cancel()
