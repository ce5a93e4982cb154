"""Alarms of many owners on one task: nothing is armed, cancelled or woken for a token.

Whoever has deadlines that move with every delta sets one alarm for the earliest and looks, when it rings, whether it
has moved meanwhile. A cancel scope per read would cost more than the read.
"""

import heapq
import math
from collections.abc import Callable
from itertools import count

import trio

SPARE = 64  # entries that are kept whether they are of use or not


class Alarm:
    """One owner's alarm. `ring` gets the time (Trio's clock) and returns a later one to ring next, inf for never."""

    def __init__(self, alarms: "Alarms", ring: Callable[[float], float]) -> None:
        self.due = math.inf
        self.ring = ring
        self._alarms = alarms

    def by(self, due: float) -> None:
        """Ring at `due` at the latest. Synchronous."""
        if due < self.due:
            self.due = due
            self._alarms.push(self)

    def drop(self) -> None:
        """Never ring again, and let go of the owner."""
        self.due = math.inf
        self.ring = _never


class Alarms:
    """Rings alarms in order of time, in a task of `nursery`. `ring` is called there and must not raise."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._most = SPARE
        self._numbers = count()
        self._sleep = trio.CancelScope()
        self._all = trio.CancelScope()
        nursery.start_soon(self._watch, name="alarms")

    def alarm(self, ring: Callable[[float], float]) -> Alarm:
        """Return a new alarm, not set."""
        return Alarm(self, ring)

    def push(self, alarm: Alarm) -> None:
        """Take note that `alarm` is due earlier than before; for the alarm itself."""
        heapq.heappush(self._heap, (alarm.due, next(self._numbers), alarm))
        if len(self._heap) > self._most:
            self._sweep()
        if alarm.due < self._sleep.deadline:
            self._sleep.deadline = alarm.due

    def _sweep(self) -> None:
        """Let go of entries whose alarm was dropped or set anew: of a short run they would stay for its longest
        deadline. Next when there are twice as many as are left now, so an entry costs the same however many there are.
        """
        self._heap[:] = [entry for entry in self._heap if entry[0] == entry[2].due]
        heapq.heapify(self._heap)
        self._most = 2 * len(self._heap) + SPARE

    def close(self) -> None:
        """End the task: nothing rings any more."""
        self._all.cancel()

    async def _watch(self) -> None:
        heap = self._heap
        with self._all:
            while True:
                self._sleep = trio.CancelScope(deadline=heap[0][0] if heap else math.inf)
                with self._sleep:
                    await trio.sleep_forever()
                self._ring(trio.current_time())

    def _ring(self, now: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, alarm = heapq.heappop(heap)
            if due == alarm.due:  # else it was set earlier, and has rung, or was dropped
                alarm.due = math.inf
                alarm.by(alarm.ring(now))


def _never(_now: float) -> float:
    return math.inf
