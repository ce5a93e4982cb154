"""Where a reader is in the frames of one run: each frame is taken once, in order, and none is missed unseen."""

import re
from enum import StrEnum

from ..machine.errors import SluicegateError

_ID = re.compile(r"([A-Za-z0-9._]{1,40})-([1-9]\d{0,11})")


class Misplaced(SluicegateError):
    """A frame is not the next one of this run; the message says which was due."""


class Turn(StrEnum):
    """NEXT: the frame is new. SEEN: it was taken before."""

    NEXT = "next"
    SEEN = "seen"


class Place:
    """Behind the frame `after` (`<epoch>-<seq>`), or before the first one. Raises ValueError for what is no such id."""

    def __init__(self, after: str = "") -> None:
        self._epoch, self._seq = "", 0
        if after:
            self._epoch, self._seq = _parse(after)

    @property
    def id(self) -> str:
        """The id of the last frame taken, "" before the first."""
        return f"{self._epoch}-{self._seq}" if self._seq else ""

    def take(self, id: str, *, jump: bool = False) -> Turn:  # noqa: A002 - the field's name
        """Judge the frame `id`, and stand behind it if it is new. With `jump` it makes up for those left out before it.

        Raises Misplaced, and moves nothing, if it is of another run, or not the next one.
        """
        try:
            epoch, seq = _parse(id)
        except ValueError as error:
            raise Misplaced(str(error)) from None
        if self._epoch not in ("", epoch):
            raise Misplaced(f"frame {id} is not of the run that is read (epoch {self._epoch})")
        if seq <= self._seq:
            return Turn.SEEN
        if seq > self._seq + 1 and not jump:
            raise Misplaced(f"frame {id} came where {epoch}-{self._seq + 1} was due")
        self._epoch, self._seq = epoch, seq
        return Turn.NEXT


def _parse(id: str) -> tuple[str, int]:  # noqa: A002 - the field's name
    match = _ID.fullmatch(id)
    if match is None:
        raise ValueError(f"{id!r} is not the id of a frame (<epoch>-<seq>)")
    return match[1], int(match[2])
