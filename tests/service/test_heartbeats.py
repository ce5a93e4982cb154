"""Heartbeats: whoever reads a run hears something every 15 s, whatever the run does, so that no proxy cuts the line."""

from itertools import pairwise, product

import pytest
import trio
import trio.testing

from sluicegate.machine.deltas import ReasoningDelta, SignatureDelta
from sluicegate.providers.script import Call, Pause, Reply, Say, Stall
from sluicegate.runtime.feed import Feed, ReaderState
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.ports import Verdict
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry

from .harness import DIALECTS, DONE, LINKS, Answer, Exchange, eventually, over, read_frames, stack, text_of, virtually
from .resuming import HEARTBEAT, PATIENT, cursor_of, detached, events, frames_in, hear, replaying
from .test_feed import Plain, words
from .test_push import Faithless

EVERY = 15.0
LONG = 100.0  # a silence


@tool(timeout=1_000)
async def ponder() -> str:
    """Take a long time without a word."""
    await trio.sleep(LONG)
    return "pondered"


pondering = Registry([ponder])
SILENCES: dict[str, list[Reply]] = {
    "before the first word": [[Pause(LONG), Say("At last.")]],
    "in the text": [[Say("Well "), Pause(LONG), Say("then.")]],
    "in a tool": [[Call("ponder")], [Say("So.")]],
    "between steps": [[Call("ponder")], [Pause(LONG), Say("So.")]],
    "in reasoning": [[ReasoningDelta("Hm. "), Pause(LONG), Say("So.")]],
    "in arguments": [[Call("ponder", "", "c"), Pause(LONG)], [Say("So.")]],
}


def check_beats(answer: Answer, begin: float, every: float = EVERY) -> list[dict[str, object]]:
    """Check that no silence was longer than `every`; return the frames. A heartbeat is a write of its own."""
    assert all(HEARTBEAT not in write or write == HEARTBEAT for write in answer.writes)
    times = [begin, *answer.times]
    assert max(after - before for before, after in pairwise(times)) <= every + 1e-6
    body = b"".join(write for write in answer.writes if write != HEARTBEAT)
    assert body.endswith(DONE)
    return read_frames(body)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("silence", SILENCES)
def test_case_65_no_silence_is_longer_than_15_seconds(silence: str, dialect: str) -> None:
    async def main() -> None:
        async with stack(replaying(SILENCES[silence]), dialect=dialect, tools=pondering) as up:
            answer = await up.ask()
            frames = check_beats(answer, 2.0 if silence == "before the first word" else 0.0)
            assert "done" in frames[-1], frames[-1]
            assert text_of(frames) in ("At last.", "Well then.", "So.")
            beats = answer.writes.count(HEARTBEAT)
            assert beats == answer.times[-1] // EVERY or beats == int(LONG / EVERY) * round(answer.times[-1] / LONG)
            log = frames_in(answer.body)
            assert (await up.get(answer.header("Run-Id") or "")).body == b"".join(log), "the log has no heartbeats"

    virtually(main)


@pytest.mark.parametrize("pause", [1.0, 10.0, 14.9])
def test_there_are_none_while_frames_flow(pause: float) -> None:
    async def main() -> None:
        async with stack([[Say("one two three four five six seven eight nine ten", rate=1 / pause)]]) as up:
            answer = await up.ask()
            assert answer.writes.count(HEARTBEAT) == 0
            assert answer.times[-1] == pytest.approx(10 * pause)

    virtually(main)


