"""Which runs may start: all, until the event loop runs late; then so many as keep it in time. Pure: times are handed
in, nothing waits here.

The service is one thread. When it is asked for more than it can do, everything waits for the loop's next turn: its
tokens, its clients and its timers. So how late a timer rings is the queue that everybody stands in. As in CoDel, only
a queue that stands counts: lateness that no probe in a row of them was free of. One long turn makes one probe late.

What is admitted then is a number of runs for each probe, not a share of the arrivals: it stays right when more of them
come, and probes become rarer as turns grow longer, so a burst within one long turn gets no more than that. The number
follows the ratio of the lateness meant to the lateness seen, like a gradient limit on concurrency.

Nothing is probed while no run is asked for, so neither tokens nor an idle process pay for it.
"""

import logging
import math
from enum import StrEnum
from typing import Final

from ..machine.errors import ErrorCode, RunError

PROBE_SECONDS: Final = 0.01  # between two probes; a hundred in a second take a thousandth of the CPU
WINDOW_SECONDS: Final = 0.1  # lateness lasts so long before it counts,
WINDOW_PROBES: Final = 3  # and is seen by so many probes
CALM_WINDOWS: Final = 10  # without a refusal, in time, until all are admitted again
_LEAST_FACTOR: Final = 0.7  # of what is admitted, from one window to the next
_MOST_FACTOR: Final = 1.1
_STEP: Final = 0.02  # what is added beside, so that little becomes more again
_LEAST_ROOM: Final = 0.01  # runs for each probe: one a second
_SMOOTH: Final = 0.1  # what the last window counts in the share of refusals
_RETRY_SECONDS: Final = (1.0, 30.0)
_GOLDEN: Final = (math.sqrt(5) - 1) / 2  # its multiples lie evenly, however many there are

log = logging.getLogger(__name__)


class Gate(StrEnum):
    """OPEN: all runs are admitted. SHEDDING: some are."""

    OPEN = "open"
    SHEDDING = "shedding"


class _Window:
    """What was seen since the last judgement."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.probes = 0
        self.least = math.inf
        self.admitted = 0
        self.refused = 0


class Admission:
    """Admits runs or refuses them, by the lateness of probes: whoever has a clock calls `probe` at `due`.

    `target` is the lateness in seconds from which on runs are refused, inf for never.
    """

    def __init__(self, target: float) -> None:
        self.gate = Gate.OPEN
        self.due = math.inf
        self._target = target
        self._window = _Window(0)
        self._room = 0.0  # runs admitted for each probe
        self._credit = 0.0
        self._calm = 0
        self._refused_share = 0.0
        self._refusals = 0

    def refusal(self, now: float) -> RunError | None:
        """A run is asked for: return None if it may start, else how it is refused. Look at `due` afterwards."""
        if self._target == math.inf:
            return None
        if self.due == math.inf:
            self.due = now + PROBE_SECONDS
            self._window = _Window(now)
        if self.gate is Gate.SHEDDING:
            if self._credit < 1:
                self._window.refused += 1
                return self._overloaded()
            self._credit -= 1
        self._window.admitted += 1
        return None

    def probe(self, now: float) -> float:
        """Take note of the time at which the probe that was due took place; return when the next one is due."""
        late = now - self.due
        window = self._window
        self.due = now + PROBE_SECONDS
        if self.gate is Gate.SHEDDING:
            self._credit = min(max(1.0, self._room), self._credit + self._room * min(1.0, self._ratio(late)))
        elif late <= self._target:
            self.due = math.inf  # the next run that is asked for looks again
            return self.due
        elif window.least == math.inf:  # the first late one begins the time, and may be a pause of the process
            window.began = now
            window.least = late
            return self.due
        window.probes += 1
        window.least = min(window.least, late)
        if window.probes >= WINDOW_PROBES and now - window.began >= WINDOW_SECONDS:
            self._judge(window)
            self._window = _Window(now)
            if self.gate is Gate.OPEN:
                self.due = math.inf
        return self.due

    def _judge(self, window: _Window) -> None:
        if asked := window.admitted + window.refused:
            self._refused_share += _SMOOTH * (window.refused / asked - self._refused_share)
        factor = min(_MOST_FACTOR, max(_LEAST_FACTOR, math.sqrt(self._ratio(window.least))))
        if self.gate is Gate.OPEN:
            self._shed(window)
        elif factor < 1 or window.refused:
            self._calm = 0
            self._room = max(_LEAST_ROOM, self._room * factor + (_STEP if factor > 1 else 0))
        else:
            self._calm += 1
            if self._calm == CALM_WINDOWS:
                self._open()

    def _shed(self, window: _Window) -> None:
        self.gate = Gate.SHEDDING
        self._room = max(_LEAST_ROOM, _LEAST_FACTOR * window.admitted / window.probes)
        self._credit = 0.0
        self._calm = 0
        self._refused_share = 0.0
        log.warning(
            "overloaded: everything is at least %.0f ms late (max_lateness_seconds); new runs are refused in part",
            window.least * 1000,
        )

    def _open(self) -> None:
        self.gate = Gate.OPEN
        log.warning("no longer overloaded; new runs are taken")

    def _ratio(self, late: float) -> float:
        return self._target / late if late > 0 else math.inf

    def _overloaded(self) -> RunError:
        """With a time to come back that spreads those who are refused, and grows with their share."""
        least, most = _RETRY_SECONDS
        self._refusals += 1
        tries = 1 / (1 - self._refused_share)  # of a client on average, until it is admitted
        wait = min(most, max(least, tries)) * (1 + self._refusals * _GOLDEN % 1)
        return RunError(
            ErrorCode.OVERLOADED,
            "The service is busy (max_lateness_seconds); try again.",
            retryable=True,
            retry_after_ms=math.ceil(wait * 1000),
        )
