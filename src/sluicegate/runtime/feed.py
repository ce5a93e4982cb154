"""The event log of one run: sole owner of sequence, frames and readers.

`publish` is synchronous, so the terminal event of a cancelled run needs no shield. Room is awaited separately, before
the next upstream read: that is the backpressure. A frame is encoded once and shared by all readers. A reader that has
caught up and offers a sink is written to by `publish` itself: no task is woken for a token (40 us each).

Of a long log only the newest bytes are kept as they are; the encoder keeps what the rest amounts to, and a reader that
comes for it gets that as one `gap` frame.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Literal, Protocol

import trio
from trio.lowlevel import ParkingLot

from ..machine.events import Event, RunDone, RunFailed
from .ports import Sink

_TERMINALS = (RunDone, RunFailed)
MAX_WRITE = 16 * 1024  # bytes that one write may hold, unless a single frame is larger
HEARTBEAT = b":\n\n"  # a comment, which every reader of event streams skips


class Encoder(Protocol):
    """A downstream wire: events of one run to frames. `epoch` binds cursors to the run."""

    epoch: str

    def frames(self, event: Event) -> list[bytes]:
        """Return the frames of `event`, possibly none."""
        ...

    def note_cost(self, cost: float | None) -> None:
        """The run cost so many US dollars, None: nobody knows; its terminal event comes next."""
        ...

    def fold(self, frames: Sequence[bytes]) -> int:
        """Keep what `frames`, the oldest of the log, amount to: they leave it. Returns all the bytes kept for it."""
        ...

    def gap(self, after: int, until: int) -> bytes:
        """Return the frame for a reader that has seen the log up to `after`: all that was folded, up to `until`."""
        ...


class FeedState(StrEnum):
    """OPEN until the terminal event is in the log, ENDED from then on; HEARD when a reader has taken that."""

    OPEN = "open"
    ENDED = "ended"
    HEARD = "heard"


class Feed:
    """One run's log. `room` is how many bytes the slowest attached reader may lag behind before upstream waits;
    `log_bytes` is how many of the newest are kept. `frames` are those, `base` counts the ones before them, `end` all of
    them, from 1; `size` is the bytes of all that were published, `held` what the log takes now.
    """

    def __init__(self, encoder: Encoder, room: int, log_bytes: int = 4 * 1024 * 1024) -> None:
        self.state = FeedState.OPEN
        self.frames: list[bytes] = []
        self.base = 0
        self.end = 0
        self.size = 0
        self.readers: list[Reader] = []
        self.epoch = encoder.epoch
        self._encoder = encoder
        self._room = room
        self._log_bytes = log_bytes
        self._trimmed = 0
        self._folded = 0
        # Who waits for room. A lot, not an event: nothing is made for a wait, and nothing is woken while nobody waits.
        self.drained = ParkingLot()

    @property
    def held(self) -> int:
        """How many bytes the log takes: the frames that are kept, and what the others amount to."""
        return self.size - self._trimmed + self._folded

    def note_cost(self, cost: float | None) -> None:
        """The run cost so many US dollars, None: nobody knows. Before the terminal event."""
        self._encoder.note_cost(cost)

    def publish(self, events: Iterable[Event]) -> None:
        """Append events and serve the readers that wait. Synchronous; after the terminal event nothing is taken."""
        if self.state is not FeedState.OPEN:
            return
        encode = self._encoder.frames
        for event in events:
            for frame in encode(event):
                self.frames.append(frame)
                self.end += 1
                self.size += len(frame)
            if type(event) in _TERMINALS:
                self.state = FeedState.ENDED
                break
        for reader in self.readers:
            reader.notice()
        if self.size - self._trimmed > self._log_bytes:
            self._trim()

    def beat(self) -> None:
        """Send a comment to every reader that waits, so that proxies and clients see a live stream. Synchronous."""
        for reader in self.readers:
            reader.beat()

    def attach(self, after: int = 0, sink: Sink | None = None) -> "Reader":
        """Return a reader that begins behind frame number `after`, at most `end`; frames count from 1."""
        reader = Reader(self, after, sink)
        self.readers.append(reader)
        return reader

    def detach(self, reader: "Reader") -> None:
        """Forget `reader`; it no longer holds anybody up."""
        self.readers.remove(reader)
        self.note_taken()

    async def wait_room(self) -> None:
        """Wait until every attached reader has taken all but `room` bytes. A checkpoint only if it has to wait."""
        while self.is_full():
            await self.drained.park()

    def is_full(self) -> bool:
        """Whether a reader lags more than `room` bytes behind."""
        least = self.size - self._room
        for reader in self.readers:  # noqa: SIM110 - a generator would cost as much as the rest of a read's path
            if reader.taken < least:
                return True
        return False

    def note_taken(self) -> None:
        """A reader took something; whoever waits for room may look again."""
        self.drained.unpark_all()

    def bytes_before(self, after: int) -> int:
        """Return the size of all frames up to number `after`."""
        return self._trimmed + sum(len(frame) for frame in self.frames[: max(after - self.base, 0)])

    def gap(self, after: int) -> bytes:
        """Return the frame that stands for all that the log no longer has, for a reader that stopped at `after`."""
        return self._encoder.gap(after, self.base)

    def _trim(self) -> None:
        """Let the oldest frames go, never the newest, which may be the terminal. An eighth more than necessary, so that
        the list is not moved for each token.
        """
        surplus = self.size - self._trimmed - self._log_bytes * 7 // 8
        count = 0
        for frame in self.frames[:-1]:
            if surplus <= 0:
                break
            surplus -= len(frame)
            self._trimmed += len(frame)
            count += 1
        self._folded = self._encoder.fold(self.frames[:count])
        del self.frames[:count]
        self.base += count


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
        self.taken = feed.bytes_before(after)
        self._feed = feed
        self._sink = sink
        self._asleep = ParkingLot()
        self._beaten = False

    @property
    def is_behind(self) -> bool:
        """Whether `next` has frames without waiting."""
        return self.at < self._feed.end

    async def next(self) -> bytes | None:
        """Return the frames that are there, at most MAX_WRITE bytes at once; None after the terminal, or where the
        sink's client has left.

        Waits if there are none, and meanwhile frames may go by the sink. Cancelled: nothing is taken. A heartbeat is
        returned as it is, and so is the gap frame for what the log no longer has.
        """
        feed = self._feed
        while True:
            if self.state is ReaderState.BLOCKED and not await self._is_drained():
                return None
            if self.at < feed.end:
                data = self._take()
                if feed.drained:
                    feed.note_taken()
                return data
            if self.state is ReaderState.CLOSED:
                return None
            if feed.state is not FeedState.OPEN:
                feed.state = FeedState.HEARD
                return None
            await self._sleep()
            beaten, self._beaten = self._beaten, False
            if beaten and self.at == feed.end and feed.state is FeedState.OPEN:
                return HEARTBEAT

    def notice(self) -> None:
        """The log has grown or ended: push, or wake the task. Synchronous; called by the feed."""
        feed, sink = self._feed, self._sink
        if self.state is ReaderState.PUSHED and sink is not None:
            while self.at < feed.end:
                at, taken = self.at, self.taken
                verdict = sink.try_write(self._take())
                if verdict != "accepted":
                    self._give_up(verdict)
                    if verdict == "gone":
                        self.at, self.taken = at, taken
                    break
            else:
                if feed.state is FeedState.OPEN:
                    return
        if self._asleep:
            self._asleep.unpark_all()

    def beat(self) -> None:
        """Send a heartbeat if the reader has nothing else to do. Synchronous; called by the feed."""
        if self.state is ReaderState.WAITING:
            self._beaten = True
        elif self.state is not ReaderState.PUSHED or self._sink is None:
            return
        else:
            verdict = self._sink.try_write(HEARTBEAT)
            if verdict == "accepted":
                return
            self._give_up(verdict)
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

    def _give_up(self, verdict: Literal["full", "gone"]) -> None:
        """The sink takes no more for now: the task has to drain it, or to see that the client has left."""
        if verdict == "gone":
            self._sink = None
        self.state = ReaderState.BLOCKED if verdict == "full" else ReaderState.BUSY

    def _take(self) -> bytes:
        feed = self._feed
        if self.at < feed.base:
            return self._take_gap()
        frames = feed.frames
        at = self.at - feed.base
        data = frames[at]
        end = at + 1
        if end < len(frames):
            size = len(data)
            while end < len(frames) and size + len(frames[end]) <= MAX_WRITE:
                size += len(frames[end])
                end += 1
            data = b"".join(frames[at:end])
        self.at = feed.base + end
        self.taken += len(data)
        return data

    def _take_gap(self) -> bytes:
        feed = self._feed
        data = feed.gap(self.at)
        self.at = feed.base
        self.taken = feed.bytes_before(feed.base)
        return data
