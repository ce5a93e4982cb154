"""The law of resuming: wherever a client is cut off, what it has and what it then gets are the log, byte for byte."""

from collections.abc import Callable
from itertools import product

import pytest
import trio
import trio.testing

from sluicegate.providers.script import Pause, Reply, Say, Stall, Status
from sluicegate.runtime.driver import Driver
from sluicegate.wire.downstream.native import FRAMES

from .harness import DIALECTS, DONE, Answer, Stack, kinds, read_frames, stack, text_of, virtually
from .resuming import (
    PATIENT,
    SLOW,
    cursor_of,
    data_of,
    detached,
    digging,
    events,
    frames_in,
    gather,
    hear,
    replaying,
    scenarios,
)

WAYS = ("at once", "after the end", "twice", "two clients")
FLOOR = 100  # cuts of all scenarios in one dialect and way; there are 12 of these


async def come_back(up: Stack, driver: Driver, has: bytes, count: int, way: str) -> list[bytes]:
    """Come back with the first `count` frames, `has`; return all that each client has in the end."""
    run_id, cursor = driver.run.run_id, cursor_of(frames_in(has)[-1])
    answers: list[Answer] = []
    match way:
        case "at once":
            await gather(up, run_id, cursor, answers)
        case "after the end":
            await up.service.runs.wait_none()
            await gather(up, run_id, cursor, answers)
        case "two clients":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(gather, up, run_id, cursor, answers)
                nursery.start_soon(gather, up, run_id, cursor, answers)
        case _:
            again = await (await events(up, run_id, cursor)).head()
            if again.status == 200:
                has += await hear(again, 1 + count % 2 if count + 2 <= driver.feed.end else 1)
            await again.leave()
            await gather(up, run_id, cursor_of(frames_in(has)[-1]), answers)
    for answer in answers:
        assert answer.status == (204 if has.endswith(DONE) else 200)
    return [has + answer.body for answer in answers]


async def cut_everywhere(up: Stack, way: str) -> tuple[int, set[str]]:
    """Cut a run of its own after each frame; return how many there were, and which kinds of frames."""
    whole = (await (await detached(up)).answer()).frames
    at, seen = 0, set(kinds(whole))
    while True:
        at += 1
        first = await detached(up)
        has = await hear(first, at)
        driver = up.driver(first)
        await first.leave()
        bodies = await come_back(up, driver, has, at, way)
        log = driver.feed.frames
        assert bodies == [b"".join(log)] * len(bodies), (way, at)
        frames = [data_of(frame) for frame in frames_in(bodies[0])]
        assert text_of(frames) == text_of(whole), (way, at)
        assert [frame for frame in frames if "error" in frame or "done" in frame] == frames[-1:] == whole[-1:]
        gone = await up.get(driver.run.run_id, cursor_of(log[-1]))
        assert (gone.status, gone.body) == (204, b"")
        if at == len(log):
            return at, seen


@pytest.mark.sweep
@pytest.mark.parametrize(("dialect", "way"), list(product(DIALECTS, WAYS)))
def test_a_detached_run_is_read_on_from_every_event(dialect: str, way: str, note: Callable[[str], None]) -> None:
    count = 0
    seen: set[str] = set()

    async def main(replies: list[Reply]) -> None:
        nonlocal count, seen
        async with stack(replaying(replies), dialect=dialect, tools=digging, run=PATIENT) as up:
            cuts, found = await cut_everywhere(up, way)
            assert cuts >= 5
            count, seen = count + cuts, seen | found

    for replies in scenarios(dialect).values():
        virtually(lambda replies=list(replies): main(replies))  # type: ignore[misc]
    assert count >= FLOOR
    there_are = {next(iter(frame.__struct_fields__)) for frame in FRAMES} - {"gap", "trace"}
    never = {"openai_chat": {"provider_tool"}, "openai_responses": set[str](), "anthropic": {"refusal"}}
    assert seen == there_are - never[dialect]
    note(f"resume of detached runs: {count} cuts ({dialect}, {way})")


