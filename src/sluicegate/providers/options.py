"""Providers and models as they are set: the tables `[providers.NAME]` and `[models.NAME]`."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from annotated_types import Ge
from pydantic import SecretStr

from ..machine.price import Price
from ..machine.quantities import DOCUMENTED, Count
from ..wire.upstream.profiles import ProfileName
from .dialects import DialectName
from .gate import GateOptions

Dollars = Annotated[float, Ge(0)]
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Via(StrEnum):
    """How a provider is reached. DIRECT: it serves the dialect itself. AZURE: Azure OpenAI, whose deployments are the
    models. VERTEX: Anthropic on Google Vertex AI. SCRIPTED: the embedded one, which is no model.
    """

    DIRECT = "direct"
    AZURE = "azure"
    VERTEX = "vertex"
    SCRIPTED = "scripted"


@dataclass(frozen=True)
class PriceOptions:
    """What a model costs, in US dollars for a million tokens."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    input: Dollars
    """Of prompts."""
    output: Dollars
    """Of replies."""
    cached: Dollars | None = None
    """Of prompts that the provider's cache has; without it, as `input`."""
    cache_write: Dollars | None = None
    """Of prompts that its cache gets; without it, as `input`."""

    def price(self) -> Price:
        """Return it as the machine counts with it."""
        cached = self.input if self.cached is None else self.cached
        return Price(self.input, self.output, cached, self.input if self.cache_write is None else self.cache_write)


@dataclass(frozen=True)
class ProviderOptions:
    """A provider: where it is, and how it is spoken to."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    dialect: DialectName = "openai_chat"
    """The API that it is spoken to in."""
    via: Via = Via.DIRECT
    """How it is reached: `direct`; `azure` is Azure OpenAI, `vertex` Anthropic on Google Vertex AI, `scripted` the
    embedded provider, which needs no key and is no model."""
    base_url: str = ""
    """Where it is; "" for OpenAI or Anthropic themselves. With `azure`, the resource: `https://NAME.openai.azure.com`."""
    api_key: SecretStr | None = None
    """Its key. Better not in a file: `api_key_env`, or SLUICEGATE_PROVIDERS__NAME__API_KEY."""
    api_key_env: str = ""
    """The variable that has the key; "" for OPENAI_API_KEY, or ANTHROPIC_API_KEY, by the dialect, where there is no
    `base_url`, and for none on this machine."""
    profile: ProfileName = "auto"
    """Quirks of a compatible server."""
    azure_api_version: str = ""
    """The version of Azure's API, such as `2024-10-21`."""
    vertex_project: str = ""
    """The project at Google."""
    vertex_region: str = ""
    """The region at Google, such as `europe-west1` or `global`."""
    gate: GateOptions = field(default_factory=GateOptions)
    """What it can be asked."""
    prices: dict[str, PriceOptions] = field(default_factory=dict)
    """What its models cost where the price table does not know, or is wrong; by the provider's own names."""

    def __post_init__(self) -> None:
        if self.base_url and not self.base_url.startswith(("https://", "http://")):
            raise ValueError(f"base_url: must begin with https:// or http://, is {self.base_url!r}")
        if self.via is Via.AZURE:
            self._need("azure", "openai_chat", base_url=self.base_url, azure_api_version=self.azure_api_version)
        if self.via is Via.VERTEX:
            self._need("vertex", "anthropic", vertex_project=self.vertex_project, vertex_region=self.vertex_region)

    def _need(self, via: str, dialect: str, **fields: str) -> None:
        if self.dialect != dialect:
            raise ValueError(f'dialect: must be "{dialect}" with via = "{via}", is "{self.dialect}"')
        for name, value in fields.items():
            if not value:
                raise ValueError(f'{name}: is missing, and via = "{via}" needs it')


@dataclass(frozen=True)
class ModelOptions:
    """A name that clients use, and who answers for it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    use: tuple[str, ...]
    """PROVIDER:MODEL, in the order in which they are asked: the next one where one cannot answer."""
    max_output_tokens: Count | None = None
    """The most tokens of a reply; what a request asks for beyond that is cut to it."""

    def __post_init__(self) -> None:
        if not self.use:
            raise ValueError('use: must name at least one PROVIDER:MODEL, such as ["openai:gpt-5-mini"]')
        for each in self.use:
            provider, colon, model = each.partition(":")
            if not provider or not colon or not model:
                raise ValueError(f"use: must be PROVIDER:MODEL, is {each!r}")
