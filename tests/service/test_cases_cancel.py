"""Failures of others around leaving, stopping and coming back, each as a test of ours. The number is the case's."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from sluicegate.machine.deltas import CallDelta, CallEnd, Finish, FinishReason
from sluicegate.machine.events import PartEnded, PartStarted, RunDone, RunFailed
from sluicegate.providers.script import Call, Cut, Pause, Reply, Reset, Say, Stall, Status, Think, Unreachable
from sluicegate.runtime.driver import LEFT
from sluicegate.runtime.ledger import MemoryLedger, Source
from sluicegate.runtime.options import RunOptions
from sluicegate.service.options import ServiceOptions

from .harness import (
    DIALECTS,
    DONE,
    JSON,
    LINKS,
    MemoryExchange,
    Stack,
    eventually,
    over,
    read_frames,
    stack,
    text_of,
    virtually,
)
from .resuming import PATIENT, data_of, detached, digging, events, frames_in, hear, replaying, scenarios
from .test_gap import Recorded

STOPPED = {"code": "CANCELLED", "message": "The run was stopped."}
TALK: Sequence[Reply] = [
    [Think("Let me think. ", rate=1), Say("Wait. ", rate=1), Call("dig", {"seconds": 2}, size=3), Pause(1)],
    [Say("It is done.", rate=1)],
]
SLOWLY: Sequence[Reply] = [
    [
        Say("Wait. ", rate=1), CallDelta(0, "c", "dig"), Pause(1), CallDelta(0, arguments='{"sec'), Pause(1),
        CallDelta(0, arguments='onds":2}'), Pause(1), CallEnd(0),
    ],
    [Say("It is done.", rate=1)],
]  # fmt: skip


async def cut_short(up: Stack, verb: str, count: int) -> list[bytes]:
    """End a run after `count` of its frames by `verb`, thrice over; return its log."""
    exchange = await up.chat()
    await hear(exchange, count)
    driver = up.driver(exchange)
    run_id = driver.run.run_id
    for _ in range(3):
        match verb:
            case "stop":
                assert (await up.delete(run_id)).status == 204
            case "leave":
                await exchange.leave()
            case _:
                up.service.runs.cancel_all(LEFT)
                up.service.runs.cancel_all(LEFT)
    await up.service.runs.wait_none()
    assert (await up.delete(run_id)).status == 204
    return driver.feed.frames


@pytest.mark.parametrize("verb", ["stop", "leave", "both"])
def test_case_48_nothing_follows_a_terminal(verb: str) -> None:
    """Neither another terminal nor a result, whatever ends the run, and however often it is ended."""

    async def main() -> None:
        async with stack(replaying(TALK), tools=digging) as up:
            whole = len(frames_in((await up.ask()).body))
            for count in range(1, whole + 1):
                log = await cut_short(up, verb, count)
                await trio.sleep(10)  # longer than any tool takes
                body = b"".join(log)
                read_frames(body)
                assert body.count(DONE) == 1
                assert [at for at, frame in enumerate(log) if {"done", "error"} & data_of(frame).keys()] == [
                    len(log) - 1
                ]

    virtually(main)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("verb", ["stop", "leave"])
def test_case_49_what_is_open_is_closed_before_the_terminal(
    verb: str, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Recorded(monkeypatch)
    broken = 0

    async def main() -> None:
        nonlocal broken
        async with stack(replaying(SLOWLY), tools=digging, dialect=dialect) as up:
            whole = len(frames_in((await up.ask()).body))
            for count in range(1, whole):
                seen.events.clear()
                log = await cut_short(up, verb, count)
                open_parts: set[int] = set()
                for event in seen.events:
                    match event:
                        case PartStarted(part=part):
                            open_parts.add(part)
                        case PartEnded(part=part):
                            open_parts.remove(part)
                        case RunDone() | RunFailed():
                            assert not open_parts
                assert isinstance(seen.events[-1], RunDone | RunFailed)
                calls = [found for frame in log if (found := data_of(frame).get("tool_call"))]
                assert not calls or calls[-1].keys() & {"arguments", "fault"}, "no call stays open"
                broken += any("fault" in call for call in calls)

    virtually(main)
    assert broken >= 2


@pytest.mark.parametrize("verb", ["leave", "stop"])
@pytest.mark.parametrize("moment", ["silent", "backoff", "backoff again"])
def test_case_51_before_the_first_token_and_between_attempts(moment: str, verb: str) -> None:
    """The SDK sleeps before it tries again; who leaves meanwhile is noticed at once, and nothing more is asked for."""
    wait = Status(503, {"retry-after": "20"})
    replies: dict[str, list[Reply]] = {
        "silent": [[Stall()]],
        "backoff": [[wait], [Say("Too late.")]],
        "backoff again": [[Unreachable()], [wait], [Say("Too late.")]],
    }
    seconds = 10.0

    async def main() -> None:
        async with stack(replies[moment], retries=3) as up:
            exchange = await up.chat()
            await trio.sleep(seconds)
            asked = len(up.transport.requests)
            assert asked == (2 if moment == "backoff again" else 1)
            driver = up.driver(await exchange.head())
            if verb == "leave":
                await exchange.leave()
            else:
                await up.delete(driver.run.run_id)
                assert (await exchange.answer()).frames[-1]["error"] == STOPPED
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(seconds)
            await trio.sleep(100)
            assert len(up.transport.requests) == asked
            assert up.transport.active == 0

    virtually(main)


@LINKS
def test_case_55_a_stop_is_not_a_disconnect(socket: bool) -> None:
    """Who leaves a detached run does not end it; who stops it does, with nobody reading, and is heard by all."""

    async def main() -> None:
        async with stack([[Say("Half"), Stall()]] * 2, socket=socket, run=PATIENT) as up:
            first = await detached(up)
            await first.until(b"Half")
            driver = up.driver(first)
            await first.leave()
            await eventually(lambda: not driver.feed.readers)
            assert driver.run.terminal is None
            assert up.transport.active == 1
            assert (await up.delete(driver.run.run_id)).status == 204
            await up.service.runs.wait_none()
            assert up.transport.active == 0
            assert (await up.get(driver.run.run_id)).frames[-1]["error"] == STOPPED

            again = await detached(up)
            await again.until(b"Half")
            others = [await events(up, again.run_id) for _ in range(2)]
            for other in others:
                await other.until(b"Half")
            await others.pop().leave()
            assert (await up.delete(again.run_id)).status == 204
            for reader in (again, *others):
                assert (await reader.answer()).frames[-1]["error"] == STOPPED

    over(socket, main)


@pytest.mark.parametrize("verb", ["stop", "leave", "both"])
def test_case_63_what_a_cancelled_run_has_cost_is_noted_once(verb: str) -> None:
    async def main() -> None:
        async with stack(replaying(TALK), tools=digging) as up:
            ledger = up.service.runs.ledger
            assert isinstance(ledger, MemoryLedger)
            whole = len(frames_in((await up.ask()).body))
            for count in range(3, whole):
                log = await cut_short(up, verb, count)
                run_id = data_of(log[0])["run"]["id"]
                (settled,) = [entry for entry in ledger.settlements if entry.run_id == run_id]
                usage = data_of(log[-1])["usage"]
                assert usage["output_tokens"] == settled.usage.output_tokens
                if data_of(log[-1]).get("error"):
                    assert settled.outcome == "CANCELLED"
                    if any({"reasoning", "content"} & data_of(frame).keys() for frame in log):
                        assert usage["output_tokens"] > 0
                    if not any("tool_result" in data_of(frame) or "tool_calls" in data_of(frame) for frame in log):
                        assert usage["estimated"] is True
                        assert settled.source is Source.ESTIMATED

    virtually(main)


@pytest.mark.parametrize("policy", ["cancel", "detach"])
def test_case_64_a_client_that_was_gone_before_we_began(policy: str) -> None:
    """Its request is whole, its connection is not: nothing hangs, and nothing stays open."""

    async def main() -> None:
        async with stack([[Say("Half"), Stall()]], run=RunOptions(grace_seconds=20)) as up:
            body = b'{"messages":[{"role":"user","content":"Hi"}],"on_disconnect":"%b"}' % policy.encode()
            exchange = await up.open("POST", "/chat", body, JSON)
            assert isinstance(exchange, MemoryExchange)
            await exchange.leave()  # before the application has run at all
            assert trio.current_time() == 0
            await up.service.runs.wait_none()
            assert trio.current_time() == pytest.approx(0 if policy == "cancel" else 20 * len(up.transport.requests))
            assert up.transport.active == 0

    virtually(main)


@LINKS
@pytest.mark.parametrize("encodings", ["gzip", "gzip, deflate, br, zstd", "*"])
def test_case_66_no_proxy_is_given_a_reason_to_buffer(encodings: str, socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("word " * 500, words=0), Stall()]], socket=socket, run=PATIENT) as up:
            body = b'{"messages":[{"role":"user","content":"Hi"}],"on_disconnect":"detach"}'
            first = await up.open("POST", "/chat", body, JSON | {"Accept-Encoding": encodings})
            await first.until(b"word")
            again = await up.open("GET", f"/runs/{first.run_id}/events", headers={"Accept-Encoding": encodings})
            await again.until(b"word")
            for exchange in (first, again):
                found = {name.lower(): value for name, value in exchange.headers}
                assert found["x-accel-buffering"] == "no"
                assert found["cache-control"] == "no-cache, no-transform"
                assert found["content-type"] == "text/event-stream"
                assert found.keys().isdisjoint({"content-encoding", "content-length", "etag", "vary"})
            await up.delete(first.run_id)
            assert first.writes == again.writes or b"".join(first.writes) == b"".join(again.writes)
            await first.answer()
            await again.answer()

    over(socket, main)


@pytest.mark.parametrize("name", list(scenarios("openai_chat")))
def test_a_drop_during_the_hold_under_detach_loses_nothing(name: str) -> None:
    """Even what came while nobody read at all is there for who knows the key."""
    replies = scenarios("openai_chat")[name]

    async def main() -> None:
        async with stack(replaying(replies), tools=digging, options=ServiceOptions(hold_seconds=50), run=PATIENT) as up:
            body = b'{"messages":[{"role":"user","content":"Hi"}],"on_disconnect":"detach"}'
            first = await up.open("POST", "/chat", body, JSON | {"Idempotency-Key": "k"})
            await trio.sleep(0.1)
            _, driver = up.service.runs.named("", "k") or (b"", None)
            assert driver is not None
            await first.leave()
            await up.service.runs.wait_none()
            assert (await up.get("k")).body == b"".join(driver.feed.frames)

    virtually(main)


@pytest.mark.parametrize("end", [Reset(), Cut()])
def test_a_connection_that_breaks_behind_its_calls_is_not_waited_for(end: Reset | Cut) -> None:
    """The reply is whole without its last bytes: what its tools then take is no silence of the provider's."""

    async def main() -> None:
        calls: Reply = [Call("dig", {"seconds": 20}), Finish(FinishReason.TOOL_CALLS, "tool_calls"), end]
        async with stack([calls, [Say("Done.")]], tools=digging, run=RunOptions(stall_seconds=10)) as up:
            assert text_of((await up.ask()).frames) == "Done."

    virtually(main)
