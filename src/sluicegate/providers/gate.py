"""The gate before one provider: how many ask it at once, and whether it is set aside because it fails."""

import logging
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import trio

from ..machine.quantities import DOCUMENTED, Count, Seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateOptions:
    """What a provider can be asked. Times in seconds."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    concurrent_requests: Count | None = None
    """Requests to it at once; more go to the next in their model's list, or wait. Without a number, any."""
    set_aside_after: Count = 5
    """After so many failures in a row it is set aside: not asked as long as another one can be."""
    set_aside_seconds: Seconds = 30.0
    """For how long; then one request after the other tries it again."""


class Gate:
    """One provider as all runs see it. All but `acquire` is synchronous; times are Trio's."""

    def __init__(self, name: str, options: GateOptions | None = None) -> None:
        self.name = name
        self._options = options or GateOptions()
        most = self._options.concurrent_requests
        self._places = None if most is None else trio.Semaphore(most)
        self._failures = 0
        self._aside_until = -math.inf

    @property
    def is_aside(self) -> bool:
        """Whether it is set aside, or tried again with nobody knowing yet."""
        return self._failures >= self._options.set_aside_after

    def is_open(self, now: float) -> bool:
        """Whether a request should go here now: it is not set aside, or it is time to try, and there is a place."""
        if self.is_aside and now < self._aside_until:
            return False
        return self._places is None or self._places.value > 0

    async def acquire(self, now: float) -> None:
        """Take a place; wait for it if there is none. A checkpoint only where places are counted."""
        if self.is_aside:
            self._aside_until = now + self._options.set_aside_seconds  # others wait for what becomes of this one
        if self._places is not None:
            await self._places.acquire()

    def release(self) -> None:
        """Give the place back."""
        if self._places is not None:
            self._places.release()

    def note_answer(self) -> None:
        """It answers: it is not set aside any more."""
        if self.is_aside:
            log.warning("provider %s answers again", self.name)
        self._failures = 0

    def note_failure(self, now: float) -> None:
        """It could not be reached, or broke down before its first word."""
        was_aside = self.is_aside
        self._failures += 1
        if self.is_aside:
            self._aside_until = now + self._options.set_aside_seconds
            if not was_aside:
                log.warning(
                    "provider %s is set aside for %g s after %d failures in a row",
                    self.name,
                    self._options.set_aside_seconds,
                    self._failures,
                )
