"""The deadlines of one run, each with its own words. Pure: times are handed in, nothing waits here."""

import math

from ..machine.errors import ErrorCode, RunError
from .options import RunOptions


def _late(message: str) -> RunError:
    return RunError(ErrorCode.TIMEOUT, message, retryable=True)


RUN_LATE = _late("The run took longer than its time limit (run_seconds).")
STEP_LATE = _late("One step of the run, a reply and its tools, took longer than its time limit (step_seconds).")
NO_FIRST_DELTA = _late("The provider did not begin its reply in time (first_delta_seconds).")
STALLED = _late("The provider stopped in the middle of its reply (stall_seconds).")
ABANDONED = RunError(ErrorCode.CANCELLED, "The client disconnected and did not come back in time (grace_seconds).")


class Deadlines:
    """When a run is over, whatever else happens. Times are in seconds, on one clock.

    `heard_at` is when the reply went on last, inf while nothing is expected of the provider or nothing has come yet.
    Where it is not inf it may be set directly: that is `hear` without its cost.
    """

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._run = math.inf
        self._limit = (math.inf, RUN_LATE)
        self._step = math.inf
        self._first_delta = math.inf
        self._grace = math.inf
        self.heard_at = math.inf

    def begin_run(self, now: float) -> None:
        """The run begins."""
        self._run = now + self._options.run_seconds

    def limit(self, due: float, error: RunError) -> None:
        """The run ends with `error` if it has not ended then."""
        self._limit = (due, error)

    def begin_step(self, now: float) -> None:
        """A request goes to the provider."""
        self._step = now + self._options.step_seconds
        self._first_delta = now + self._options.first_delta_seconds
        self.heard_at = math.inf

    def hear(self, now: float) -> None:
        """The reply went on, or we read on after a pause of our own within it."""
        self._first_delta = math.inf
        self.heard_at = now

    def stop_listening(self) -> None:
        """Nothing is expected of the provider: its reply is over, or we ourselves do not read."""
        self._first_delta = math.inf
        self.heard_at = math.inf

    def be_left(self, now: float) -> None:
        """The last reader of a detached run left."""
        self._grace = now + self._options.grace_seconds

    def be_joined(self) -> None:
        """A reader is there."""
        self._grace = math.inf

    def earliest(self) -> tuple[float, RunError]:
        """Return the first deadline, inf if there is none, and how the run ends then."""
        return min(
            (self._run, RUN_LATE),
            self._limit,
            (self._step, STEP_LATE),
            (self._first_delta, NO_FIRST_DELTA),
            (self.heard_at + self._options.stall_seconds, STALLED),
            (self._grace, ABANDONED),
            key=_due,
        )


def _due(deadline: tuple[float, RunError]) -> float:
    return deadline[0]
