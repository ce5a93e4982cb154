"""What a run spends while it goes on, told to its budget: of a reply that is under way, by the published estimator."""

import math

import msgspec

from ..machine.deltas import Usage
from ..machine.errors import RunError
from ..machine.history import Request
from ..machine.price import cost_of
from ..machine.run import Run
from ..providers.route import Candidate
from .budget import Budget
from .record import Record

# A cap that nobody asked for is sent only below that: no model refuses it as more than it can say.
SAFE_CAP = 4096


class Spending:
    """Keeps `budget` told of `run`. All of it is synchronous."""

    def __init__(self, budget: Budget, run: Run, record: Record) -> None:
        self._budget = budget
        self._run = run
        self._record = record
        self._tokens = 0  # before the reply that is under way
        self._dollars = 0.0
        self._rate = 0.0  # dollars for one token of it

    def ask(self, candidate: Candidate, prompt: int) -> RunError | None:
        """A request with so many tokens is about to go to `candidate`: charge them; return how the run ends if that is
        too much.
        """
        self._tokens = sum(_tokens(usage) for usage in self._run.spent) + prompt
        self._dollars = sum(step.cost or 0.0 for step in self._record.steps if step.ended is not None)
        self._rate = 0.0
        if candidate.price is not None:
            price, count = candidate.price, candidate.cache_count
            asked = cost_of(Usage(prompt), price, count)
            self._dollars += asked
            self._rate = cost_of(Usage(prompt, 1), price, count) - asked
        return self._budget.charge(self._tokens, self._dollars)

    def capped(self, request: Request) -> Request:
        """Return `request`, whose reply may not be longer than the budget has room for."""
        room = self._budget.room()
        most = min(room.tokens, room.dollars / self._rate if self._rate else math.inf)
        if most >= (SAFE_CAP if request.max_output_tokens is None else request.max_output_tokens):
            return request
        return msgspec.structs.replace(request, max_output_tokens=max(1, int(most)))

    def read(self) -> RunError | None:
        """More of the reply has come: charge it; return how the run ends if that is too much."""
        tokens = self._run.reply_tokens
        return self._budget.charge(self._tokens + tokens, self._dollars + tokens * self._rate)

    def end(self, usage: Usage, dollars: float | None) -> None:
        """The run has ended and cost `usage`, and so many dollars; None: nobody knows."""
        self._budget.end(_tokens(usage), dollars or 0.0)


def _tokens(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens
