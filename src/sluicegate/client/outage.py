"""How long to go on asking when the connection is lost: exponential backoff with jitter, bounded in number and time."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import trio

from .errors import Lost

T = TypeVar("T")
OnLost = Callable[[str, float], None]


class Resume(msgspec.Struct, frozen=True):
    """How to come back to a run whose connection was lost.

    `attempts` counts those in a row that brought no new frame; `seconds` runs from the loss of the last connection that
    brought anything, a heartbeat included. Attempt n comes after at most `first_delay` * 2^(n-1) seconds, never more
    than `max_delay`: the jitter chooses. It comes later where the service says so (Retry-After), not beyond `seconds`.
    """

    attempts: int = 10
    seconds: float = 120.0
    first_delay: float = 0.5
    max_delay: float = 15.0


class Outage:
    """The attempts of one stream since its last new frame. `jitter` returns numbers from 0 to 1.

    `on_lost` is told, synchronously, why the connection is lost and how many seconds pass until the next attempt.
    """

    def __init__(self, options: Resume, jitter: Callable[[], float], on_lost: OnLost) -> None:
        self._options = options
        self._jitter = jitter
        self._on_lost = on_lost
        self._attempts = 0
        self._alive = True
        self._deadline = math.inf
        self._hurry = trio.Event()

    def note_life(self) -> None:
        """The service sent something."""
        self._alive = True

    def note_frame(self) -> None:
        """A new frame came: the next outage starts from nothing."""
        self._attempts = 0

    def hurry(self) -> None:
        """Make the next attempt now, as there is news of the run."""
        self._hurry.set()

    async def retry(self, attempt: Callable[[], Awaitable[T]], lost: Lost) -> T:
        """Return what `attempt` returns, as soon as it raises no Lost. Raises the last Lost when all are used up.

        A checkpoint if there is at least one attempt left. Cancelled: nothing of an attempt is left.
        """
        if self._alive:
            self._alive = False
            self._deadline = trio.current_time() + self._options.seconds
        while (delay := self._delay(lost.retry_after)) is not None:
            self._on_lost(str(lost), delay)
            with trio.move_on_after(delay):
                await self._hurry.wait()
            self._hurry = trio.Event()
            with trio.move_on_at(self._deadline):
                try:
                    return await attempt()
                except Lost as error:
                    lost = error
        raise lost

    def _delay(self, told: float) -> float | None:
        options = self._options
        if self._attempts >= options.attempts:
            return None
        longest = min(options.max_delay, options.first_delay * 2**self._attempts)
        self._attempts += 1
        delay = max(told, self._jitter() * longest)
        return delay if trio.current_time() + delay < self._deadline else None
