"""What tokens cost. Pure: where prices come from is not known here."""

from enum import StrEnum

import msgspec

from .deltas import Usage

_MILLION = 1_000_000


class CacheCount(StrEnum):
    """How a provider counts tokens that its cache has or gets: INSIDE its input tokens (OpenAI: `prompt_tokens` holds
    `cached_tokens`), or BESIDE them (Anthropic: `input_tokens` is what no cache had a part in).
    """

    INSIDE = "inside"
    BESIDE = "beside"


class Price(msgspec.Struct, frozen=True):
    """US dollars for a million tokens. `longer` holds instead, for all of a request's tokens, where its input, cached
    or not, is over `longer_from`.
    """

    input: float
    output: float
    cached: float
    cache_write: float
    longer_from: int = 0
    longer: "Price | None" = None


def cost_of(usage: Usage, price: Price, count: CacheCount) -> float:
    """Return what one reply cost, in US dollars. `count` says what its `input_tokens` hold."""
    cached = usage.cached_tokens + usage.cache_write_tokens
    whole = max(usage.input_tokens, cached) if count is CacheCount.INSIDE else usage.input_tokens + cached
    while price.longer is not None and whole > price.longer_from:
        price = price.longer
    return (
        (whole - cached) * price.input
        + usage.cached_tokens * price.cached
        + usage.cache_write_tokens * price.cache_write
        + usage.output_tokens * price.output
    ) / _MILLION
