"""The frozen options of this room."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr

from ..machine.quantities import DOCUMENTED, Bytes, Count, Seconds, SomeSeconds
from .addresses import networks_of
from .cors import checked_origin

SomeDollars: TypeAlias = Annotated[float, Gt(0)]


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
class BudgetOptions:
    """What may be spent; without a number, any."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    tokens: Count | None = None
    """Tokens, of prompts and replies."""
    dollars: SomeDollars | None = None
    """US dollars, by the prices of the models."""
    seconds: SomeSeconds | None = None
    """Seconds that runs take."""


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
    run_budget: BudgetOptions = field(default_factory=BudgetOptions)
    """For each run whose key has no budget of its own."""
    key_budget: BudgetOptions = field(default_factory=BudgetOptions)
    """For each key that has no budget of its own, and for each owner of tokens: all its runs of one day, by UTC."""
    day_budget: BudgetOptions = field(default_factory=BudgetOptions)
    """For all runs of one day together, by UTC."""
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
    user_claim: str = ""
    """The claim that names the end user, for `limits.user`; it counts for more than the header. Without it, none."""
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


class MetricsAccess(StrEnum):
    """Who may read metrics. KEY: whoever may use the service. OPEN: everybody. OFF: nobody, and none are counted."""

    KEY = "key"
    OPEN = "open"
    OFF = "off"


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
    metrics: MetricsAccess = MetricsAccess.KEY
    """Who may read `/metrics`: those with a key, where keys or tokens are asked for; everybody; nobody."""

    page: bool = True
    """Whether there is a page at `/` to chat with the service, and to see it at work."""
    tell_cost: bool = True
    """Whether the end of an answer tells what it cost, in US dollars, where the price is known."""
    trace: bool = False
    """Whether answers tell each transition of the two state machines, as `trace` frames; the page shows them."""

    proxy_silence_seconds: SomeSeconds = inf
    """After how much silence a proxy in front gives up; `sluicegate check` warns where heartbeats are rarer."""
    proxy_seconds: SomeSeconds = inf
    """After what time a proxy in front cuts a response off, however lively; `sluicegate check` warns where runs may
    take longer."""

    def __post_init__(self) -> None:
        for origin in self.cors_origins:
            checked_origin("cors_origins", origin)
        networks_of("trusted_proxies", self.trusted_proxies)


_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[!-~]([\t -~]*[!-~])?")


@dataclass(frozen=True)
class TelemetryOptions:
    """Traces and metrics for OpenTelemetry. Nothing of what is said is in them: no text, no arguments, no results."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    otlp_endpoint: str = ""
    """Where a collector takes OTLP over HTTP, such as `http://127.0.0.1:4318`; "" for no telemetry. Needs the packages
    of the extra `otel`."""
    otlp_headers: SecretStr | None = None
    """Headers for it, `NAME=VALUE,NAME=VALUE`, what is special in a value as %XX; without it,
    OTEL_EXPORTER_OTLP_HEADERS. Better not in a file: SLUICEGATE_TELEMETRY__OTLP_HEADERS."""
    service_name: str = ""
    """What this service is called there; "" for OTEL_SERVICE_NAME, or else `sluicegate`."""
    sample_ratio: Annotated[float, Ge(0), Le(1)] = 1.0
    """The part of all runs whose spans are sent, unless who asks has decided (`traceparent`). Metrics have all runs."""

    def __post_init__(self) -> None:
        if self.otlp_endpoint and not self.otlp_endpoint.startswith(("https://", "http://")):
            raise ValueError(f"otlp_endpoint: must begin with https:// or http://, is {self.otlp_endpoint!r}")
        self.headers()

    def headers(self) -> dict[str, str] | None:
        """Return the headers; None where they are not set. Raises ValueError, without a value in it."""
        if self.otlp_headers is None:
            return None
        headers = {}
        for each in self.otlp_headers.get_secret_value().split(","):
            name, equals, value = (part.strip() for part in each.partition("="))
            if not equals or not _HEADER.fullmatch(name) or not _HEADER_VALUE.fullmatch(unquote(value)):
                raise ValueError("otlp_headers: must be NAME=VALUE,NAME=VALUE; write what is special in a value as %XX")
            headers[name.lower()] = unquote(value)
        return headers
