"""What the outside may offer to this room."""

from collections.abc import Callable
from typing import Literal, Protocol

Verdict = Literal["accepted", "full", "gone"]


class Sink(Protocol):
    """A straight way into the socket of one reader's response. One owner at a time: the reader's task or the push."""

    on_gone: Callable[[], None] | None
    """Called once when the connection is gone, in the tick that sees it. Must not raise."""

    @property
    def ready(self) -> bool:
        """Whether the response has begun and has not ended, so that its body may be written here."""
        ...

    def cork(self) -> None:
        """Keep what is written next, and write it together with what follows it: only for who writes that at once."""
        ...

    def try_write(self, data: bytes) -> Verdict:
        """Write a piece of the body without waiting.

        accepted: all of it is with the system. full: it is kept, in order; `drain` before the next write. gone:
        nothing was taken and nothing ever will be.
        """
        ...

    async def drain(self) -> None:
        """Wait until what was kept is with the system. Raises BrokenResourceError where the client has left or takes
        too little; may be cancelled without loss. A checkpoint.
        """
        ...