# --- without detach

SOUND = ("plain", "reasoning", "one tool", "parallel tools", "steps", "long")  # what does not fail by itself


@pytest.mark.sweep
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_cancelled_run_is_read_on_to_its_terminal_from_every_event(dialect: str, note: Callable[[str], None]) -> None:
    """Whoever leaves after any frame finds, behind each cursor, the exact rest and how the run ended."""
    count = 0

    async def main(replies: list[Reply]) -> None:
        nonlocal count
        async with stack(replaying(replies), dialect=dialect, tools=digging) as up:
            whole = len(frames_in((await up.ask()).body))
            for at in range(1, whole, 3):
                first = await up.chat()
                has = await hear(first, at)
                driver = up.driver(first)
                await first.leave()
                log = list(driver.feed.frames)
                assert b"".join(log).startswith(has)
                for after in range(1, len(log) + 1):
                    answer = await up.get(driver.run.run_id, cursor_of(log[after - 1]))
                    assert answer.body == b"".join(log[after:])
                    assert answer.status == (200 if after < len(log) else 204)
                    count += 1
                if driver.run.step and "done" not in data_of(log[-1]) and len(log) < whole:
                    assert data_of(log[-1])["error"] == {"code": "CANCELLED", "message": "The client disconnected."}
                assert up.transport.active == 0

    for name, replies in scenarios(dialect).items():
        if name in SOUND:
            virtually(lambda replies=list(replies): main(replies))  # type: ignore[misc]
    assert count >= 300
    note(f"resume of cancelled runs: {count} cursors ({dialect})")


