"""Who asks, and what they may. It is asked per request, never per token."""

from collections.abc import Iterable
from typing import Protocol, TypeAlias

import msgspec

from ..machine.errors import ErrorCode
from .options import BudgetOptions, Rates
from .problems import Problem

RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]  # names in lower case


class Grants(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a caller may. `models` and `tools` by name, None for all; `detach`: runs that go on without a reader.
    `rates`: how much of it, and what one run and all of a day may spend, None for what everybody may.
    """

    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    detach: bool = True
    rates: Rates | None = None
    run_budget: BudgetOptions | None = None
    day_budget: BudgetOptions | None = None


class Caller(msgspec.Struct, frozen=True):
    """Who asks. A run is its `owner`'s: nobody else finds it. `key` is what they asked with: a key's id, or the owner
    again; `user` the end user whom a token names.
    """

    owner: str
    grants: Grants = Grants()
    key: str = ""
    user: str = ""


class Access(Protocol):
    """Synchronous: whoever has to wait for an answer of somebody else asks them beforehand."""

    def identify(self, headers: RawHeaders) -> Caller:
        """Return who asks. Raises Problem 401, or 503 where that cannot be told now."""
        ...

    async def attend(self) -> None:
        """Do what is to be done beside requests, in the room of the application, until cancelled or nothing is left to
        do. Never raises but Cancelled.
        """
        ...


class Everybody:
    """Asks nobody who they are and lets all start: every run is everybody's."""

    def identify(self, headers: RawHeaders) -> Caller:
        return _EVERYBODY

    async def attend(self) -> None:
        """There is nothing to do."""


_EVERYBODY = Caller("")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sluicegate"'}


def unauthorized() -> Problem:
    """The one answer to all who do not prove who they are: what was wrong with their proof is nothing for them."""
    return Problem(
        401,
        "Authorization: send a valid key as a bearer token.",
        field="Authorization",
        code=ErrorCode.UNAUTHORIZED,
        headers=CHALLENGE,
    )


def forbidden(field: str, message: str) -> Problem:
    """The answer to callers who are known and may not do what they ask for; `field` is what they ask for it with."""
    return Problem(403, f"{field}: {message}.", field=field, code=ErrorCode.UNAUTHORIZED)


def bearer(headers: RawHeaders) -> str:
    """Return the bearer token of a request. Raises Problem 401 if there is none, or several Authorization headers."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        raise unauthorized()
    scheme, _, token = values[0].partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not token or not token.isascii():
        raise unauthorized()
    return token.decode("ascii")
