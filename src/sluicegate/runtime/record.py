"""What happened in a run, and when: kept while it goes on, read by those who observe it once it has ended.

Times are Trio's, in seconds; `unix` makes Unix times of them.
"""

import math
import time
from array import array
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec
import trio

from ..machine.deltas import FinishReason, Usage
from ..machine.errors import ErrorCode, RunError
from ..machine.events import Event, RunFailed
from ..providers.route import Candidate
from .trace import Trace, new_span_id

# Upper bounds, in seconds, of the pauses between two reads of a reply that brought something.
PAUSES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf)

# A provider that limits rates, or refuses a request, is no provider that fails.
_FAILURES: Final = (ErrorCode.UPSTREAM_ERROR, ErrorCode.TIMEOUT, ErrorCode.OVERLOADED)


class Attempt(msgspec.Struct):
    """One request to a provider. `ended` is when it had its first word, or failed before that with `error`. `model` is
    what the provider calls the model, `span_id` its place in the run's trace; "" where there is none.
    """

    candidate: Candidate
    began: float
    ended: float | None = None
    error: RunError | None = None
    model: str = ""
    span_id: str = ""

    def answered(self, now: float, error: RunError | None, model: str = "") -> None:
        """Its first word came, of `model`, or `error` before it; the provider's gate is told, too."""
        self.ended, self.error, self.model = now, error, model
        gate = self.candidate.gate
        if error is None:
            gate.note_answer()
        elif error.retryable and error.code in _FAILURES:
            gate.note_failure(now)


class Fallback(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the log says of an attempt that failed before its first word, with another one to follow."""

    run_id: str
    provider: str
    model: str
    outcome: ErrorCode
    reason: str = ""


class StepRecord(msgspec.Struct):
    """One step. `usage` is None while its reply goes on, or where nothing was spent. `ended` is when the reply was
    over; its tools have times of their own. `finish_reason` is None where the reply was cut off.
    """

    number: int
    began: float
    attempts: list[Attempt] = []
    ended: float | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None

    @property
    def candidate(self) -> Candidate | None:
        """Who was asked last."""
        return self.attempts[-1].candidate if self.attempts else None

    @property
    def first_word(self) -> float | None:
        """When the reply began; None where it had no word."""
        return self.attempts[-1].ended if self.attempts and self.attempts[-1].error is None else None

    @property
    def cost(self) -> float | None:
        """US dollars; None if nobody knows the price."""
        candidate = self.candidate
        if self.usage is None:
            return 0.0
        return None if candidate is None else candidate.cost_of(self.usage)


class CallOutcome(StrEnum):
    """How a tool call ended. ERROR: the model was told of an error. CANCELLED: with its run."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"


class ToolRecord(msgspec.Struct):
    """One tool call; `ended` is None while it runs."""

    step: int
    call_id: str
    name: str
    began: float
    ended: float | None = None
    outcome: CallOutcome = CallOutcome.CANCELLED


class Record:
    """One run. `first_word` and `ended` are None until they are; `pauses` counts the pauses by the bounds of PAUSES.
    `trace` is its place in a trace, None where it is not traced.
    """

    def __init__(self, began: float) -> None:
        self.began = began
        self.trace: Trace | None = None
        self.first_word: float | None = None
        self.ended: float | None = None
        self.steps: list[StepRecord] = []
        self.tools: list[ToolRecord] = []
        self.pauses = array("I", (0,) * len(PAUSES))  # a third of a list
        self._unix = time.time() - began

    @classmethod
    def begun(cls) -> "Record":
        """Return the record of a run that begins now."""
        return cls(trio.current_time())

    def unix(self, at: float) -> float:
        """Return the Unix time of `at`."""
        return self._unix + at

    def begin_step(self, number: int, now: float) -> None:
        """A step begins."""
        self.steps.append(StepRecord(number, now))

    def begin_attempt(self, candidate: Candidate) -> Attempt:
        """A request of the last step goes to `candidate`."""
        attempt = Attempt(candidate, trio.current_time())
        if self.trace is not None:
            attempt.span_id = new_span_id()
        self.steps[-1].attempts.append(attempt)
        return attempt

    def begin_call(self, call_id: str, name: str) -> ToolRecord:
        """A tool call of the last step begins."""
        self.tools.append(ToolRecord(len(self.steps), call_id, name, trio.current_time()))
        return self.tools[-1]

    def note_first_word(self, event: Event) -> None:
        """`event` is the first that tells whether the provider answers."""
        if not isinstance(event, RunFailed):
            self.first_word = trio.current_time()

    def end_step(self, spent: Sequence[Usage], reasons: Sequence[FinishReason | None]) -> None:
        """The reply of the last step is over; `spent` and `reasons` have what each step came to, in order. A second
        time does nothing.
        """
        if not self.steps or (step := self.steps[-1]).ended is not None:
            return
        step.ended = trio.current_time()
        if step.number <= len(spent):
            step.usage, step.finish_reason = spent[step.number - 1], reasons[step.number - 1]

    @property
    def cost(self) -> float | None:
        """What all steps together cost, in US dollars; None if the price of one is not known."""
        total = 0.0
        for step in self.steps:
            cost = step.cost
            if cost is None:
                return None
            total += cost
        return total
