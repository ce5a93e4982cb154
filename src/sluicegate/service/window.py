"""What was used within the last minute, exactly: not by buckets, which let through twice as much around their edges."""

import math
from collections import deque

WINDOW = 60.0  # seconds


class Window:
    """Amounts of something, and when each was used. Times in seconds of any clock that does not go back; costs an entry
    for each use within the window, so at most as many as are allowed.
    """

    def __init__(self) -> None:
        self._entries: deque[tuple[float, int]] = deque()
        self._used = 0

    def used(self, now: float) -> int:
        """Return the sum of what was used within the window that ends at `now`."""
        while self._entries and self._entries[0][0] <= now - WINDOW:
            self._used -= self._entries.popleft()[1]
        return self._used

    def add(self, now: float, amount: int) -> None:
        """Note that `amount` is used at `now`."""
        self._entries.append((now, amount))
        self._used += amount

    def free_in(self, now: float, amount: int) -> float:
        """Return the seconds until what is used then is at least `amount` less; inf if that is more than all of it."""
        self.used(now)
        for at, each in self._entries:
            amount -= each
            if amount <= 0:
                return at + WINDOW - now
        return math.inf
