"""The event log of one run: sole owner of sequence, frames and readers.

`publish` is synchronous, so the terminal event of a cancelled run needs no shield. Room is awaited separately, before
the next upstream read: that is the backpressure. A frame is encoded once and shared by all readers. A reader that has
caught up and offers a sink is written to by `publish` itself: no task is woken for a token (40 us each).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

import trio
from trio.lowlevel import ParkingLot

from ..machine.events import Event, RunDone, RunFailed
from .ports import Sink

_TERMINALS = (RunDone, RunFailed)
MAX_WRITE = 16 * 1024  # bytes that one write may hold, unless a single frame is larger


class Encoder(Protocol):
    """A downstream wire: events of one run to frames. `epoch` binds cursors to the run."""

    epoch: str

    def frames(self, event: Event) -> list[bytes]:
        """Return the frames of `event`, possibly none."""
        ...


class FeedState(StrEnum):
    """OPEN until the terminal event is in the log."""

    OPEN = "open"
    ENDED = "ended"


class Feed:
    """One run's log. `room` is how many bytes the slowest attached reader may lag behind before upstream waits."""

    def __init__(self, encoder: Encoder, room: int) -> None:
        self.state = FeedState.OPEN
        self.frames: list[bytes] = []
        self.size = 0
        self.readers: list[Reader] = []
        self.epoch = encoder.epoch
        self._encoder = encoder
        self._room = room
        # A lot, not an event: nothing is made for a wait, and waking costs nothing while nobody waits.
        self._drained = ParkingLot()

    def publish(self, events: Iterable[Event]) -> None:
        """Append events and serve the readers that wait. Synchronous; after the terminal event nothing is taken."""
        if self.state is FeedState.ENDED:
            return
        encode = self._encoder.frames
        for event in events:
            for frame in encode(event):
                self.frames.append(frame)
                self.size += len(frame)
            if type(event) in _TERMINALS:
                self.state = FeedState.ENDED
                break
        for reader in self.readers:
            reader.notice()

    def attach(self, after: int = 0, sink: Sink | None = None) -> "Reader":
        """Return a reader that begins behind frame number `after` (frames count from 1)."""
        reader = Reader(self, after, sink)
        self.readers.append(reader)
        return reader

    def detach(self, reader: "Reader") -> None:
        """Forget `reader`; it no longer holds anybody up."""
        self.readers.remove(reader)
        self.note_taken()

    async def wait_room(self) -> None:
        """Wait until every attached reader has taken all but `room` bytes. A checkpoint only if it has to wait."""
        while self._is_full():
            await self._drained.park()

    def _is_full(self) -> bool:
        least = self.size - self._room
        for reader in self.readers:  # noqa: SIM110 - a generator would cost as much as the rest of a read's path
            if reader.taken < least:
                return True
        return False

    def note_taken(self) -> None:
        """A reader took something; whoever waits for room may look again."""
        if self._drained:
            self._drained.unpark_all()


class ReaderState(StrEnum):
    """BUSY: its task has frames to pass on. WAITING: its task sleeps until there are more. PUSHED: its task sleeps and
    `publish` writes into its sink. BLOCKED: the sink keeps something, which its task has to drain first.
    """

    BUSY = "busy"
    WAITING = "waiting"
    PUSHED = "pushed"
    BLOCKED = "blocked"
    CLOSED = "closed"


_ASLEEP = (ReaderState.WAITING, ReaderState.PUSHED)


class Reader:
    """One reader's place in a feed. `taken` counts the bytes behind it, `at` the frames."""

    def __init__(self, feed: Feed, after: int, sink: Sink | None = None) -> None:
        self.state = ReaderState.BUSY
        self.at = after
        self.taken = sum(len(frame) for frame in feed.frames[:after])
        self._feed = feed
        self._sink = sink
        self._asleep = ParkingLot()

    async def next(self) -> bytes | None:
        """Return the frames that are there, at most MAX_WRITE bytes at once; None after the terminal, or where the
        sink's client has left.

        Waits if there are none, and meanwhile frames may go by the sink. Cancelled: nothing is taken.
        """
        feed = self._feed
        while True:
            if self.state is ReaderState.BLOCKED and not await self._is_drained():
                return None
            if self.at < len(feed.frames):
                return self._take()
            if feed.state is FeedState.ENDED or self.state is ReaderState.CLOSED:
                return None
            await self._sleep()

    def notice(self) -> None:
        """The log has grown or ended: push, or wake the task. Synchronous; called by the feed."""
        if self.state is ReaderState.PUSHED and self._sink is not None and self._push(self._sink):
            return
        if self._asleep:
            self._asleep.unpark_all()

    def close(self) -> None:
        """Leave the feed. Synchronous; a second time does nothing."""
        if self.state is not ReaderState.CLOSED:
            self.state = ReaderState.CLOSED
            self._feed.detach(self)
            self._asleep.unpark_all()

    async def _sleep(self) -> None:
        pushed = self._sink is not None and self._sink.ready
        self.state = ReaderState.PUSHED if pushed else ReaderState.WAITING
        try:
            await self._asleep.park()
        finally:
            if self.state in _ASLEEP:
                self.state = ReaderState.BUSY

    async def _is_drained(self) -> bool:
        if self._sink is not None:
            try:
                await self._sink.drain()
            except trio.BrokenResourceError:
                return False
        if self.state is ReaderState.BLOCKED:
            self.state = ReaderState.BUSY
        return True

    def _push(self, sink: Sink) -> bool:
        """Write what is there into the sink; return whether the task may sleep on."""
        feed = self._feed
        while self.at < len(feed.frames):
            at, taken = self.at, self.taken
            verdict = sink.try_write(self._take())
            if verdict == "gone":
                self.at, self.taken, self._sink = at, taken, None
            if verdict != "accepted":
                self.state = ReaderState.BLOCKED if verdict == "full" else ReaderState.BUSY
                return False
        return feed.state is FeedState.OPEN

    def _take(self) -> bytes:
        frames = self._feed.frames
        data = frames[self.at]
        end = self.at + 1
        if end < len(frames):
            size = len(data)
            while end < len(frames) and size + len(frames[end]) <= MAX_WRITE:
                size += len(frames[end])
                end += 1
            data = b"".join(frames[self.at : end])
        self.at = end
        self.taken += len(data)
        self._feed.note_taken()
        return data
