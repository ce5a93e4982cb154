"""Models that never come to an end: each is stopped exactly at its cap, and one read beyond it at most."""

from collections import Counter
from typing import Any

import pytest

from sluicegate.machine.deltas import CallDelta, CallEnd
from sluicegate.machine.errors import RunError
from sluicegate.machine.limits import ReplyLimits, RunLimits
from sluicegate.machine.reply import Reply as ReplyMachine
from sluicegate.providers import scripted
from sluicegate.providers.dialects import dialect_of
from sluicegate.providers.script import Action, Call, Reply, Say, Stall, Think
from sluicegate.providers.scripted import Brain
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.options import RunOptions
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from tests.security.rows import COUNTS
from tests.service.harness import DIALECTS, Answer, Stack, over, stack, virtually

STEPS, REPEATED, CALLS, BYTES = 7, 3, 5, 2_000
READ = 64  # bytes of the wire in one read
LIMITS = RunLimits(STEPS, REPEATED, ReplyLimits(BYTES, BYTES, CALLS))
RUNS: Counter[str] = Counter()


@tool
async def count(n: int = 0) -> str:
    """Count on."""
    RUNS["count"] += 1
    return str(RUNS["count"])


@tool
async def same(n: int = 0) -> str:
    """Say the same."""
    RUNS["same"] += 1
    return "the same"


def endless(action: Action) -> Brain:
    return lambda _: [action] * 10_000


def growing(asked: ScriptedRequest) -> Reply:
    return [Call("count", {"n": len(asked.messages)})]


# What the model does, and: the code, the requests to it, the calls of tools.
SCRIPTS: dict[str, tuple[Brain, str, int, int]] = {
    "always another call": (growing, "TOOL_LOOP", STEPS, STEPS - 1),
    "always the same call, another result": (lambda _: [Call("count")], "TOOL_LOOP", STEPS, STEPS - 1),
    "always the same call and result": (lambda _: [Call("same")], "TOOL_LOOP", REPEATED, REPEATED),
    "a call that there is not": (lambda _: [Call("nothing")], "TOOL_LOOP", REPEATED, 0),
    "calls that are broken": (lambda _: [Call("count", '{"n": }')], "TOOL_LOOP", REPEATED, 0),
    "as many calls as it may": (
        lambda _: [Call("count", {"n": n}) for n in range(CALLS)], "TOOL_LOOP", STEPS, CALLS * (STEPS - 1)
    ),
    "one call more than it may": (lambda _: [Call("count", {"n": n}) for n in range(CALLS + 1)], "TOOL_LOOP", 1, 0),
    "calls without end": (lambda _: [Call("count", {"n": n}) for n in range(10_000)], "TOOL_LOOP", 1, 0),
    "words without end": (endless(Say("more words ")), "BUDGET_EXCEEDED", 1, 0),
    "thoughts without end": (endless(Think("more thoughts ")), "BUDGET_EXCEEDED", 1, 0),
    "arguments without end": (
        lambda _: [CallDelta(0, "c", "count"), *[CallDelta(0, arguments="1234567890")] * 10_000, CallEnd(0)],
        "BUDGET_EXCEEDED", 1, 0,
    ),
    "one word without end": (lambda _: [Say("x" * 100_000, words=0), Stall()], "BUDGET_EXCEEDED", 1, 0),
}  # fmt: skip


def check(answer: Answer, up: Stack, name: str) -> None:
    _, code, requests, calls = SCRIPTS[name]
    assert len(up.transport.requests) == requests
    assert RUNS.total() == calls
    if answer.status != 200:  # it was over before there was a word to show
        assert answer.error["code"] == code
        return
    frames = answer.frames
    assert frames[-1]["error"]["code"] == code
    assert sum("step" in frame for frame in frames) == requests
    words = [frame.get("content", "") + frame.get("reasoning", "") for frame in frames]
    arguments = [frame["tool_call"].get("delta", "") for frame in frames if "tool_call" in frame]
    assert sum(map(len, words)) <= BYTES
    assert sum(map(len, arguments)) <= BYTES * requests


def record_reads(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """Return a list to which the reads of each reply will be added."""
    replies: list[list[bytes]] = []

    class Recorded(scripted._Body):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self.reads: list[bytes] = []
            replies.append(self.reads)

        async def __anext__(self) -> bytes:
            data = await super().__anext__()
            self.reads.append(data)
            return data

    monkeypatch.setattr(scripted, "_Body", Recorded)
    return replies


def judged(dialect: str, reads: list[bytes]) -> RunError | None:
    """What the limits say to a reply that is read so far."""
    decoder, reply = dialect_of(dialect).decoder(), ReplyMachine(LIMITS.reply)
    for delta in decoder.feed(b"".join(reads)):
        reply.receive(delta)
    return reply.error


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_hostile_script_stops_at_the_cap(dialect: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(SCRIPTS) >= COUNTS["scripts"]
    replies = record_reads(monkeypatch)
    RUNS.clear()

    async def main() -> None:
        tools = Registry([count, same])
        async with stack(SCRIPTS[name][0], dialect=dialect, tools=tools, run=RunOptions(LIMITS), pieces=READ) as up:
            check(await up.ask(), up, name)

    virtually(main)
    assert len(replies) == SCRIPTS[name][2]
    if len(replies) == 1:  # it is a reply that was too long: the read that told so was the last one
        assert judged(dialect, replies[0]) is not None
        assert judged(dialect, replies[0][:-1]) is None


@pytest.mark.sockets
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_does_over_a_socket(name: str) -> None:
    RUNS.clear()

    async def main() -> None:
        tools = Registry([count, same])
        async with stack(SCRIPTS[name][0], socket=True, tools=tools, run=RunOptions(LIMITS)) as up:
            check(await up.ask(), up, name)

    over(True, main)
