"""Usage of runs in two entries with one key, the run's id: an intent before the first request to a provider, exactly
one settlement at the end.

An intent without a settlement is a run that is still alive, or one that died with its process. Both calls are
synchronous, so a cancelled run cannot miss one.
"""

from collections import deque
from enum import StrEnum
from typing import Protocol

import msgspec

from ..machine.deltas import Usage


class Source(StrEnum):
    """Who said what a run cost. ESTIMATED also where the provider told of some steps only."""

    PROVIDER = "provider"
    ESTIMATED = "estimated"

    @classmethod
    def of(cls, usage: Usage) -> "Source":
        """Return the source of `usage`."""
        return cls.ESTIMATED if usage.estimated else cls.PROVIDER


class Intent(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="entry", tag="intent"):
    """A run is about to ask a provider for the first time. `prompt_tokens` is what we think the prompt has, `key` is
    what its owner asked with, `cost` what that prompt costs in US dollars, None if the price is not known.

    `at` is in Unix seconds: when a ledger that keeps time took the entry, 0 before.
    """

    run_id: str
    owner: str
    model: str
    prompt_tokens: int
    key: str = ""
    cost: float | None = None
    at: float = 0.0


class Settlement(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="entry", tag="settlement"):
    """What a run cost. `outcome` is a finish reason or an error code; `cost` is in US dollars, None if a price was not
    known; `seconds` is how long the run took; `key` and `at` as in `Intent`.
    """

    run_id: str
    owner: str
    model: str
    steps: int
    usage: Usage
    source: Source
    outcome: str
    cost: float | None = None
    key: str = ""
    seconds: float = 0.0
    at: float = 0.0


class Ledger(Protocol):
    """Where runs note what they cost. Nothing here awaits, and nothing raises: noting must not end a run."""

    @property
    def open_intents(self) -> frozenset[str]:
        """The runs that asked a provider and are not settled."""
        ...

    def intend(self, intent: Intent) -> None:
        """Note that a run is about to ask a provider. A second time, as long as it is open, changes nothing."""
        ...

    def settle(self, settlement: Settlement) -> None:
        """Note what a run cost. A run without an open intent has nothing to settle and is not noted."""
        ...


class MemoryLedger:
    """Keeps open intents, and the last `kept` settlements."""

    def __init__(self, kept: int = 10_000) -> None:
        self.settlements: deque[Settlement] = deque(maxlen=kept)
        self._open: set[str] = set()

    @property
    def open_intents(self) -> frozenset[str]:
        """The runs that asked a provider and are not settled."""
        return frozenset(self._open)

    def intend(self, intent: Intent) -> None:
        """Note that a run is about to ask a provider."""
        self._open.add(intent.run_id)

    def settle(self, settlement: Settlement) -> None:
        """Note what a run cost, if it is open."""
        if settlement.run_id in self._open:
            self._open.remove(settlement.run_id)
            self.settlements.append(settlement)
