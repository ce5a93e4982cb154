"""The names that clients use for models, and who answers for each."""

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec
import trio

from ..machine.errors import SluicegateError
from ..machine.price import CacheCount, Price
from .base import Provider
from .gate import Gate
from .options import ModelOptions
from .route import Candidate, Route


class UnknownModel(SluicegateError):
    """No provider serves this model name."""


class Served(msgspec.Struct, frozen=True):
    """A provider that models can be had from. `price` gives the price of one of its models, None if it is not known."""

    provider: Provider
    gate: Gate
    price: Callable[[str], Price | None] = lambda _model: None
    cache_count: CacheCount = CacheCount.INSIDE

    def candidate(self, model: str) -> Candidate:
        """Return `model` of this provider as one that may answer."""
        return Candidate(self.provider, self.gate, model, self.price(model), self.cache_count)


class Models:
    """Providers by name, and the model that is used where a request names none.

    With `names` only these may be asked for. Without them a model name may be prefixed with the provider's, as in
    "anthropic:claude-sonnet-5"; without a prefix, names that begin with "claude" go to `anthropic` where that is there,
    all others to the default provider. All are asked again up to `max_retries` times where a failure may pass.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider | Served],
        default: str,
        default_model: str,
        names: Mapping[str, ModelOptions] | None = None,
        max_retries: int = 0,
    ) -> None:
        self._served = {
            name: each if isinstance(each, Served) else Served(each, Gate(name)) for name, each in providers.items()
        }
        self._default = default
        self.default_model = default_model
        self._max_retries = max_retries
        self._routes = {name: self._route(name, options) for name, options in (names or {}).items()}

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers' names."""
        return tuple(self._served)

    @property
    def served(self) -> Mapping[str, Served]:
        """The providers by name."""
        return self._served

    @property
    def routes(self) -> Mapping[str, Route]:
        """The ways to the models that may be asked for by name; empty where any name may be."""
        return self._routes

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The providers' gates."""
        return tuple(served.gate for served in self._served.values())

    @property
    def is_closed(self) -> bool:
        """Whether only `names` may be asked for."""
        return bool(self._routes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that may be asked for, the default one first; where any may be, that one only."""
        return tuple(dict.fromkeys((self.default_model, *self._routes)))

    def default_for(self, allowed: Collection[str] | None) -> str:
        """Return the model of requests that name none, for a caller that may ask for `allowed` only (None: for all)."""
        if allowed is None or self.default_model in allowed or len(allowed) != 1:
            return self.default_model
        return next(iter(allowed))

    def resolve(self, name: str) -> Route:
        """Return the way to the model called `name` ("" for the default).

        Raises UnknownModel for a name that is not in the table of models, or a prefix without a model behind it.
        """
        name = name or self.default_model
        if self.is_closed:
            route = self._routes.get(name)
            if route is None:
                raise UnknownModel(f"{name!r} is not a model here; GET /models has those that are")
            return route
        prefix, colon, rest = name.partition(":")
        if colon and prefix in self._served:
            if not rest:
                raise UnknownModel(f"{name!r} names a provider but no model; write {prefix}:MODEL")
            return self._to(prefix, rest)
        if name != self.default_model and name.startswith("claude") and "anthropic" in self._served:
            return self._to("anthropic", name)
        return self._to(self._default, name)

    async def aclose(self) -> None:
        """Close every provider's client. Cancelled: the rest is closed all the same, without waiting."""
        async with trio.open_nursery() as nursery:
            for served in self._served.values():
                nursery.start_soon(served.provider.aclose)

    def _to(self, provider: str, model: str) -> Route:
        return Route(model, (self._served[provider].candidate(model),), self._max_retries)

    def _route(self, name: str, options: ModelOptions) -> Route:
        return Route(name, tuple(self._candidates(options.use)), self._max_retries, options.max_output_tokens)

    def _candidates(self, use: Iterable[str]) -> Iterable[Candidate]:
        for each in use:
            provider, _, model = each.partition(":")
            yield self._served[provider].candidate(model)
