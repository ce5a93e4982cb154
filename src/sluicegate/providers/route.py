"""Who may answer for a model name, in which order, and who is asked next when one does not."""

import random

import msgspec

from ..machine.deltas import Usage
from ..machine.errors import ErrorCode, RunError
from ..machine.price import CacheCount, Price, cost_of
from .base import Provider
from .gate import Gate

FIRST_WAIT = 0.5  # seconds before the first retry, doubled for each further one, as the official SDKs do
LONGEST_WAIT = 8.0  # seconds, unless the provider itself names a time
LONGEST_ASKED_WAIT = 60.0  # seconds; who is told to wait longer fails at once
# A provider's refusal that concerns the request itself will be the next provider's, too.
_FINAL = (ErrorCode.INVALID_REQUEST, ErrorCode.CONTENT_FILTER)


class Candidate(msgspec.Struct, frozen=True):
    """One that may answer: a provider and its own name for the model. `price` None: not known."""

    provider: Provider
    gate: Gate
    model: str
    price: Price | None = None
    cache_count: CacheCount = CacheCount.INSIDE

    def cost_of(self, usage: Usage) -> float | None:
        """Return what a reply costs here, in US dollars; None if the price is not known."""
        return None if self.price is None else cost_of(usage, self.price, self.cache_count)


class Route(msgspec.Struct, frozen=True):
    """The way to a model: the name that clients know it by, its candidates in order, how often all of them are asked
    again, and the most tokens that a reply may have there (None for the provider's own).
    """

    model: str
    candidates: tuple[Candidate, ...]
    max_retries: int = 0
    max_output_tokens: int | None = None

    def cap(self, asked: int | None) -> int | None:
        """Return the most tokens of a reply for which `asked` were asked, None for the provider's own."""
        return min((each for each in (asked, self.max_output_tokens) if each is not None), default=None)


class Turns:
    """The attempts of one step. The candidate that answered the step before, `first`, is asked first: what it keeps
    between steps (a cache, the signatures of its reasoning) is nobody else's.
    """

    def __init__(self, route: Route, first: Candidate | None = None) -> None:
        self._left = sorted(route.candidates, key=lambda candidate: candidate is not first)
        self._again: list[Candidate] = []  # failed in this round in a way that may pass
        self._asked: Candidate | None = None
        self._retries = route.max_retries
        self._round = 0
        self._wait = 0.0

    def next(self, now: float) -> Candidate:
        """Return who is asked now: the first whose gate is open, and where none is, the first one all the same."""
        self._asked = next((each for each in self._left if each.gate.is_open(now)), self._left[0])
        self._left.remove(self._asked)
        return self._asked

    def goes_on(self, error: RunError) -> bool:
        """Whether another attempt follows the one that failed with `error`, before its first word."""
        if error.code in _FINAL:
            return False
        asked_to_wait = 0.0 if error.retry_after_ms is None else error.retry_after_ms / 1000
        if error.retryable and self._asked is not None and asked_to_wait <= LONGEST_ASKED_WAIT:
            self._again.append(self._asked)
        if self._left:
            return True
        if not self._again or self._round >= self._retries:
            return False
        self._wait = asked_to_wait or min(FIRST_WAIT * 2**self._round, LONGEST_WAIT) * _jitter()
        self._round += 1
        self._left, self._again = self._again, []
        return True

    def take_wait(self) -> float:
        """Return the seconds to wait before the next attempt: what the provider said, else longer for each round."""
        wait, self._wait = self._wait, 0.0
        return wait


def _jitter() -> float:
    return random.uniform(0.75, 1.0)  # noqa: S311 - so that not all come back at once