@pytest.mark.parametrize("policy", ["cancel", "detach"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_follows_the_head_is_told_by_frames_and_never_by_a_status(policy: str, after: int) -> None:
    """The provider is silent until the head has gone out, and then the first thing to say is an error. Who comes back
    knows the run: it gets the rest of the log.
    """

    async def main() -> None:
        replies: list[Reply] = [[Stall()]] if policy == "cancel" else [[Pause(5), Status(500)]]
        async with stack(replies, run=PATIENT) as up:
            first = await up.chat(on_disconnect=policy)
            log = frames_in(await hear(first, 2))
            assert trio.current_time() == pytest.approx(2)
            driver = up.driver(first)
            await first.leave()
            await up.service.runs.wait_none()
            answer = await up.get(driver.run.run_id, cursor_of(log[after - 1]) if after else "")
            assert answer.status == 200
            assert b"".join(log[:after]) + answer.body == b"".join(driver.feed.frames)
            code = "CANCELLED" if policy == "cancel" else "UPSTREAM_ERROR"
            assert answer.frames[-1]["error"]["code"] == code

    virtually(main)


def test_who_comes_back_to_a_silent_run_gets_its_headers_at_once() -> None:
    async def main() -> None:
        async with stack([[Pause(10), Say("At last.")]], run=PATIENT) as up:
            first = await detached(up)
            has = await hear(first, 2)
            await first.leave()
            again = await (await events(up, first.run_id, cursor_of(frames_in(has)[-1]))).head()
            assert again.status == 200
            assert trio.current_time() == pytest.approx(2)
            assert text_of((await again.answer()).frames) == "At last."

    virtually(main)


# --- what is not there


@pytest.mark.once
def test_a_thousand_guesses_are_answered_alike() -> None:
    """Ids that nobody was given: the same bytes for each, whatever is near them, and none of any run's."""

    async def main() -> None:
        async with stack([[Say("Secret "), Stall()], [Say("Secret.")]], run=PATIENT) as up:
            live = await detached(up)
            await live.until(b"Secret")
            run_id = live.run_id
            ended = (await up.ask()).header("Run-Id") or ""
            answers = set()
            for number in range(250):
                near = f"{int(run_id, 16) ^ 1 << number % 128:032x}"
                for guess in (near, f"{number:032x}", ended[: number % 32], f"{run_id}{number}"):
                    after = "" if number % 2 else cursor_of(frames_in(b"".join(live.writes))[-1])
                    answer = await up.get(guess or "x", after)
                    answers.add((answer.status, answer.body, tuple(sorted(answer.headers))))
                    assert (await up.delete(guess or "x")).status == 404
            ((status, body, _),) = answers
            assert status == 404
            assert b"Secret" not in body
            assert up.driver(live).run.terminal is None, "nobody stopped it"
            await up.delete(run_id)
            await live.answer()

    virtually(main)


def test_case_59_a_cursor_of_one_run_is_refused_by_another() -> None:
    """Also of the same text under the same number, also after a restart, when numbers begin anew."""

    async def main() -> None:
        epochs: set[str] = set()
        cursors: list[str] = []
        for _ in range(3):  # a restart is another service: nothing is kept
            async with stack(lambda _: [Say("one two three")], run=PATIENT) as up:
                bodies = [await up.ask() for _ in range(3)]
                for answer in bodies:
                    run_id, frames = answer.header("Run-Id") or "", frames_in(answer.body)
                    for cursor in cursors:
                        refused = await up.get(run_id, cursor)
                        assert (refused.status, refused.error["field"]) == (404, "Last-Event-ID")
                        assert b"one" not in refused.body
                    epochs.add(cursor_of(frames[0]).rpartition("-")[0])
                    cursors += [cursor_of(frame) for frame in frames]
        assert len(epochs) == 9

    virtually(main)


def test_case_57_case_58_who_rejoins_an_ended_run_gets_the_missed_tail_and_then_the_end() -> None:
    """At once, from each cursor, without waiting, heartbeats or anything in front of the tail."""

    async def main() -> None:
        async with stack([[Say("one two three", rate=SLOW)]], run=PATIENT) as up:
            first = await detached(up)
            await hear(first, 3)
            await first.leave()
            await up.service.runs.wait_none()
            await trio.sleep(100)  # long enough for heartbeats
            at, log = trio.current_time(), up.driver(first).feed.frames
            for after in range(1, len(log)):
                answer = await up.get(first.run_id, cursor_of(log[after - 1]))
                assert answer.body == b"".join(log[after:])
            assert trio.current_time() == at, "the tail does not wait"

    virtually(main)


def test_case_56_a_replay_repeats_nothing() -> None:
    """Ids are the same in each reading, so that a client that has a frame knows it."""

    async def main() -> None:
        async with stack([[Say("one two three", rate=SLOW), Pause(1)]], run=PATIENT) as up:
            first = await detached(up)
            readers = [first]
            for _ in range(3):
                readers.append(await events(up, (await first.head()).run_id))
                await trio.sleep(1)
            logs = {b"".join((await reader.answer()).writes) for reader in readers}
            assert logs == {b"".join(up.driver(first).feed.frames)}

    virtually(main)


def test_a_run_is_read_by_many_at_once_who_come_and_go() -> None:
    async def main() -> None:
        async with stack([[Say("word " * 40, rate=SLOW)]], run=PATIENT) as up:
            first = await detached(up)
            await first.head()
            bodies: list[bytes] = []

            async def hop(every: int) -> None:
                has = b""
                while not has.endswith(DONE):
                    exchange = await events(up, first.run_id, cursor_of(frames_in(has)[-1]) if has else "")
                    has += await hear(exchange, every if len(frames_in(has)) + every < 40 else 1)
                    await exchange.leave()
                bodies.append(has)

            async with trio.open_nursery() as nursery:
                for every in (1, 2, 3, 5):
                    nursery.start_soon(hop, every)
            await first.leave()
            assert bodies == [b"".join(up.driver(first).feed.frames)] * 4
            assert text_of(read_frames(bodies[0])) == "word " * 40

    virtually(main)
