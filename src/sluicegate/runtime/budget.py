"""What a run may spend, as its driver sees it: the port at which budgets of keys and days hook in."""

import math
from typing import Protocol

import msgspec

from ..machine.errors import RunError


class Room(msgspec.Struct, frozen=True):
    """What is left: tokens, US dollars, seconds; inf for any."""

    tokens: float = math.inf
    dollars: float = math.inf
    seconds: float = math.inf


class Budget(Protocol):
    """One run's budget. All of it is synchronous, and nothing raises. `charge` is called for each read of a reply."""

    def begin(self) -> None:
        """The run begins; its seconds count from now on."""
        ...

    def room(self) -> Room:
        """Return what the run may still spend."""
        ...

    def charge(self, tokens: int, dollars: float) -> RunError | None:
        """The run has spent so much until now, as far as is known or estimated; return how it ends if that is too much.
        What an earlier call said and was too much counts no more.
        """
        ...

    def late(self) -> RunError:
        """Return how a run ends that takes longer than `room().seconds` said when it began."""
        ...

    def end(self, tokens: int, dollars: float) -> None:
        """The run has ended and spent so much. A second time does nothing."""
        ...
