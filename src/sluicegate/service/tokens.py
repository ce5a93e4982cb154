"""JSON Web Tokens of configured issuers: each with one algorithm, whatever a token says of itself.

A token is told apart by its `iss` and then verified by that issuer's keys alone (RFC 8725, sections 3.1, 3.8 and 3.9).
Headers that point to keys (`jku`, `x5u`, `jwk`) are not looked at.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import jwt
import trio

from ..machine.errors import ErrorCode
from .access import Caller, Grants, RawHeaders, bearer, unauthorized
from .key_sets import KeySet
from .options import IssuerOptions
from .problems import Problem

MAX_OWNER = 256  # characters
_REQUIRED: Final = ["exp", "iss", "aud"]


class Tokens:
    """An `Access` by tokens. `attend` fetches the keys of issuers that publish them at a URL."""

    def __init__(self, issuers: Sequence[IssuerOptions]) -> None:
        self._issuers = {options.issuer: _Issuer(options) for options in issuers}

    def identify(self, headers: RawHeaders) -> Caller:
        """Return whom a token is about. Raises Problem 401, and 503 as long as its issuer's keys cannot be had."""
        token = bearer(headers)
        try:
            said = jwt.decode_complete(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            raise unauthorized() from None
        claimed = said["payload"].get("iss")
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise unauthorized()
        return issuer.verified(token, said["header"].get("kid"))

    async def attend(self) -> None:
        """Keep the issuers' keys current until cancelled. Never raises but Cancelled."""
        async with trio.open_nursery() as nursery:
            for issuer in self._issuers.values():
                nursery.start_soon(issuer.keys.attend)


class _Issuer:
    def __init__(self, options: IssuerOptions) -> None:
        self.keys = KeySet(options.jwks, options.algorithm, options.refresh_seconds)
        self._options = options
        self._grants = Grants(options.models, options.tools, options.detach)

    def verified(self, token: str, kid: object) -> Caller:
        try:
            key = self.keys.find(kid)
            if key is None:
                if not self.keys.is_there:
                    raise Problem(503, "The issuer's keys cannot be had now; try again.", code=ErrorCode.UPSTREAM_ERROR)
                raise unauthorized()
            claims = jwt.decode(
                token,
                key,
                algorithms=[self._options.algorithm],
                audience=self._options.audience,
                issuer=self._options.issuer,
                leeway=self._options.leeway_seconds,
                options={"require": _REQUIRED},
            )
        except (jwt.InvalidTokenError, OverflowError, ValueError):  # the latter two: of numbers no clock can show
            raise unauthorized() from None
        owner = self._owner(claims)
        return Caller(owner, self._grants, owner, self._user(claims))

    def _owner(self, claims: dict[str, Any]) -> str:
        subject = claims.get(self._options.owner_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_OWNER or not _is_finite(claims["exp"]):
            raise unauthorized()
        return f"{self._options.issuer} {subject}"

    def _user(self, claims: dict[str, Any]) -> str:
        user = claims.get(self._options.user_claim, "") if self._options.user_claim else ""
        if not isinstance(user, str) or len(user) > MAX_OWNER:
            raise unauthorized()
        return user


def _is_finite(when: Any) -> bool:
    return isinstance(when, int | float) and math.isfinite(when)
