"""The client: every frame of a run, and never a quiet success for a stream that broke off."""

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import httpx2
import pytest
import trio

from sluicegate.client import Client, Interrupted, Refused, Stream
from sluicegate.client.frame import Frame
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.events import RunFailed
from sluicegate.providers.script import Call, Cut, Fail, Reply, Say, Stall, Think

from ..service.harness import DIALECTS, Stack, eventually, stack

pytestmark = pytest.mark.sockets

HI = [{"role": "user", "content": "Hi"}]
TALK: list[Reply] = [
    [Think("Well. "), Say("One moment. "), Call("calculate", {"expression": "6*7"})],
    [Say("It is 42, é😀.")],
]


@asynccontextmanager
async def asking(*replies: Reply, dialect: str = "openai_chat") -> AsyncIterator[tuple[Client, Stack]]:
    async with stack(replies, socket=True, dialect=dialect) as up, Client(up.url, timeout=5) as client:
        yield client, up


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_frame_up_to_the_terminal(dialect: str) -> None:
    async with asking(*TALK, dialect=dialect) as (client, up):
        async with client.chat(HI) as stream:
            frames = [frame async for frame in stream]
            assert [frame async for frame in stream] == [], "it is over"
        assert frames[0].run == {"id": stream.run_id, "model": "scripted-demo"}
        assert "".join(frame.content or "" for frame in frames) == "One moment. It is 42, é😀."
        assert "".join(frame.reasoning or "" for frame in frames) == "Well. "
        assert [frame.step for frame in frames if frame.step] == [1, 2]
        assert [frame.tool_calls for frame in frames if frame.tool_calls] == [["calculate"]]
        assert [frame.tool_result["content"] for frame in frames if frame.tool_result] == ["42"]
        assert [frame.activity for frame in frames if frame.activity] == ["Calculating 6*7"]
        assert [frame.done for frame in frames] == [False] * (len(frames) - 1) + [True]
        assert frames[-1].finish_reason == "stop"
        assert frames[-1].usage is not None
        for frame in frames:
            asides = ("id", "call_id")  # every frame has them, and a field beside its key
            keys = [name for name in Frame.__struct_fields__ if name not in asides]
            shown = [name for name in keys if getattr(frame, name) not in (None, False)]
            assert shown, "a frame of which the client shows nothing"
        assert (await up.get(stream.run_id)).status == 200


async def test_options_go_along() -> None:
    async with asking([Say("Yes.")]) as (client, up):
        async with client.chat(HI, model="other", system="Be brief.", tools=[]) as stream:
            assert [frame async for frame in stream][-1].done
        (request,) = up.transport.requests
        assert (request.model, request.messages[0].text, request.tools) == ("other", "Be brief.", ())


async def test_an_error_terminal_is_a_frame_and_an_end() -> None:
    async with asking([Say("Half"), Fail(ErrorCode.RATE_LIMITED)]) as (client, _), client.chat(HI) as stream:
        frames = [frame async for frame in stream]
        assert (frames[-1].error or {})["code"] == "RATE_LIMITED"
        assert not frames[-1].done


async def test_a_refusal_is_raised_with_status_and_message() -> None:
    async with asking([Cut()]) as (client, _):
        with pytest.raises(Refused, match="robot") as refused:
            async with client.chat([{"role": "robot", "content": "Hi"}]):
                pass
        assert (refused.value.status, refused.value.error["field"]) == (400, "messages[0].role")
        with pytest.raises(Refused) as refused:
            async with client.chat(HI):
                pass
        assert (refused.value.status, refused.value.error["code"]) == (502, "UPSTREAM_ERROR")
        with pytest.raises(Refused, match="no such run"):
            await client.stop("nobody")


async def test_stop_ends_the_run_that_another_reads() -> None:
    async with asking([Say("Half"), Stall()]) as (client, up), client.chat(HI) as stream:
        async for frame in stream:
            if frame.content:
                await client.stop(stream.run_id)
        assert (frame.error or {})["code"] == "CANCELLED"
        assert up.transport.active == 0


class Bored(Exception):
    """A reader had enough."""


async def read_until_half(stream: Stream, how: str, scope: trio.CancelScope) -> None:
    async for frame in stream:
        if frame.content:
            if how == "break":
                return
            if how == "raise":
                raise Bored
            scope.cancel()


