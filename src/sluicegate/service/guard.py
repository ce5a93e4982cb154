"""Keys and tokens together: what a bearer token looks like decides who is asked."""

import trio

from .access import Access, Caller, RawHeaders, bearer
from .key_file import KeyRing
from .keys import id_of
from .tokens import Tokens


class Guard:
    """An `Access` by API keys and, for everything that does not look like one, by JSON Web Tokens."""

    def __init__(self, keys: KeyRing, tokens: Tokens) -> None:
        self._keys = keys
        self._tokens = tokens

    def identify(self, headers: RawHeaders) -> Caller:
        """Return who asks. Raises Problem 401, or 503 where an issuer's keys cannot be had."""
        access: Access = self._tokens if id_of(bearer(headers)) is None else self._keys
        return access.identify(headers)

    async def attend(self) -> None:
        """Keep both current until cancelled. Never raises but Cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keys.attend)
            nursery.start_soon(self._tokens.attend)