@pytest.mark.parametrize("every", [1.0, 5.0, 60.0])
def test_how_often_is_an_option(every: float) -> None:
    async def main() -> None:
        async with stack([[Say("Well "), Pause(LONG), Say("then.")]], run=RunOptions(heartbeat_seconds=every)) as up:
            answer = await up.ask()
            check_beats(answer, 0, every)
            assert answer.writes.count(HEARTBEAT) in (LONG // every, LONG // every - 1)

    virtually(main)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_provider_says_without_a_frame_is_silence_too(dialect: str) -> None:
    """Just before a heartbeat would be due something comes that no reader hears of."""

    async def main() -> None:
        reply: Reply = [ReasoningDelta("Hm."), Pause(14), SignatureDelta("s"), Pause(14), Say("So."), Pause(1)]
        async with stack([reply], dialect=dialect) as up:
            assert text_of(check_beats(await up.ask(), 0)) == "So."

    virtually(main)


def test_case_65_a_block_that_has_only_begun_is_silence_too() -> None:
    """Anthropic opens its block long before the first word of it."""
    message = b'{"id":"m","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":1}}'
    begin = b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n' % message
    block = (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
    )
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'

    async def main() -> None:
        reply: Reply = [begin, Pause(14), block, Pause(14), ping, Pause(14), Stall()]
        async with stack([reply], dialect="anthropic", run=PATIENT) as up:
            exchange = await detached(up)
            await exchange.head()
            with trio.move_on_after(50):
                while await exchange.next():
                    pass
            await up.delete(exchange.run_id)
            check_beats(await exchange.answer(), 2)

    virtually(main)


@pytest.mark.parametrize("joined", [1.0, 14.0, 15.0, 40.0])
def test_who_joins_a_silent_run_hears_them_too(joined: float) -> None:
    async def main() -> None:
        async with stack([[Say("Well "), Pause(LONG), Say("then.")]], run=PATIENT) as up:
            first = await detached(up)
            has = await hear(first, 3)
            await first.leave()
            await trio.sleep(joined)
            cursor = cursor_of(frames_in(has)[-1])
            both = [await events(up, first.run_id, after) for after in ("", cursor)]
            for exchange in both:
                await exchange.head()
            answers: list[Answer] = []

            async def read(exchange: Exchange) -> None:
                answers.append(await exchange.answer())

            async with trio.open_nursery() as nursery:
                for exchange in both:
                    nursery.start_soon(read, exchange)
            for answer in answers:
                check_beats(answer, joined)

    virtually(main)


def test_they_end_with_the_run() -> None:
    async def main() -> None:
        async with stack([[Say("Done.")]], run=PATIENT) as up:
            exchange = await up.chat(buffer=0)
            await exchange.head()
            await trio.sleep(10 * EVERY)
            assert HEARTBEAT not in (await exchange.answer()).writes

    virtually(main)


def test_a_reader_that_does_not_read_piles_up_none() -> None:
    async def main() -> None:
        async with stack([[Say("Well "), Pause(LONG), Say("then.")]]) as up:
            exchange = await up.chat(buffer=0)
            await exchange.head()
            await trio.sleep(LONG + 1)
            assert (await exchange.answer()).writes.count(HEARTBEAT) <= 1

    virtually(main)


@LINKS
def test_they_reach_the_client_through_the_server(socket: bool) -> None:
    every = 0.02 if socket else 15.0

    async def main() -> None:
        async with stack([[Say("Well "), Stall()]], socket=socket, run=RunOptions(heartbeat_seconds=every)) as up:
            exchange = await up.chat()
            while exchange.writes.count(HEARTBEAT) < 5:
                assert await exchange.next()
            await exchange.leave()
            await up.service.runs.wait_none()
            if socket:
                await eventually(lambda: up.transport.active == 0)

    over(socket, main)


VERDICTS: tuple[Verdict, ...] = ("accepted", "full", "gone")


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("verdicts", list(product(VERDICTS, repeat=3)))
def test_a_heartbeat_and_a_sink(verdicts: tuple[Verdict, ...], ready: bool) -> None:
    """Whatever the sink says to heartbeats and frames, what leaves is the log, with whole heartbeats between frames."""

    async def main() -> None:
        feed, sink = Feed(Plain(), 1_000), Faithless(verdicts, ready)
        feed.publish(words("first"))
        reader = feed.attach(0, sink)
        got: list[bytes] = sink.writes
        seen: set[ReaderState] = set()

        async def follow() -> None:
            while (data := await reader.next()) is not None:
                assert not sink.kept, "overtook what the sink keeps"
                got.append(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            for step in ("beat", "words", "beat", "beat", "words"):
                await trio.testing.wait_all_tasks_blocked()
                seen.add(reader.state)
                if step == "beat":
                    feed.beat()
                else:
                    feed.publish(words(f"<{feed.end}>"))
            await trio.testing.wait_all_tasks_blocked()
            reader.close()
        assert [piece for piece in got if piece != HEARTBEAT] == [b"first", b"<1>", b"<2>"]
        assert got.count(HEARTBEAT) == 3 or (ready and "gone" in verdicts)
        assert seen <= {ReaderState.PUSHED, ReaderState.WAITING, ReaderState.BUSY}

    virtually(main)
