"""The frozen options of this room."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from ..machine.quantities import DOCUMENTED, Bytes, Count, Seconds, SomeSeconds
from .addresses import networks_of
from .cors import checked_origin


@dataclass(frozen=True)
class Rates:
    """How much is allowed; without a number, any."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    requests_per_minute: Count | None = None
    """Runs that start within any 60 seconds."""
    tokens_per_minute: Count | None = None
    """Tokens, of prompts and replies, within any 60 seconds; a run that is under way counts with its prompt."""
    concurrent_runs: Count | None = None
    """Runs at once."""


@dataclass(frozen=True)
class LimitOptions:
    """What is allowed for each key (or owner of tokens), for each model, end user and address."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    key: Rates = field(default_factory=Rates)
    """For each key that has no rates of its own, and for each owner of tokens; without keys, for all together."""
    model: Rates = field(default_factory=Rates)
    """For each model, all callers together."""
    user: Rates = field(default_factory=Rates)
    """For each end user, where the caller names one."""
    user_header: str = ""
    """The header in which a caller's backend names the end user; without it, there are none."""
    address: Rates = field(default_factory=Rates)
    """For each address of a client, all that are in one IPv6 /64 together."""


_HERE: Final = {("http", "127.0.0.1"), ("http", "::1"), ("http", "localhost")}  # scheme and host
Algorithm: TypeAlias = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@dataclass(frozen=True)
class IssuerOptions:
    """An issuer of JSON Web Tokens."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    issuer: str
    """What a token's `iss` must be."""
    audience: str
    """What a token's `aud` must be or hold: this service."""
    jwks: str
    """The issuer's public keys, a JSON Web Key Set: a path, or a URL from which they are fetched."""
    algorithm: Algorithm = "RS256"
    """The only algorithm that is accepted, whatever a token says."""
    owner_claim: str = "sub"
    """The claim that says whose the runs are."""
    leeway_seconds: Seconds = 30.0
    """How far the clocks may differ."""
    refresh_seconds: SomeSeconds = 300.0
    """How often keys are fetched from a URL; earlier, if a token names a key that is not known."""
    models: tuple[str, ...] | None = None
    """The models that its tokens allow; without it, all."""
    tools: tuple[str, ...] | None = None
    """The tools that its tokens allow; without it, all."""
    detach: bool = True
    """Whether its tokens allow runs that go on without a reader."""

    def __post_init__(self) -> None:
        scheme, separator, _ = self.jwks.partition("://")
        if not separator:
            return
        host = urlsplit(self.jwks).hostname
        if not host or (scheme != "https" and (scheme, host) not in _HERE):
            raise ValueError(
                f"jwks: must be a path, or a URL https://HOST/... (http:// on this machine only), not {self.jwks!r}"
            )


@dataclass(frozen=True)
class AccessOptions:
    """Who may use the service. Without keys and issuers it is open to everybody, and then serves this machine only."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    keys: Path | None = None
    """The file of API keys that `sluicegate keys` writes; each request must bring one of them."""
    issuers: tuple[IssuerOptions, ...] = ()
    """Who issues JSON Web Tokens that are accepted beside keys, each as a table `[[access.issuers]]`."""
    open: bool = False
    """Whether everybody may use the service over the network where there are neither keys nor issuers."""


@dataclass(frozen=True)
class ServiceOptions:
    """How requests are taken. Times in seconds, sizes in bytes."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    max_body_bytes: Bytes = 8 * 1024 * 1024
    """The largest body of a request."""
    body_seconds: Seconds = 30.0
    """Until the body of a request is there."""
    hold_seconds: Seconds = 2.0
    """How long the status of a response waits for the first word of the provider."""
    detach: bool = True
    """Whether a run may go on for a while without a reader, where its request asks for that."""
    drain_seconds: Seconds = 20.0
    """How long live runs may go on when the server is told to stop."""
    cors_origins: tuple[str, ...] = ()
    """The origins whose pages may use the service from a browser, such as `https://app.example.com`; no patterns."""
    # Not even this machine by default: whoever is on it could choose the address that they are counted for.
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies whose `X-Forwarded-For` is believed, such as `127.0.0.1`; of nobody else's."""

    def __post_init__(self) -> None:
        for origin in self.cors_origins:
            checked_origin("cors_origins", origin)
        networks_of("trusted_proxies", self.trusted_proxies)
