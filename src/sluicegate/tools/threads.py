"""Threads for sync tools: bounded, the abandoned ones counted, and no waiting for what may never come back.

A thread cannot be cancelled, only abandoned: it keeps its place until its function returns.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import trio

from .faults import ToolFault

MAX_THREADS = 16

T = TypeVar("T")


class ThreadsBusy(ToolFault):
    """Abandoned threads hold all places, so the tool was not run."""

    def __init__(self) -> None:
        super().__init__(
            "The tool was not run: too many of its threads are still busy with calls that were given up. "
            "Try again later."
        )


class Threads:
    """At most `total` threads at a time, abandoned ones included. For use within one Trio run."""

    def __init__(self, total: int = MAX_THREADS) -> None:
        self.total = total
        self._limiter = trio.CapacityLimiter(total)
        self._abandoned: set[_Place] = set()
        self._waits: set[trio.CancelScope] = set()

    @property
    def abandoned(self) -> int:
        """How many threads still run whose call has ended."""
        return len(self._abandoned)

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._waits)

    async def run_sync(self, function: Callable[[], T]) -> T:
        """Call `function` in a thread and return its result; a checkpoint. Waits for a place.

        A cancellation abandons the thread at once. Raises ThreadsBusy when all places are held by abandoned threads,
        also while it waits; besides that, what `function` raises.
        """
        place = _Place(self)
        try:
            # Trio takes any object with these two methods here, as its documentation says; its types do not.
            limiter = cast(trio.CapacityLimiter, place)
            return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)
        finally:
            if place.held:
                self._abandon(place)

    async def _acquire(self, borrower: object) -> None:
        if self.abandoned == self.total:
            await trio.lowlevel.checkpoint()
            raise ThreadsBusy
        with trio.CancelScope() as wait:
            self._waits.add(wait)
            try:
                await self._limiter.acquire_on_behalf_of(borrower)
            finally:
                self._waits.discard(wait)
        if wait.cancelled_caught:
            raise ThreadsBusy

    def _release(self, place: "_Place", borrower: object) -> None:
        self._abandoned.discard(place)
        self._limiter.release_on_behalf_of(borrower)

    def _abandon(self, place: "_Place") -> None:
        self._abandoned.add(place)
        if self.abandoned == self.total:
            for wait in self._waits:
                wait.cancel()


class _Place:
    """The limiter of one call: Trio acquires it before the thread starts and releases it once the thread has ended."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.held = False

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._threads._acquire(borrower)
        self.held = True

    def release_on_behalf_of(self, borrower: object) -> None:
        self.held = False
        self._threads._release(self, borrower)


_default: trio.lowlevel.RunVar[Threads] = trio.lowlevel.RunVar("sluicegate_tool_threads")


def default_threads() -> Threads:
    """Return the threads that all tools of this Trio run share: MAX_THREADS. Must be called within a Trio run."""
    try:
        return _default.get()
    except LookupError:
        threads = Threads()
        _default.set(threads)
        return threads


def abandoned_threads() -> int:
    """Return how many threads of sync tools run on after their call has ended. Must be called within a Trio run."""
    return default_threads().abandoned
