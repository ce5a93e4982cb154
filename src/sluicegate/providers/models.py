"""Which provider serves which model, and the names that clients may use."""

from collections.abc import Mapping

import trio

from ..machine.errors import SluicegateError
from .base import Provider


class UnknownModel(SluicegateError):
    """No provider serves this model name."""


class Models:
    """Providers by name, and the model that is used where a request names none.

    A model name may be prefixed with the provider's, as in "anthropic:claude-sonnet-5". Without a prefix, names that
    begin with "claude" go to `anthropic` where that is there, all others to the default provider.
    """

    def __init__(self, providers: Mapping[str, Provider], default: str, default_model: str) -> None:
        self._providers = dict(providers)
        self._default = default
        self.default_model = default_model

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers' names."""
        return tuple(self._providers)

    def resolve(self, name: str) -> tuple[Provider, str]:
        """Return the provider that serves `name` ("" for the default) and the model's own name there.

        Raises UnknownModel for a prefix in front of a name that only another provider could serve.
        """
        if not name:
            return self._providers[self._default], self.default_model
        prefix, colon, rest = name.partition(":")
        if colon and prefix in self._providers:
            if not rest:
                raise UnknownModel(f"{name!r} names a provider but no model; write {prefix}:MODEL")
            return self._providers[prefix], rest
        if name.startswith("claude") and "anthropic" in self._providers:
            return self._providers["anthropic"], name
        return self._providers[self._default], name

    async def aclose(self) -> None:
        """Close every provider's client. Cancelled: the rest is closed all the same, without waiting."""
        async with trio.open_nursery() as nursery:
            for provider in self._providers.values():
                nursery.start_soon(provider.aclose)
