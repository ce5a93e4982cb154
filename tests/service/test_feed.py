"""The event log of a run: what a reader gets is the log from its place on, however reads and writes interleave."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.machine.deltas import FinishReason, Usage
from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.events import Event, PartDelta, PartKind, RunDone, RunFailed
from sluicegate.runtime.feed import MAX_WRITE, Feed, FeedState, Reader

from .harness import virtually

TERMINAL = RunDone(FinishReason.STOP, "stop", Usage())
ROOM = 1_000


class Plain:
    """An encoder that any size can be had of: a text is a frame, a terminal two."""

    epoch = "e"

    def frames(self, event: Event) -> list[bytes]:
        return [event.text.encode()] if isinstance(event, PartDelta) else [b"<end>", b"<done>"]

    def note_cost(self, cost: float | None) -> None:
        """It tells nobody."""

    def fold(self, frames: Sequence[bytes]) -> int:
        self.folded = getattr(self, "folded", b"") + b"".join(frames)
        return len(self.folded)

    def gap(self, after: int, until: int) -> bytes:
        return b"<gap %d %d>" % (after, until)


def words(*texts: str) -> list[Event]:
    return [PartDelta(0, PartKind.TEXT, text) for text in texts]


def feed_of(sizes: Sequence[int], room: int = ROOM) -> Feed:
    feed = Feed(Plain(), room)
    feed.publish(words(*(chr(97 + index % 26) * size for index, size in enumerate(sizes))))
    return feed


async def drain(reader: Reader) -> list[bytes]:
    writes = []
    while (data := await reader.next()) is not None:
        writes.append(data)
    return writes


sizes = st.lists(st.one_of(st.integers(1, 400), st.sampled_from([MAX_WRITE - 1, MAX_WRITE, MAX_WRITE + 1, 9_000])),
                 max_size=40)  # fmt: skip


@given(sizes=sizes)
@settings(max_examples=60, deadline=None)
def test_replay_is_the_log_from_every_place(sizes: list[int]) -> None:
    """replay(log, i) == log[i:], in writes of whole frames and at most MAX_WRITE bytes, as few as that allows."""

    async def main() -> None:
        feed = feed_of(sizes)
        feed.publish([TERMINAL])
        log = list(feed.frames)
        assert feed.size == sum(map(len, log))
        for after in range(len(log) + 1):
            reader = feed.attach(after)
            assert reader.taken == sum(map(len, log[:after]))
            writes = await drain(reader)
            assert b"".join(writes) == b"".join(log[after:])
            at = after
            for write in writes:
                end = at + 1
                while b"".join(log[at:end]) != write:
                    end += 1
                    assert end <= len(log), "not whole frames"
                assert len(write) <= MAX_WRITE or end == at + 1
                assert end == len(log) or len(write) + len(log[end]) > MAX_WRITE, "there was room for one more"
                at = end
            assert (reader.at, reader.taken) == (len(log), feed.size)
            reader.close()
        assert feed.readers == []

    virtually(main)


@pytest.mark.parametrize("terminal", [TERMINAL, RunFailed(RunError(ErrorCode.CANCELLED, "m"), Usage())])
def test_nothing_follows_the_terminal(terminal: Event) -> None:
    feed = feed_of([3])
    feed.publish([*words("before"), terminal, *words("after"), terminal])
    assert feed.state is FeedState.ENDED
    log = list(feed.frames)
    assert log == [b"aaa", b"before", b"<end>", b"<done>"]
    feed.publish(words("later"))
    feed.publish([terminal])
    assert feed.frames == log
    assert feed.size == sum(map(len, log))


def test_a_cancelled_read_takes_nothing() -> None:
    async def main() -> None:
        feed = feed_of([])
        reader = feed.attach()
        with trio.move_on_after(1) as scope:
            await reader.next()
        assert scope.cancelled_caught
        assert (reader.at, reader.taken) == (0, 0)
        feed.publish(words("kept"))
        assert await reader.next() == b"kept"

    virtually(main)


def test_a_read_of_what_is_there_does_not_wait_for_more() -> None:
    async def main() -> None:
        feed = feed_of([1, 2])
        reader = feed.attach(1)
        with trio.fail_after(0.001):
            assert await reader.next() == b"bb"

    virtually(main)


# --- wake-ups, by enumeration: what one task does between another's checkpoints

Op = Callable[[Feed], list[bytes]]
STEPS = ("small", "large", "nothing", "checkpoint", "cancel")


def test_no_reader_sleeps_through_a_publish() -> None:
    """All sequences of five steps: two readers that follow live, one of them torn from its wait now and then."""

    async def follow(feed: Feed, got: list[bytes], scopes: list[trio.CancelScope]) -> None:
        reader = feed.attach()
        while True:
            with trio.CancelScope() as scopes[0]:
                data = await reader.next()
                if data is None:
                    return
                got.append(data)

    async def play(steps: tuple[str, ...]) -> None:
        feed = Feed(Plain(), ROOM)
        got: list[list[bytes]] = [[], []]
        scopes = [[trio.CancelScope()], [trio.CancelScope()]]
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                for index in range(2):
                    nursery.start_soon(follow, feed, got[index], scopes[index])
                for number, step in enumerate(steps):
                    match step:
                        case "small":
                            feed.publish(words(f"<{number}>"))
                        case "large":
                            feed.publish(words(f"<{number}" + "x" * MAX_WRITE, "y"))
                        case "nothing":
                            feed.publish([])
                        case "checkpoint":
                            await trio.testing.wait_all_tasks_blocked()
                        case _:
                            scopes[0][0].cancel()
                            await trio.lowlevel.checkpoint()
                feed.publish([TERMINAL])
        log = b"".join(feed.frames)
        assert [b"".join(pieces) for pieces in got] == [log, log], steps

    async def main() -> None:
        for steps in product(STEPS, repeat=4):
            await play(steps)

    virtually(main)


PACES = ("steady", "late", "leaves", "cancelled")


@pytest.mark.parametrize("frame", [1, ROOM // 2, ROOM, 3 * ROOM])
def test_no_writer_sleeps_through_room(frame: int) -> None:
    """Whatever three readers do, the writer ends, and never gets further ahead of one than `room` and one write."""

    async def read(feed: Feed, pace: str, got: list[bytes]) -> None:
        reader = feed.attach()
        count = 0
        while True:
            with trio.CancelScope() as scope:
                if pace == "cancelled" and count % 2 == 0:
                    scope.cancel()
                if pace == "late":
                    await trio.sleep(0.1)
                data = await reader.next()
                if data is None:
                    break
                assert feed.size - reader.taken + len(data) <= ROOM + 2 * frame + len(b"<end><done>")
                got.append(data)
            count += 1
            if pace == "leaves" and count == 3:
                break
            await trio.lowlevel.checkpoint()
        reader.close()

    async def play(paces: tuple[str, ...]) -> None:
        feed = Feed(Plain(), ROOM)
        got: list[list[bytes]] = [[] for _ in paces]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for pace, pieces in zip(paces, got, strict=True):
                    nursery.start_soon(read, feed, pace, pieces)
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(12):
                    await feed.wait_room()
                    feed.publish(words("x" * frame, "y" * frame))
                feed.publish([TERMINAL])
        log = b"".join(feed.frames)
        for pace, pieces in zip(paces, got, strict=True):
            said = b"".join(pieces)
            assert said == log or (pace == "leaves" and log.startswith(said)), paces

    async def main() -> None:
        for paces in product(PACES, repeat=3):
            await play(paces)

    virtually(main)


def test_only_the_slowest_reader_counts_and_only_while_it_is_there() -> None:
    async def main() -> None:
        feed = Feed(Plain(), ROOM)
        await feed.wait_room()
        feed.publish(words("x" * 10 * ROOM))
        await feed.wait_room()  # nobody reads, nobody waits
        slow, fast = feed.attach(), feed.attach()
        await fast.next()

        async def is_full() -> bool:
            with trio.move_on_after(1) as scope:
                await feed.wait_room()
            return scope.cancelled_caught

        assert await is_full()
        assert feed.attach(1).taken == feed.size
        assert await is_full(), "another reader changes nothing for the slow one"
        async with trio.open_nursery() as nursery:
            with trio.fail_after(1):
                nursery.start_soon(feed.wait_room)
                await trio.testing.wait_all_tasks_blocked()
                slow.close()
        assert not await is_full()

    virtually(main)


def test_room_is_counted_in_bytes_up_to_the_last_one() -> None:
    async def main() -> None:
        feed = Feed(Plain(), ROOM)
        feed.attach()
        feed.publish(words("x" * ROOM))
        await feed.wait_room()
        feed.publish(words("x"))
        with trio.move_on_after(1) as scope:
            await feed.wait_room()
        assert scope.cancelled_caught

    virtually(main)


async def test_an_attached_reader_is_released_by_name_not_by_place() -> None:
    feed = feed_of([1])
    first, second = feed.attach(), feed.attach()
    first.close()
    assert feed.readers == [second]
    assert await second.next() == b"a"
    first.close()
    assert feed.readers == [second]
    second.close()
    assert feed.readers == []
    assert await second.next() is None
