"""API keys: made once, kept as hashes, looked up by an id that is no secret."""

import hashlib
import hmac
import re
import secrets
from typing import Final, NamedTuple

import msgspec

from .access import Grants

_FORM: Final = re.compile(r"sg-([0-9a-f]{12})-([A-Za-z0-9_-]{43})")
_ID_BYTES, _SECRET_BYTES = 6, 32


class Key(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key, without its secret. `owner` is whose runs are started with it; several keys may have one. Times in Unix
    seconds; a key is good from its making until it expires or is revoked, whichever is first.
    """

    id: str
    owner: str
    hash: str
    created: float
    expires: float | None = None
    revoked: float | None = None
    grants: Grants = Grants()

    def is_good(self, now: float) -> bool:
        """Whether it may be used at `now`."""
        return not any(end is not None and now >= end for end in (self.expires, self.revoked))


class NewKey(NamedTuple):
    """A key just made, and `text`, which is what its user sends and is nowhere kept."""

    key: Key
    text: str


def make_key(owner: str, now: float, grants: Grants, expires: float | None = None) -> NewKey:
    """Return a new key with a secret of 256 random bits."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    return NewKey(
        Key(key_id, owner, _hash(key_id, secret), now, expires, grants=grants),
        f"sg-{key_id}-{secret}",
    )


def id_of(text: str) -> str | None:
    """Return the id of the key that `text` would be, None for what cannot be a key."""
    found = _FORM.fullmatch(text)
    return found[1] if found else None


def is_secret_of(key: Key | None, text: str) -> bool:
    """Whether `text` is `key` with its secret; the time that it takes does not depend on the secret, nor on whether
    there is such a key.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        return False
    same = hmac.compare_digest(_hash(found[1], found[2]), _NOBODYS if key is None else key.hash)
    return same and key is not None


def _hash(key_id: str, secret: str) -> str:
    # One round is enough: 256 random bits cannot be guessed, and a slow hash would be paid on each request.
    return hashlib.sha256(f"{key_id}-{secret}".encode()).hexdigest()


_NOBODYS: Final = _hash("", "")