@pytest.mark.parametrize("how", ["leave", "break", "raise", "cancel"])
async def test_leaving_the_context_ends_the_run(how: str) -> None:
    async with asking([Say("Half"), Stall()]) as (client, up):
        with trio.CancelScope() as scope, nullcontext() if how != "raise" else pytest.raises(Bored):
            async with client.chat(HI) as stream:
                run_id = stream.run_id
                if how != "leave":
                    await read_until_half(stream, how, scope)
        assert scope.cancelled_caught is (how == "cancel")
        await eventually(lambda: up.transport.active == 0 and len(up.service.runs) == 0)
        driver = up.service.runs.get(run_id)
        assert driver is not None
        assert isinstance(driver.run.terminal, RunFailed)


# --- what is not a whole stream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nRun-Id: r-1\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def canned(*responses: bytes) -> AsyncIterator[Client]:
    """A client of a server that answers each connection with the next of `responses` and closes it."""
    waiting = iter(responses)

    async def answer(stream: trio.SocketStream) -> None:
        got = b""
        while b"\r\n\r\n" not in got:
            got += await stream.receive_some()
        await stream.send_all(next(waiting))
        await stream.send_eof()
        while await stream.receive_some():
            pass

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            functools.partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
        )
        port = listeners[0].socket.getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}", timeout=5) as client:
            yield client
        nursery.cancel_scope.cancel()


async def read(client: Client) -> list[Frame]:
    frames = []
    async with client.chat(HI) as stream:
        async for frame in stream:
            frames.append(frame)  # noqa: PERF401  (what came before an exception is wanted too)
    return frames


async def test_a_stream_cut_anywhere_before_its_terminal_is_interrupted() -> None:
    body = (
        b'id: e-1\ndata: {"content":"Hello, \xc3\xa9"}\n\n'
        b'id: e-2\ndata: {"done":true,"finish_reason":"stop","usage":{"input_tokens":1,"output_tokens":1}}\n\n'
    )
    done = b"data: [DONE]\n\n"
    async with canned(*(HEAD + body[:cut] for cut in range(len(body))), HEAD + body, HEAD + body + done) as client:
        for _ in range(len(body)):
            with pytest.raises(Interrupted, match="r-1") as caught:
                await read(client)
            assert caught.value.run_id == "r-1"
        for _ in range(2):
            assert [frame.done for frame in await read(client)] == [False, True]


@pytest.mark.parametrize(
    "body",
    [
        b"data: [DONE]\n\n",
        b'id: e-1\ndata: {"content":"x"}\n\ndata: [DONE]\n\n',
        b"id: e-1\ndata: nonsense\n\n",
        b"id: e-1\ndata: 5\n\n",
        b'id: e-1\ndata: {"content":5}\n\n',
        b"data:\n\n",
        b"<html>Welcome</html>",
        b'id: e-1\ndata: {"content":"\xff"}\n\n',
        b'id: e-1\ndata: {"run":' + b'{"a":' * 100_000 + b"\n\n",
        b"data: " + b"x" * 9_000_000,
    ],
    ids=range(10),
)
async def test_what_is_not_the_native_wire_is_interrupted(body: bytes) -> None:
    async with canned(HEAD + body) as client:
        with pytest.raises(Interrupted):
            await read(client)


@pytest.mark.parametrize(
    ("body", "error"),
    [(b"<html>", {}), (b"\xff", {}), (b'{"error":"x"}', {}), (b"[]", {}), (b'{"error":{"a":1}}', {"a": 1})],
)
async def test_a_refusal_without_our_json_still_has_its_status(body: bytes, error: dict[str, Any]) -> None:
    async with canned(b"HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n" + body) as client:
        with pytest.raises(Refused, match="HTTP status 503") as refused:
            await read(client)
        assert (refused.value.status, refused.value.error) == (503, error)


async def test_unknown_keys_and_comments_are_passed_over() -> None:
    body = (
        b': hello\n\nid: e-1\ndata: {"news":1,"content":"x"}\n\nid: e-2\ndata: {"done":true,"finish_reason":"stop"}\n\n'
    )
    async with canned(HEAD + body) as client:
        assert [frame.content for frame in await read(client)] == ["x", None]


async def test_no_service_at_all() -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))  # bound, never listening: every connection is refused
    with listener:
        async with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            with pytest.raises(httpx2.ConnectError):
                await read(client)
