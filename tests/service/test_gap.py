"""A log that outgrew its room: who comes late gets one `gap` frame, which stands for all that is gone, and the rest."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from sluicegate.machine.events import Event, PartDelta, PartKind
from sluicegate.providers.script import Call, Reply, Say
from sluicegate.runtime.feed import Feed
from sluicegate.runtime.options import RunOptions
from sluicegate.service import factory
from sluicegate.wire.downstream.native import NativeEncoder

from .harness import DIALECTS, DONE, JSON, read_frames, stack, text_of, virtually
from .resuming import cursor_of, data_of, detached, digging, frames_in, hear, replaying, scenarios
from .test_feed import drain

SIZES = (1, 100, 300, 700, 1_500)  # of logs, in bytes


def fold(frames: Sequence[bytes]) -> dict[str, Any]:
    """What frames come to, said as plainly as possible."""
    answer: dict[str, Any] = {"run": None, "step": 0, "parts": [], "end": None}
    for frame in frames:
        add(answer, data_of(frame))
    return answer


def add(answer: dict[str, Any], frame: dict[str, Any]) -> None:
    parts = answer["parts"]
    (key, value), *_ = frame.items()
    match key:
        case "run" | "step":
            answer[key] = value
        case "done" | "error":
            answer["end"] = frame
        case "gap":
            answer |= {"run": value.get("run"), "step": value.get("step", 0), "parts": value["parts"]}
        case "content" | "reasoning" | "refusal":
            kind = "text" if key == "content" else key
            if not parts or parts[-1]["type"] != kind:
                parts.append({"type": kind, "text": ""})
            parts[-1]["text"] += value
        case "citation":
            parts.append({"type": "citation", "citation": value})
        case "provider_tool":
            parts.append({"type": "provider_tool", "name": value["name"]})
        case "tool_call" if value.keys() == {"id", "name"}:
            parts.append({"type": "tool_call", **value})
        case "tool_call" if "delta" in value:
            call = latest(parts, value["id"])
            call["delta"] = call.get("delta", "") + value["delta"]
        case "tool_call":
            call = latest(parts, value["id"])
            call |= value
            if "arguments" in value:
                call.pop("delta", None)
        case "tool_calls":
            pass  # says nothing that the calls do not say
        case "activity":
            latest(parts, frame["call_id"])["activity"] = value
        case "tool_progress":
            latest(parts, value["id"])["progress"] = value["data"]
        case "tool_result":
            latest(parts, value["id"])["result"] = {k: v for k, v in value.items() if k in ("content", "is_error")}
        case _:
            raise AssertionError(frame)


def latest(parts: list[dict[str, Any]], call_id: str) -> dict[str, Any]:
    return next(part for part in reversed(parts) if part["type"] == "tool_call" and part["id"] == call_id)


def check_gap(gap: bytes, whole: Sequence[bytes], after: int, base: int) -> None:
    """`gap` is valid and stands for the first `base` frames of `whole`, for who had `after`."""
    assert cursor_of(gap) == cursor_of(whole[base - 1]), "who stops behind it goes on from there"
    frame = read_frames(gap)[0] if after == base - 1 else data_of(gap)  # once each: the schema is slow
    assert (frame["gap"]["after"], frame["gap"]["until"]) == (after, base)
    assert fold([*whole[:after], gap]) == fold(whole[:base])


class Recorded:
    """The events and frames of the runs of a test."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.events: list[Event] = []
        self.frames: list[bytes] = []
        seen = self

        class Recording(NativeEncoder):
            def frames(self, event: Event) -> list[bytes]:
                frames = super().frames(event)
                seen.events.append(event)
                seen.frames += frames
                return frames

        patch.setattr(factory, "NativeEncoder", Recording)


def record(patch: pytest.MonkeyPatch, replies: Sequence[Reply], dialect: str) -> list[Event]:
    """Return the events of a run of `replies`."""
    seen = Recorded(patch)

    async def main() -> None:
        async with stack(replaying(replies), dialect=dialect, tools=digging) as up:
            await up.ask()

    virtually(main)
    return seen.events


