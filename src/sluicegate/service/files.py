"""Small files that may change while the service runs."""

import time
from collections.abc import Callable
from pathlib import Path

LOOK_EVERY = 1.0  # seconds


class Watched:
    """A file that is looked at at most every `LOOK_EVERY` seconds of `now`, which may be any clock. Every method blocks
    as long as the file system takes.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._now = now
        self._looked = now()
        self._seen = _stamp(path)

    def has_changed(self) -> bool:
        """Whether it is another file, or its content changed, since this was last true or it was made."""
        now = self._now()
        if self._looked <= now < self._looked + LOOK_EVERY:
            return False
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._seen:
            return False
        self._seen = stamp
        return True

    def read(self) -> bytes | OSError:
        """Return its content, or why it cannot be read."""
        try:
            return self._path.read_bytes()
        except OSError as error:
            return error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
