"""The event log of one run: sole owner of sequence, frames and readers.

`publish` is synchronous, so the terminal event of a cancelled run needs no shield. Room is awaited separately, before
the next upstream read: that is the backpressure. A frame is encoded once and shared by all readers.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from trio.lowlevel import ParkingLot

from ..machine.events import Event, RunDone, RunFailed

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
        # Lots, not events: nothing is made for a wait, and waking costs nothing while nobody waits.
        self._drained = ParkingLot()
        self._grown = ParkingLot()

    def publish(self, events: Iterable[Event]) -> None:
        """Append events and wake the readers that wait. Synchronous; after the terminal event nothing is taken."""
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
        if self._grown:
            self._grown.unpark_all()

    def attach(self, after: int = 0) -> "Reader":
        """Return a reader that begins behind frame number `after` (frames count from 1)."""
        reader = Reader(self, after)
        self.readers.append(reader)
        return reader

    def detach(self, reader: "Reader") -> None:
        """Forget `reader`; it no longer holds anybody up."""
        self.readers.remove(reader)
        self.note_taken()

    async def wait_grown(self, seen: int) -> None:
        """Wait until the log holds more than `seen` frames or has ended. A checkpoint only if it has to wait."""
        while len(self.frames) <= seen and self.state is FeedState.OPEN:
            await self._grown.park()

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


class Reader:
    """One reader's place in a feed. `taken` counts the bytes behind it, `at` the frames."""

    def __init__(self, feed: Feed, after: int) -> None:
        self._feed = feed
        self.at = after
        self.taken = sum(len(frame) for frame in feed.frames[:after])

    async def next(self) -> bytes | None:
        """Return the frames that are there, at most MAX_WRITE bytes at once; None after the terminal.

        Waits if there are none. Cancelled: nothing is taken.
        """
        feed = self._feed
        if self.at == len(feed.frames):
            if feed.state is FeedState.ENDED:
                return None
            await feed.wait_grown(self.at)
            if self.at == len(feed.frames):
                return None
        frames = feed.frames
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
        feed.note_taken()
        return data

    def close(self) -> None:
        """Leave the feed. Synchronous."""
        self._feed.detach(self)
