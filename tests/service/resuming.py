"""Runs that are cut and read on: scenarios that show every frame, and clients that stop in the middle of a write."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import trio
from pydantic import Field

from sluicegate.machine.deltas import CallDelta, Finish, FinishReason, ProviderDelta
from sluicegate.providers.script import Call, Cut, Fail, Pause, Refuse, Reply, Reset, Say, Think
from sluicegate.providers.scripted import Brain
from sluicegate.runtime.options import RunOptions
from sluicegate.tools.context import ToolContext
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry

from .harness import DONE, JSON, Answer, Exchange, Stack

HEARTBEAT = b":\n\n"
PATIENT = RunOptions(grace_seconds=1_000.0)
SEARCH_ITEM = b'{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"gates"}}'
SEARCH_BLOCK = b'{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"gates"}}'


@tool(activity="Digging for {seconds} s")
async def dig(seconds: Annotated[int, Field(ge=0)], context: ToolContext) -> str:
    """Dig, and report on it every second.

    Args:
        seconds: How long.
    """
    for second in range(seconds):
        context.progress({"dug": second})
        await trio.sleep(1)
    return f"dug for {seconds} s"


@tool(eager=True)
async def glance() -> str:
    """Look at something, at once."""
    await trio.lowlevel.checkpoint()
    return "seen"


digging = Registry([dig, glance])
SLOW = 1.0  # words a second: each is a read, a frame and a write of its own


CITED: dict[str, object] = {"type": "url_citation", "url": "https://example.org", "title": "Gates"}
CITING: dict[str, object] = {
    "openai_chat": {"id": "c", "choices": [{"index": 0, "delta": {"annotations": [CITED]}}]},
    "openai_responses": {
        "type": "response.output_text.annotation.added",
        "output_index": 0,
        "content_index": 0,
        "annotation": CITED,
    },
    "anthropic": {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "citations_delta", "citation": CITED},
    },
}


def searched(dialect: str) -> Reply:
    """A reply that cites a source and in which, where the dialect has a word for that, the provider searches."""
    cite = b"data: %b\n\n" % msgspec.json.encode(CITING[dialect])
    search: dict[str, Reply] = {
        "openai_chat": [],
        "openai_responses": [ProviderDelta("ws", "web_search_call", SEARCH_ITEM)],
        "anthropic": [ProviderDelta("ws", "server_tool_use", SEARCH_BLOCK)],
    }
    return [Say("Gates are old. ", rate=SLOW), cite, *search[dialect], Pause(1), Say("Found it.", rate=SLOW)]


def scenarios(dialect: str, rate: float = SLOW) -> dict[str, Sequence[Reply]]:
    """Return the replies of each scenario, step by step. Together they show every frame that the dialect has."""
    return {
        "plain": [[Say("one two three four five six seven", rate=rate)]],
        "reasoning": [[Think("Let me think. ", "signed", rate=rate), Say("So it is 42.", rate=rate)]],
        "one tool": [[Say("Wait. ", rate=rate), Call("dig", {"seconds": 2})], [Say("It is done.", rate=rate)]],
        "parallel tools": [
            [Call("dig", {"seconds": 3}), Call("dig", {"seconds": 2}), Call("nothing", {})],
            [Say("Both done.", rate=rate)],
        ],
        "steps": [
            [Say("First. ", rate=rate), Call("glance"), Pause(1 / rate)],
            [Call("dig", {"seconds": 1}, "again"), Call("dig", "{broken", "broken")],
            [Call("dig", {"seconds": 2}, "again")],
            [Say("That was all.", rate=rate)],
        ],
        "cut": [[Say("half an answer that is ", rate=rate), Cut() if dialect == "anthropic" else Reset()]],
        "long": [[Say("x" * 9_000 + " ", words=0), Pause(1), Say("y" * 20_000, words=0), Pause(1), Say("end.")]],
        "refusal": [[Say("Well, ", rate=rate), Refuse("I will not do that.", rate=rate)]],
        "search": [searched(dialect)],
        "failure": [[Say("half of it ", rate=rate), Fail(retryable=True)]],
        "filter": [[Say("half of it ", rate=rate), Finish(FinishReason.CONTENT_FILTER, "content_filter")]],
    }


def replaying(replies: Sequence[Reply]) -> Brain:
    """Return a brain that gives every run the same replies, step by step; each but the last one must call tools."""
    calls = [
        sum(isinstance(action, Call) or (isinstance(action, CallDelta) and action.name != "") for action in reply)
        for reply in replies
    ]
    steps = {sum(calls[:step]): reply for step, reply in enumerate(replies)}
    return lambda request: steps[len(request.results)]


def frames_in(body: bytes) -> list[bytes]:
    """Return the whole frames of `body`, heartbeats left out, `[DONE]` with its terminal."""
    blocks = [block + b"\n\n" for block in body.split(b"\n\n")[:-1]]
    frames = [block for block in blocks if block not in (HEARTBEAT, DONE)]
    if DONE in blocks:
        assert blocks[-1] == DONE
        frames[-1] += DONE
    return frames


def cursor_of(frame: bytes) -> str:
    """Return the id of `frame`."""
    line = frame.split(b"\n")[0]
    assert line.startswith(b"id: ")
    return line[4:].decode()


def data_of(frame: bytes) -> dict[str, Any]:
    """Return the data of `frame`."""
    found: dict[str, Any] = msgspec.json.decode(frame.split(b"\n")[1].removeprefix(b"data: "))
    return found


async def hear(exchange: Exchange, count: int) -> bytes:
    """Read until `count` frames are here, and return these alone: the rest of the write is lost with the connection."""
    while len(frames := frames_in(b"".join(exchange.writes))) < count:
        assert await exchange.next() is not None, "the response ended early"
    return b"".join(frames[:count])


async def detached(up: Stack, question: str = "Hi", headers: Mapping[str, str] | None = None) -> Exchange:
    """Send `POST /chat` for a run that outlives its readers for a while."""
    asked = {"messages": [{"role": "user", "content": question}], "on_disconnect": "detach"}
    return await up.open("POST", "/chat", msgspec.json.encode(asked), JSON | dict(headers or {}))


async def post(up: Stack, key: str, question: str = "Hi", cursor: str = "", **more: Any) -> Exchange:
    """Send `POST /chat` under an Idempotency-Key."""
    body = msgspec.json.encode({"messages": [{"role": "user", "content": question}], **more})
    headers = JSON | {"Idempotency-Key": key} | ({"Last-Event-ID": cursor} if cursor else {})
    return await up.open("POST", "/chat", body, headers)


async def events(up: Stack, run_id: str, after: str = "") -> Exchange:
    """Send `GET /runs/{id}/events`."""
    return await up.open("GET", f"/runs/{run_id}/events", headers={"Last-Event-ID": after} if after else {})


async def gather(up: Stack, run_id: str, after: str, answers: list[Answer]) -> None:
    """Read a run from behind `after` to its end, and add the answer."""
    answers.append(await up.get(run_id, after))
