"""Usage of runs, in memory: an intent before each request to a provider, exactly one settlement at the end.

An intent without a settlement is a run that is still alive. Both are synchronous, so a cancelled run cannot miss one.
"""

from collections import deque

import msgspec

from ..machine.deltas import Usage


class Settlement(msgspec.Struct, frozen=True):
    """What a run cost; estimated where a provider never told. `outcome` is a finish reason or an error code."""

    run_id: str
    model: str
    steps: int
    usage: Usage
    outcome: str


class Ledger:
    """Keeps open intents, and the last `kept` settlements."""

    def __init__(self, kept: int = 10_000) -> None:
        self.settlements: deque[Settlement] = deque(maxlen=kept)
        self._open: set[str] = set()

    @property
    def open_intents(self) -> frozenset[str]:
        """The runs that asked a provider and are not settled."""
        return frozenset(self._open)

    def intend(self, run_id: str) -> None:
        """Note that `run_id` is about to ask a provider; repeated for its later steps, which changes nothing."""
        self._open.add(run_id)

    def settle(self, settlement: Settlement) -> None:
        """Note what a run cost. A run that never asked a provider has nothing to settle and is not noted."""
        if settlement.run_id in self._open:
            self._open.remove(settlement.run_id)
            self.settlements.append(settlement)