@pytest.mark.sweep
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_gap_takes_the_place_of_all_that_is_gone(
    dialect: str, monkeypatch: pytest.MonkeyPatch, note: Callable[[str], None]
) -> None:
    """After each event and from each cursor, with logs of five sizes: what a reader had, replaced by the gap's parts,
    and the tail behind it come to the same as the whole log.
    """
    gaps = cursors = 0

    async def check(events: list[Event], log_bytes: int) -> None:
        nonlocal gaps, cursors
        whole: list[bytes] = []
        encoder, twin = NativeEncoder("abc"), NativeEncoder("abc")
        feed = Feed(encoder, 10**9, log_bytes)
        base = 0
        for event in events:
            feed.publish([event])
            whole += twin.frames(event)
            assert feed.frames == whole[feed.base :]
            assert feed.end == len(whole)
            if feed.base > base:
                base = feed.base
                for after in {0, base // 2, base - 1}:
                    check_gap(feed.gap(after), whole, after, base)
                    gaps += 1
        kept = sum(map(len, feed.frames))
        assert kept <= max(log_bytes, len(whole[-1]))
        assert feed.held >= kept
        for after in range(len(whole) + 1):
            reader = feed.attach(after)
            got = frames_in(b"".join(await drain(reader)))
            reader.close()
            if after < base:
                check_gap(got[0], whole, after, base)
                assert got[1:] == whole[base:]
            else:
                assert got == whole[after:]
            assert fold([*whole[:after], *got]) == fold(whole)
            cursors += 1

    for replies in scenarios(dialect).values():
        with monkeypatch.context() as patch:
            events = record(patch, replies, dialect)
        for log_bytes in SIZES:
            virtually(lambda events=events, log_bytes=log_bytes: check(events, log_bytes))  # type: ignore[misc]
    assert gaps >= 500
    assert cursors >= 650
    note(f"gap: {gaps} in growing logs, {cursors} cursors of ended ones ({dialect})")


LONG: list[Reply] = [
    [Say("Let me see. " * 10, rate=10), Call("dig", {"seconds": 3}, "again"), Call("dig", {"seconds": 2}, "other")],
    [Call("dig", {"seconds": 1}, "again")],
    [Say("That was it. " * 40, rate=10)],
]


@pytest.mark.parametrize("log_bytes", [1, 500, 2_000, 4_000])
def test_who_comes_late_gets_one_gap_and_the_exact_tail(log_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the service: from each cursor of an ended run, and by who comes back in its middle."""
    seen = Recorded(monkeypatch)

    async def main() -> None:
        async with stack(replaying(LONG), tools=digging, run=RunOptions(log_bytes=log_bytes)) as up:
            first = await detached(up)
            await hear(first, 20)
            await first.leave()
            driver = up.driver(first)
            run_id = driver.run.run_id
            await trio.sleep(3)
            assert driver.run.terminal is None
            base, live = driver.feed.base, len(seen.frames)
            back = await up.get(run_id, cursor_of(seen.frames[3]))
            got = frames_in(back.body)
            if base > 4:
                check_gap(got[0], seen.frames[:live], 4, base)
            assert back.body.endswith(DONE)
            assert fold([*seen.frames[:4], *got]) == fold(seen.frames)
            whole, base = list(seen.frames), driver.feed.base
            assert 0 < base < len(whole)
            for after in range(len(whole)):
                answer = await up.get(run_id, cursor_of(whole[after - 1]) if after else "")
                got = frames_in(answer.body)
                gaps = [frame for frame in got if "gap" in data_of(frame)]
                assert gaps == (got[:1] if after < base else [])
                assert got[len(gaps) :] == whole[max(after, base) :]
                if gaps:
                    check_gap(got[0], whole, after, base)
            assert (await up.get(run_id, cursor_of(whole[-1]))).status == 204

    virtually(main)


def test_a_live_reader_that_lags_too_far_gets_a_gap_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is smaller than the room here: what is gone while a client does not read comes as a gap."""
    seen = Recorded(monkeypatch)
    text = "word " * 4_000

    async def main() -> None:
        async with stack([[Say(text, words=10)]], run=RunOptions(log_bytes=20_000, log_room=100_000)) as up:
            body = b'{"messages":[{"role":"user","content":"Hi"}]}'
            exchange = await up.open("POST", "/chat", body, JSON, buffer=0)
            await exchange.next()
            await trio.testing.wait_all_tasks_blocked()
            answer = await exchange.answer()
            got = frames_in(answer.body)
            (at,) = [at for at, frame in enumerate(got) if "gap" in data_of(frame)]
            assert got[:at] == seen.frames[:at]
            gap = data_of(got[at])["gap"]
            check_gap(got[at], seen.frames, at, gap["until"])
            assert got[at + 1 :] == seen.frames[gap["until"] :]
            assert text_of([data_of(frame) for frame in seen.frames]) == text
            assert fold(got)["parts"] == [{"type": "text", "text": text}]

    virtually(main)


# --- bounds


@pytest.mark.parametrize("size", [1, 7, 100, 3_000])
@pytest.mark.parametrize("letter", ["a", "é", "😀", '"'])
def test_case_69_a_log_is_bounded_in_bytes_however_its_frames_are_cut(size: int, letter: str) -> None:
    limit = 50_000
    feed = Feed(NativeEncoder("abc"), 10**9, limit)
    most = 0
    for number in range(100_000 // (size * len(letter.encode()) + 25)):
        feed.publish([PartDelta(0, PartKind.TEXT, letter * size)])
        if number % 97 == 0 or size > 1_000:
            most = max(most, kept := sum(map(len, feed.frames)))
            assert kept <= limit
            assert feed.held >= kept
    assert feed.base > 0
    assert most > limit - 20_000
    gone = sum(len(data_of(frame)["content"].encode()) for frame in feed.frames)
    said = len(letter.encode()) * size * feed.end
    assert feed.held >= sum(map(len, feed.frames)) + said - gone, "what is folded counts too, in bytes"


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
def test_case_69_kept_runs_are_bounded_in_bytes_however_long_they_are(letter: str) -> None:
    """Some long runs or many short ones, of whatever letters: the same bytes; also what a gap stands for counts."""
    limit = 100_000

    async def main() -> None:
        for size in (400, 40_000):
            said = letter * (size // len(letter.encode()))
            async with stack(
                lambda _, said=said: [Say(said)],  # type: ignore[misc]
                run=RunOptions(kept_bytes=limit, kept_runs=10**6, log_bytes=2_000),
            ) as up:
                drivers = []
                for _ in range(2 * limit // (size + 300) + 5):
                    exchange = await up.chat()
                    await exchange.head()
                    drivers.append(up.driver(exchange))
                    await exchange.answer()
                await up.service.runs.wait_none()
                kept = [driver for driver in drivers if up.service.runs.get(driver.run.run_id) is not None]
                assert kept == drivers[-len(kept) :], "the oldest go first"
                held = sum(driver.feed.held for driver in kept)
                assert sum(max(driver.feed.held, len(said.encode())) for driver in kept) <= limit
                assert held + drivers[0].feed.held > limit, "no earlier than need be"

    virtually(main)


@pytest.mark.parametrize("seconds", [10.0, 300.0])
def test_kept_runs_are_bounded_in_age(seconds: float) -> None:
    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")], run=RunOptions(kept_seconds=seconds)) as up:
            ids = []
            for _ in range(5):
                ids.append((await up.ask()).header("Run-Id") or "")
                await trio.sleep(seconds / 10)
            for gone in range(1, 5):
                await trio.sleep_until(seconds * (9 + gone) / 10 + 0.1)
                assert [(await up.get(run_id)).status for run_id in ids] == [404] * gone + [200] * (5 - gone)
                await trio.sleep_until(seconds * (10 + gone) / 10 - 0.001)
                assert (await up.get(ids[gone])).status == 200
            await trio.sleep(seconds)
            assert [(await up.get(run_id)).status for run_id in ids] == [404] * 5

    virtually(main)


def test_who_reads_a_run_that_is_forgotten_meanwhile_gets_it_to_the_end() -> None:
    async def main() -> None:
        async with stack([[Say("word " * 20_000, words=0)]], run=RunOptions(kept_seconds=5)) as up:
            whole = await up.ask()
            run_id = whole.header("Run-Id") or ""
            slow = await up.open("GET", f"/runs/{run_id}/events", buffer=0)
            await slow.next()
            await trio.sleep(10)
            assert (await up.get(run_id)).status == 404
            assert (await slow.answer()).body == whole.body
            assert whole.body.endswith(DONE)

    virtually(main)
