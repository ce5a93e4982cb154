"""The public keys of an issuer (RFC 7517), from a file or a URL, kept current."""

import logging
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import httpx2
import jwt
import msgspec
import trio

from ..machine.errors import SluicegateError
from ..providers.transport import TrioTransport
from .files import Watched

log = logging.getLogger(__name__)

FETCH_SECONDS = 10.0
MAX_BYTES = 1024 * 1024
SOONEST = 10.0  # seconds between two fetches, however many unknown keys are asked for
_URL: Final = ("https://", "http://")


class BadKeySet(SluicegateError):
    """What should be a set of keys is none, or has no key for the algorithm."""


class KeySet:
    """The keys for one algorithm at `place`, a path or URL. Raises BadKeySet where a file cannot be used."""

    def __init__(self, place: str, algorithm: str, refresh_seconds: float) -> None:
        self._place = place
        self._algorithm = algorithm
        self._refresh = refresh_seconds
        self._keys: Mapping[str | None, Any] = {}
        self._wanted = trio.Event()
        self._file = None if place.startswith(_URL) else Watched(Path(place))
        if self._file is not None:
            self._keys = self._read(self._file.read())

    @property
    def is_there(self) -> bool:
        """Whether there were any keys yet."""
        return bool(self._keys)

    def find(self, name: object) -> Any:
        """Return the key of that `kid`, or the only one for a token that names none; None where there is none.
        Synchronous; a key that is unknown is looked for soon.
        """
        self._look()
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        found = self._keys.get(name) if isinstance(name, str) else None
        if found is None:
            self._wanted.set()
        return found

    async def attend(self, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        """Fetch the keys again and again until cancelled, where they are at a URL. Never raises but Cancelled."""
        if self._file is not None:
            return
        carrier = transport or TrioTransport()
        async with httpx2.AsyncClient(transport=carrier, trust_env=False, timeout=FETCH_SECONDS) as http:
            while True:
                self._wanted = trio.Event()
                try:
                    with trio.fail_after(FETCH_SECONDS):
                        self._keys = self._read(await _fetched(http, self._place))
                except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, trio.TooSlowError, BadKeySet) as error:
                    reason = (str(error) or type(error).__name__).splitlines()[0]
                    log.warning("no new keys from %s: %s", self._place, reason)
                await trio.sleep(min(SOONEST, self._refresh))
                with trio.move_on_after(max(0.0, self._refresh - SOONEST) if self.is_there else 0.0):
                    await self._wanted.wait()

    def _look(self) -> None:
        if self._file is None or not self._file.has_changed():
            return
        try:
            self._keys = self._read(self._file.read())
        except BadKeySet as error:
            log.warning("the keys of %s stay as they were: %s", self._place, error)

    def _read(self, data: bytes | OSError) -> Mapping[str | None, Any]:
        if isinstance(data, OSError):
            raise BadKeySet(f"{self._place}: cannot be read: {data.strerror}")
        try:
            members = msgspec.json.decode(data, type=dict[str, Any]).get("keys")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadKeySet(f"{self._place}: is not JSON") from None
        keys = {}
        for member in members if isinstance(members, list) else ():
            if isinstance(member, dict) and member.get("use", "sig") == "sig":
                try:
                    keys[_name(member)] = jwt.PyJWK(member, self._algorithm).key
                except jwt.PyJWTError:
                    continue  # of another kind, for another algorithm
        if not keys:
            raise BadKeySet(f"{self._place}: has no key for {self._algorithm}")
        return keys


def _name(member: dict[str, Any]) -> str | None:
    name = member.get("kid")
    return name if isinstance(name, str) else None


async def _fetched(http: httpx2.AsyncClient, url: str) -> bytes:
    async with http.stream("GET", url) as response:
        response.raise_for_status()
        data = bytearray()
        async with aclosing(response.aiter_bytes()) as pieces:
            async for piece in pieces:
                data += piece
                if len(data) > MAX_BYTES:
                    raise BadKeySet(f"{url}: is longer than {MAX_BYTES} bytes")
        return bytes(data)
