"""The file of keys: one JSON document, replaced as a whole, read again when it has changed."""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..machine.errors import SluicegateError
from .access import Caller, RawHeaders, bearer, unauthorized
from .files import Watched
from .keys import Key, id_of, is_secret_of

log = logging.getLogger(__name__)


class KeyFileError(SluicegateError):
    """The file of keys cannot be read or written; the message says why and names no key."""


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[Key] = []


class KeyFile:
    """Changes the file, one process at a time. Every method blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Key]:
        """Return all keys, in the order in which they were made; none if there is no file yet. Raises KeyFileError."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Document).keys
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise KeyFileError(f"{self._path}: cannot be read: {_reason(error)}") from None

    def add(self, key: Key) -> None:
        """Add `key`. Raises KeyFileError."""
        with self._locked():
            self._write([*self.read(), key])

    def revoke(self, key_id: str, now: float) -> bool:
        """Revoke the key of that id from `now` on; False if there is none. Raises KeyFileError."""
        with self._locked():
            keys = self.read()
            if all(key.id != key_id for key in keys):
                return False
            revoked = [
                msgspec.structs.replace(key, revoked=now) if key.id == key_id and key.revoked is None else key
                for key in keys
            ]
            self._write(revoked)
            return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self._path.with_name(self._path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise KeyFileError(f"{self._path}: cannot be locked: {_reason(error)}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, keys: list[Key]) -> None:
        data = msgspec.json.format(msgspec.json.encode(_Document(keys))) + b"\n"
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            descriptor = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            new.replace(self._path)
        except OSError as error:
            raise KeyFileError(f"{self._path}: cannot be written: {_reason(error)}") from None


class KeyRing:
    """An `Access` by the keys of a file. Synchronous; a key that is revoked is refused a second later at most. A file
    that has become unreadable changes nothing, and is logged. `now` in Unix seconds.

    Raises KeyFileError when it is made of a file that cannot be read.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._file = KeyFile(path)
        self._watched = Watched(path, now)
        self._now = now
        self._keys = self._by_id()

    def identify(self, headers: RawHeaders) -> Caller:
        """Return the owner of the key that `headers` bring. Raises Problem 401."""
        text = bearer(headers)
        if self._watched.has_changed():
            self._read_again()
        key = self._keys.get(id_of(text) or "")
        if not is_secret_of(key, text) or key is None or not key.is_good(self._now()):
            raise unauthorized()
        return Caller(key.owner, key.grants, key.id)

    async def attend(self) -> None:
        """The file is looked at when somebody asks."""

    def _read_again(self) -> None:
        try:
            self._keys = self._by_id()
        except KeyFileError as error:
            log.warning("the keys stay as they were: %s", error)

    def _by_id(self) -> Mapping[str, Key]:
        return {key.id: key for key in self._file.read()}


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
