"""Frames pushed into a reader's sink: whatever the sink says, what leaves is the log, once and in order."""

from collections.abc import Callable
from itertools import product

import pytest
import trio
import trio.testing

from sluicegate.runtime.feed import MAX_WRITE, Feed, FeedState, ReaderState
from sluicegate.runtime.ports import Verdict

from .harness import virtually
from .test_feed import ROOM, TERMINAL, Plain, words

VERDICTS: tuple[Verdict, ...] = ("accepted", "full", "gone")
STEPS = ("small", "large", "nothing", "rest", "cancel")


class Faithless:
    """A sink that answers by a list, and takes everything once the list is over."""

    def __init__(self, verdicts: tuple[Verdict, ...], ready: bool = True) -> None:
        self.on_gone: Callable[[], None] | None = None
        self.ready = ready
        self.left = list(verdicts)
        self.writes: list[bytes] = []
        self.kept = False
        self.broken = False

    def cork(self) -> None:
        """Nothing to keep: only bodies are written here."""

    def try_write(self, data: bytes) -> Verdict:
        assert not self.kept, "written to before it was drained"
        verdict = self.left.pop(0) if self.left else "accepted"
        if verdict != "gone":
            self.writes.append(data)
        self.kept = verdict == "full"
        return verdict

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise trio.BrokenResourceError
        self.kept = False


async def play(steps: tuple[str, ...], sink: Faithless) -> tuple[Feed, list[bytes], list[bytes]]:
    """Publish by `steps` to a reader with `sink` and one without; return the feed and what each got."""
    feed = Feed(Plain(), ROOM)
    mine: list[bytes] = sink.writes
    other: list[bytes] = []
    scope = trio.CancelScope()

    async def follow(got: list[bytes], sink: Faithless | None) -> None:
        nonlocal scope
        reader = feed.attach(0, sink)
        while True:
            with trio.CancelScope() as mine:
                if sink is not None:
                    scope = mine
                data = await reader.next()
                if data is None:
                    return
                assert sink is None or not sink.kept, "overtook what the sink keeps"
                got.append(data)

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, mine, sink)
            nursery.start_soon(follow, other, None)
            await trio.testing.wait_all_tasks_blocked()
            for number, step in enumerate(steps):
                match step:
                    case "small":
                        feed.publish(words(f"<{number}>"))
                    case "large":
                        feed.publish(words(f"<{number}" + "x" * MAX_WRITE, "y", "z" * MAX_WRITE, "w"))
                    case "nothing":
                        feed.publish([])
                    case "rest":
                        await trio.testing.wait_all_tasks_blocked()
                    case _:
                        scope.cancel()
                        await trio.testing.wait_all_tasks_blocked()
            feed.publish([TERMINAL])
    return feed, mine, other


def test_whatever_the_sink_says_the_log_leaves_once_and_in_order() -> None:
    played = 0

    async def main() -> None:
        nonlocal played
        for verdicts, steps in product(product(VERDICTS, repeat=3), product(STEPS, repeat=3)):
            feed, mine, other = await play(steps, Faithless(verdicts))
            log = b"".join(feed.frames)
            assert b"".join(mine) == b"".join(other) == log, (verdicts, steps)
            assert all(len(data) <= MAX_WRITE or data in feed.frames for data in mine)
            played += 1

    virtually(main)
    assert played == 3**3 * 5**3


def test_a_reader_that_has_caught_up_is_written_to_by_publish_itself() -> None:
    """No task runs between the publish and the write; a sink that is not ready is left alone."""

    async def main() -> None:
        for ready in (True, False):
            feed, sink = Feed(Plain(), ROOM), Faithless((), ready)
            reader = feed.attach(0, sink)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader.next)
                await trio.testing.wait_all_tasks_blocked()
                assert reader.state is (ReaderState.PUSHED if ready else ReaderState.WAITING)
                feed.publish(words("a", "b"))
                assert sink.writes == ([b"ab"] if ready else [])
                assert reader.taken == (2 if ready else 0)
                feed.publish([TERMINAL])

    virtually(main)


@pytest.mark.parametrize("verdict", ["full", "accepted"])
def test_a_sink_whose_client_leaves_ends_its_reader(verdict: Verdict) -> None:
    async def main() -> None:
        feed, sink = Feed(Plain(), ROOM), Faithless((verdict,))
        reader = feed.attach(0, sink)
        got: list[bytes | None] = []

        async def read() -> None:
            got.append(await reader.next())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            sink.broken = True
            feed.publish([*words("a"), TERMINAL])
        assert got == [None]
        assert sink.writes[0] == b"a<end><done>"
        assert feed.state is (FeedState.HEARD if verdict == "accepted" else FeedState.ENDED)

    virtually(main)


def test_closing_wakes_the_task_that_sleeps() -> None:
    async def main() -> None:
        for sink in (None, Faithless(())):
            feed = Feed(Plain(), ROOM)
            reader = feed.attach(0, sink)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader.next)
                await trio.testing.wait_all_tasks_blocked()
                reader.close()
                feed.publish(words("unheard"))
                assert sink is None or sink.writes == []

    virtually(main)
