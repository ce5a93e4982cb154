"""A provider on real sockets, in two dialects, that keeps books of its own: who asked it for what, and what it told.

What it does is written in the question, a `Plan` as JSON, padded so that each run has a prompt of a size that no other
has: so a run is known by its prompt, also where its client never heard of it.
"""

import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any, Final, TypeAlias

import msgspec
import trio

from sluicegate.machine.deltas import CallDelta, CallEnd, End, Failure, Started, TextDelta, Usage, UsageDelta
from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.usage import BYTES_PER_TOKEN
from sluicegate.wire.downstream.anthropic_messages import MessagesEncoder
from sluicegate.wire.downstream.openai_chat import ChatEncoder
from tests.sockets.caller import RESET
from tests.sockets.upstream import HEAD, chunk, next_request

BASE: Final = 200  # tokens of the prompt of run 0
HANG_UP: Final = 0  # in place of a status
CLAUDE: Final = "claude"  # how the names of models begin that speak Anthropic's dialect
_LAST: Final = b"0\r\n\r\n"
_REFUSAL: Final = b"HTTP/1.1 %d No\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_Encoder: TypeAlias = ChatEncoder | MessagesEncoder


class Last(StrEnum):
    """How the last reply ends, behind its words. UNTOLD: whole, but nothing says what it cost. HELD: as WHOLE, once
    it is released. FAIL: the provider reports an error. CUT: the body ends without its terminal. EOF, RESET: so
    does the connection. SILENT: nothing more comes.
    """

    WHOLE = "whole"
    UNTOLD = "untold"
    HELD = "held"
    FAIL = "fail"
    CUT = "cut"
    EOF = "eof"
    RESET = "reset"
    SILENT = "silent"


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens to run `number`: its first requests are `refused` with these statuses; then there is one reply for
    each of `calls`, which asks the calculator for that, and a last one of `words` words of `size` bytes.
    """

    number: int
    words: int = 3
    size: int = 4
    calls: tuple[str, ...] = ()
    refused: tuple[int, ...] = ()
    last: Last = Last.WHOLE

    @property
    def prompt_tokens(self) -> int:
        """What the published estimator says of the question."""
        return BASE + self.number

    @property
    def text(self) -> str:
        return "word".ljust(self.size, "-") * self.words

    def body(self, **more: object) -> bytes:
        """Return the body of a `POST /chat` that asks for this."""
        content = msgspec.json.encode(self).decode()
        assert len(content) <= BYTES_PER_TOKEN * self.prompt_tokens
        content = content.ljust(BYTES_PER_TOKEN * self.prompt_tokens)
        return msgspec.json.encode({"messages": [{"role": "user", "content": content}], **more})

    def usage(self, step: int) -> Usage:
        """What the provider says that a reply cost: nothing that could be guessed."""
        odd = 31 * self.number + 7 * step
        return Usage(60 + odd % 40, 5 + odd % 30, odd % 20, odd % 11, odd % 5)


class _Said(msgspec.Struct):
    role: str
    content: Any = None


class _Asked(msgspec.Struct):
    messages: list[_Said]
    model: str
    max_tokens: int | None = None


class Books:
    """What the provider knows of one run: the models that it was asked for, in order, the most tokens that the last
    request allowed, what it told of whole replies; `is_asked` and `is_released` are set in time.
    """

    def __init__(self) -> None:
        self.models: list[str] = []
        self.max_tokens: int | None = None
        self.told: list[Usage] = []
        self.is_asked = trio.Event()
        self.is_released = trio.Event()


class Provider:
    """`books` by the numbers of runs."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.books: defaultdict[int, Books] = defaultdict(Books)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection."""
        async with stream:
            unread = bytearray()
            while (body := await next_request(stream, unread)) is not None:
                if not await self._exchange(stream, unread, msgspec.json.decode(body, type=_Asked)):
                    return

    async def _exchange(self, stream: trio.SocketStream, unread: bytearray, asked: _Asked) -> bool:
        """Answer one request; return whether the connection can be used again."""
        plan = msgspec.json.decode(_question(asked), type=Plan)
        books = self.books[plan.number]
        books.models.append(asked.model)
        books.max_tokens = asked.max_tokens
        books.is_asked.set()
        whole = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, stream, unread, nursery.cancel_scope)
            with suppress(trio.BrokenResourceError):
                whole = await _answer(stream, plan, books, asked)
            nursery.cancel_scope.cancel()
        return whole


def _question(asked: _Asked) -> str:
    content = next(said.content for said in asked.messages if said.role == "user")
    text: str = content if isinstance(content, str) else content[0]["text"]
    return text


async def _answer(stream: trio.SocketStream, plan: Plan, books: Books, asked: _Asked) -> bool:
    if len(books.models) <= len(plan.refused):
        status = plan.refused[len(books.models) - 1]
        if status != HANG_UP:
            await stream.send_all(_REFUSAL % status)
        return status != HANG_UP
    step = 1 + sum(said.role == "assistant" for said in asked.messages)
    usage = plan.usage(step)
    encoder = encoder_of(asked.model)
    await stream.send_all(HEAD + chunk(encoder.encode(Started())))
    if step <= len(plan.calls):
        arguments = msgspec.json.encode({"expression": plan.calls[step - 1]}).decode()
        call = (CallDelta(0, f"call-{step}", "calculate"), CallDelta(0, arguments=arguments), CallEnd(0))
        await stream.send_all(chunk(b"".join([encoder.encode(delta) for delta in call])))
        await _end(stream, encoder, usage, books)
        return True
    for _ in range(plan.words):
        await stream.send_all(chunk(encoder.encode(TextDelta("word".ljust(plan.size, "-")))))
    match plan.last:
        case Last.HELD:
            await books.is_released.wait()
        case Last.UNTOLD:
            await stream.send_all(chunk(encoder.encode(End())) + _LAST)
            return True
        case Last.FAIL:
            error = RunError(ErrorCode.UPSTREAM_ERROR, "The provider failed.")
            await stream.send_all(chunk(encoder.encode(Failure(error))) + _LAST)
            return True
        case Last.CUT:
            await stream.send_all(_LAST)
            return True
        case Last.EOF | Last.RESET:
            if plan.last is Last.RESET:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return False
        case Last.SILENT:
            await trio.sleep_forever()
    await _end(stream, encoder, usage, books)
    return True


async def _end(stream: trio.SocketStream, encoder: _Encoder, usage: Usage, books: Books) -> None:
    told = UsageDelta(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )
    books.told.append(usage)
    await stream.send_all(chunk(encoder.encode(told) + encoder.encode(End())) + _LAST)


def encoder_of(model: str) -> _Encoder:
    """Return what speaks the dialect of `model`."""
    return MessagesEncoder(model, reply_id="r") if model.startswith(CLAUDE) else ChatEncoder(model, reply_id="r")


async def _watch(stream: trio.SocketStream, unread: bytearray, answering: trio.CancelScope) -> None:
    try:
        while data := await stream.receive_some():
            unread += data
    except trio.BrokenResourceError:
        pass
    answering.cancel()


@asynccontextmanager
async def running_provider() -> AsyncIterator[Provider]:
    """Serve on a free port of loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    provider = Provider(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, provider.serve, [listener])
        yield provider
        nursery.cancel_scope.cancel()
