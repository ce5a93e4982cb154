"""Who asks, and what they may: the port at which keys, rates and budgets hook in. It is asked per request, never per
token.
"""

from collections.abc import Iterable
from typing import Protocol, TypeAlias

from .body import ChatRequest

RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]  # names in lower case


class Access(Protocol):
    """Synchronous: whoever has to wait for an answer of somebody else asks them beforehand."""

    def owner(self, headers: RawHeaders) -> str:
        """Return who asks. A run is its owner's: nobody else finds it. Raises Problem 401 or 403."""
        ...

    def admit(self, owner: str, asked: ChatRequest) -> None:
        """Let `owner` start a run. Raises Problem 402, 403 or 429."""
        ...


class Everybody:
    """Asks nobody who they are and lets all start: every run is everybody's."""

    def owner(self, headers: RawHeaders) -> str:
        return ""

    def admit(self, owner: str, asked: ChatRequest) -> None:
        """Nothing is refused."""
