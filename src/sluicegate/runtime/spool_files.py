"""The files of a usage spool: numbered segments in a directory that one process at a time may write to."""

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..machine.errors import SluicegateError
from .spool_format import Line, decode_line

_NAME: Final = re.compile(r"(\d{10})\.usage")
_UNNEEDED: Final = 1  # byte at the end of an entry: it is whole without its last newline
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class SpoolError(SluicegateError):
    """The spool's directory cannot be used; the message names it and what to do."""


def segment_path(directory: Path, number: int) -> Path:
    """Return where segment `number` is."""
    return directory / f"{number:010}.usage"


def segment_numbers(directory: Path) -> list[int]:
    """Return the numbers of the segments that are there, the oldest first. Other files mean nothing. Raises OSError."""
    return sorted(int(match[1]) for name in os.listdir(directory) if (match := _NAME.fullmatch(name)))


def read_segment(directory: Path, number: int) -> Iterator[Line]:
    """Yield what the lines of a segment hold. Nothing if it is gone: the writer dropped it meanwhile."""
    try:
        file = segment_path(directory, number).open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if (read := decode_line(line)) is not None:
                yield read


def check_directory(directory: Path) -> None:
    """Look whether a spool may be there, and change nothing. Raises SpoolError if it could not be written."""
    there = next(place for place in (directory, *directory.absolute().parents) if os.path.exists(place))
    if not there.is_dir() or not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise SpoolError(f"usage spool {directory}: cannot be used; name a directory that may be written to.")


def lock_directory(directory: Path) -> int:
    """Make the directory if need be and take it for this process; return the descriptor that holds it until closed.

    The system lets go of it when the process dies, however it dies. Raises SpoolError if another process has it, or if
    it cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise SpoolError(
            f"usage spool {directory}: cannot be used ({error.strerror}); name a directory that may be written to."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolError(
            f"usage spool {directory}: another process writes to it; stop that one, or give each its own directory."
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise SpoolError(
            f"usage spool {directory}: cannot be locked ({error.strerror}); name one on a local disk."
        ) from error
    return descriptor


class Segments:
    """The writer's side of a directory that it has locked: appends to the newest segment and drops the oldest.

    Opening makes the first segment if there is none. Raises OSError.
    """

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._numbers = segment_numbers(directory) or [1]
        self._descriptor = os.open(segment_path(directory, self._numbers[-1]), _FLAGS, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    @property
    def is_full(self) -> bool:
        """Whether the newest segment has its size, so that a new one should be begun."""
        return self._size >= self._segment_bytes

    def append(self, data: bytes) -> int:
        """Append `data` with one write, unless the system takes only part of it; return the segment's number.

        Raises OSError; then a part may be in the file, and all of it is to be appended again.
        """
        view = memoryview(data)
        try:
            while view:
                written = os.write(self._descriptor, view)
                self._size += written
                view = view[written:]
        except OSError:
            if len(view) != _UNNEEDED:
                raise
        return self._numbers[-1]

    def begin(self) -> None:
        """Begin a new segment. Raises OSError; then the old one is still in use, and full only after as much again."""
        number = self._numbers[-1] + 1
        try:
            descriptor = os.open(segment_path(self._directory, number), _FLAGS, 0o600)
        except OSError:
            self._size = 0
            raise
        os.close(self._descriptor)
        self._numbers.append(number)
        self._descriptor, self._size = descriptor, 0

    def drop(self, kept: int, held: int | None) -> None:
        """Delete the oldest segments until `kept` are left, but neither `held` nor any behind it. Raises OSError."""
        while len(self._numbers) > kept and (held is None or self._numbers[0] < held):
            segment_path(self._directory, self._numbers[0]).unlink(missing_ok=True)
            del self._numbers[0]

    def close(self) -> None:
        """Close the newest segment. Every append after it raises OSError."""
        os.close(self._descriptor)
        self._descriptor = -1
