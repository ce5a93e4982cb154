"""The time of one run: its deadlines and its readers' heartbeats, on one alarm."""

import logging
import math
from bisect import bisect_left
from collections.abc import Callable, MutableSequence

import trio

from ..machine.errors import RunError
from .alarms import Alarm, Alarms
from .deadlines import Deadlines
from .feed import Feed
from .options import RunOptions
from .record import PAUSES

log = logging.getLogger(__name__)


class Watch:
    """Calls `late` with the words of the deadline that has passed, and beats for the feed's readers while the feed is
    silent. Counts the pauses within replies in `pauses`, by the bounds of PAUSES. All methods are synchronous; before
    `start` nothing rings.
    """

    def __init__(
        self, options: RunOptions, feed: Feed, late: Callable[[RunError], None], pauses: MutableSequence[int]
    ) -> None:
        self._deadlines = Deadlines(options)
        self._heartbeat = options.heartbeat_seconds
        self._feed = feed
        self._late = late
        self._pauses = pauses
        self._alarm: Alarm | None = None
        self._now = trio.current_time
        self._loud_at = -math.inf
        self._size = 0

    def start(self, alarms: Alarms) -> None:
        """The run begins."""
        # Trio's own function looks for the clock each time.
        self._now = trio.lowlevel.current_clock().current_time
        now = self._now()
        self._alarm = alarms.alarm(self._ring)
        self._deadlines.begin_run(now)
        self._loud_at = now
        self._arm()
        self._alarm.by(now + self._heartbeat)

    def limit(self, seconds: float, error: RunError) -> None:
        """The run, which has begun, may take so long, and ends with `error` if it takes longer."""
        self._deadlines.limit(self._now() + seconds, error)
        self._arm()

    def stop(self) -> None:
        """The run is over: nothing rings any more."""
        if self._alarm is not None:
            self._alarm.drop()
            self._alarm = None
        self._late = _nobody

    def begin_step(self) -> None:
        """A request goes to the provider."""
        self._deadlines.begin_step(self._now())
        self._arm()

    def hear(self) -> None:
        """The reply went on, or we read on after a pause of our own. The one call per token: it arms nothing, the alarm
        looks at the time when it rings.
        """
        now = self._now()
        if self._feed.size != self._size:
            self._size = self._feed.size
            self._loud_at = now
        deadlines = self._deadlines
        if deadlines.heard_at == math.inf:
            deadlines.hear(now)
            self._arm()
        else:
            self._pauses[bisect_left(PAUSES, now - deadlines.heard_at)] += 1
            deadlines.heard_at = now

    def stop_listening(self) -> None:
        """Nothing is expected of the provider for now."""
        self._deadlines.stop_listening()

    def be_left(self) -> None:
        """The last reader of a detached run left."""
        self._deadlines.be_left(self._now())
        self._arm()

    def be_joined(self) -> None:
        """A reader is there."""
        self._deadlines.be_joined()

    def note_published(self) -> None:
        """The feed was not silent."""
        self._size = self._feed.size
        self._loud_at = self._now()

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.by(self._deadlines.earliest()[0])

    def _ring(self, now: float) -> float:
        try:
            due, error = self._deadlines.earliest()
            if due <= now:
                self._late(error)
                return math.inf
            if self._loud_at + self._heartbeat <= now:
                self._feed.beat()
                self._loud_at = now
            return min(due, self._loud_at + self._heartbeat)
        except Exception:  # would end the alarms of all other runs
            log.exception("the watch of a run failed")
            return math.inf


def _nobody(_error: RunError) -> None:
    """Who is told that a run is late which has ended."""
