"""What was used within the last minute, exactly: not by buckets, which let through twice as much around their edges."""

import math
from bisect import bisect_left

WINDOW = 60.0  # seconds
_SPARE = 16  # entries that have left the window and are kept, at least, until as many are in it


class Window:
    """Amounts of something, and when each was used. Times in seconds of any clock that does not go back. Holds an entry
    for each use within the window, so at most as many as are allowed; what it is asked costs the same however many.
    """

    def __init__(self) -> None:
        self._times: list[float] = []
        self._totals: list[int] = []  # of all uses up to each entry
        self._first = 0  # of the entries that are in the window
        self._gone = 0  # the total of those before

    def used(self, now: float) -> int:
        """Return the sum of what was used within the window that ends at `now`."""
        times, first = self._times, self._first
        if first == len(times):
            return 0
        if times[first] <= now - WINDOW:
            self._forget(now - WINDOW)
        return self._totals[-1] - self._gone if self._totals else 0

    def add(self, now: float, amount: int) -> None:
        """Note that `amount` is used at `now`."""
        self._times.append(now)
        self._totals.append((self._totals[-1] if self._totals else self._gone) + amount)

    def free_in(self, now: float, amount: int) -> float:
        """Return the seconds until what is used then is at least `amount` less; inf if that is more than all of it."""
        self.used(now)
        at = bisect_left(self._totals, self._gone + amount, self._first)
        return self._times[at] + WINDOW - now if at < len(self._times) else math.inf

    def _forget(self, until: float) -> None:
        times, first = self._times, self._first
        while first < len(times) and times[first] <= until:
            first += 1
        self._gone = self._totals[first - 1]
        if first > _SPARE and first * 2 >= len(times):
            del times[:first], self._totals[:first]
            first = 0
        self._first = first
