"""A provider on a real socket that paces its words, asks for tools and fails in every way there is, by plan.

The plan is the user's message as JSON, so runs go on side by side and a client knows what its own run has to say.
"""

import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Final

import msgspec
import trio

from sluicegate.machine.deltas import CallDelta, CallEnd, End, Failure, Started, TextDelta, UsageDelta
from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.wire.downstream.openai_chat import ChatEncoder
from tests.sockets.caller import RESET
from tests.sockets.upstream import HEAD, chunk, next_request

SEND_BUFFER: Final = 64 * 1024
_REFUSAL: Final = b"HTTP/1.1 %d No\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Fault(StrEnum):
    """What goes wrong, from the word `at` of the last reply on. STATUS_*: an error instead of a reply. HANG_UP: the
    connection closes instead. CUT: the body ends without its terminal. EOF, RESET: the connection ends in the middle.
    FAIL: the provider reports an error. SILENT: nothing more comes, for ever.
    """

    NONE = "none"
    STATUS_429 = "status_429"
    STATUS_500 = "status_500"
    HANG_UP = "hang_up"
    CUT = "cut"
    EOF = "eof"
    RESET = "reset"
    FAIL = "fail"
    SILENT = "silent"


EARLY: Final = (Fault.STATUS_429, Fault.STATUS_500, Fault.HANG_UP)


class Plan(msgspec.Struct, frozen=True):
    """What the provider does for the run `number`: `tools` replies that end with a call of a tool each, then one that
    does not; each of them `words` words of `size` characters, `pause` seconds apart.
    """

    number: int
    words: int
    pause: float = 0.0
    size: int = 12
    tools: tuple[str, ...] = ()
    fault: Fault = Fault.NONE
    at: int = 0

    def word(self, step: int, index: int) -> str:
        return f"{self.number}.{step}.{index} ".ljust(self.size, "x")

    @property
    def text(self) -> str:
        """All that the run says if nothing goes wrong and it is left alone."""
        steps = range(1, len(self.tools) + 2)
        return "".join(self.word(step, index) for step in steps for index in range(self.words))

    def body(self, **more: object) -> bytes:
        """Return the body of a `POST /chat` that asks for this."""
        content = msgspec.json.encode(self).decode()
        return msgspec.json.encode({"messages": [{"role": "user", "content": content}], **more})


class _Said(msgspec.Struct):
    role: str
    content: str | None = None


class _Asked(msgspec.Struct):
    messages: list[_Said]


class Provider:
    """`connections` and `exchanges` count what is open now; `sent` counts bytes and `faults` faults so far."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.exchanges = 0
        self.sent = 0
        self.faults: Counter[Fault] = Counter()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        try:
            async with stream:
                unread = bytearray()
                while (body := await next_request(stream, unread)) is not None and await self._exchange(
                    stream, unread, body
                ):
                    pass
        finally:
            self.connections -= 1

    async def _exchange(self, stream: trio.SocketStream, unread: bytearray, body: bytes) -> bool:
        """Answer one request; return whether the connection can be used again."""
        messages = msgspec.json.decode(body, type=_Asked).messages
        plan = msgspec.json.decode(next(said.content or "" for said in messages if said.role == "user"), type=Plan)
        step = 1 + sum(said.role == "assistant" for said in messages)
        whole = False
        self.exchanges += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, stream, unread, nursery.cancel_scope)
                with suppress(trio.BrokenResourceError):
                    whole = await self._answer(stream, plan, step)
                nursery.cancel_scope.cancel()
        finally:
            self.exchanges -= 1
        return whole

    async def _answer(self, stream: trio.SocketStream, plan: Plan, step: int) -> bool:
        last = step > len(plan.tools)
        fault = plan.fault if last else Fault.NONE
        if fault is not Fault.NONE:
            self.faults[fault] += 1
        if fault is Fault.HANG_UP:
            return False
        if fault in (Fault.STATUS_429, Fault.STATUS_500):
            await self._send(stream, _REFUSAL % int(fault.removeprefix("status_")))
            return True
        encoder = ChatEncoder("soak", reply_id=f"{plan.number}.{step}")
        await self._send(stream, HEAD + chunk(encoder.encode(Started())))
        for index in range(plan.words):
            if fault is not Fault.NONE and index == plan.at:
                return await self._fail(stream, encoder, fault)
            await self._send(stream, chunk(encoder.encode(TextDelta(plan.word(step, index)))))
            if plan.pause:
                await trio.sleep(plan.pause)
        end = b""
        if not last:
            arguments = msgspec.json.encode({"number": plan.number}).decode()
            call = (CallDelta(0, f"call-{step}", plan.tools[step - 1]), CallDelta(0, arguments=arguments), CallEnd(0))
            end = b"".join(encoder.encode(delta) for delta in call)
        end += encoder.encode(UsageDelta(70, plan.words)) + encoder.encode(End())
        await self._send(stream, chunk(end) + b"0\r\n\r\n")
        return True

    async def _fail(self, stream: trio.SocketStream, encoder: ChatEncoder, fault: Fault) -> bool:
        match fault:
            case Fault.FAIL:
                error = RunError(ErrorCode.UPSTREAM_ERROR, "The provider failed.")
                await self._send(stream, chunk(encoder.encode(Failure(error))) + b"0\r\n\r\n")
            case Fault.CUT:
                await self._send(stream, b"0\r\n\r\n")
            case Fault.SILENT:
                await trio.sleep_forever()
            case Fault.RESET:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return fault in (Fault.FAIL, Fault.CUT)

    async def _send(self, stream: trio.SocketStream, data: bytes) -> None:
        await stream.send_all(data)
        self.sent += len(data)


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
