"""Prices from the maintained table of `genai-prices`. It takes 0.2 s and 30 MiB, so it is read only where one is asked
for, and then when the service starts.
"""

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from ..machine.price import Price

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, TieredPrices


def load() -> None:
    """Read the table. Blocks for 0.2 s the first time."""
    import genai_prices  # noqa: F401


@lru_cache(1024)
def price_of(model: str, provider: str | None, base_url: str | None) -> Price | None:
    """Return what `model` costs at the provider of that name, or at that address; None if the table does not say.

    Today's price, and the one that holds all day: a rate for some hours or some batch is not looked at.
    """
    from genai_prices import Usage, calc_price

    try:
        if provider is None:
            found = calc_price(Usage(), model, provider_api_url=base_url)
        else:
            found = calc_price(Usage(), model, provider_id=provider)
    except LookupError:
        return None
    return _price(found.model_price)


def _price(rates: "ModelPrice") -> Price | None:
    known: list[Decimal | TieredPrices | None] = [
        getattr(rates, name, None) for name in ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok")
    ]
    if known[0] is None or known[1] is None:
        return None
    kinds = [known[0] if kind is None else kind for kind in known]
    starts = sorted({tier.start for kind in kinds if not isinstance(kind, Decimal) for tier in kind.tiers})
    price: Price | None = None
    for start in (*reversed(starts), None):
        longer_from = 0 if price is None else starts.pop()
        first, second, third, fourth = (_rate(kind, start) for kind in kinds)
        price = Price(first, second, third, fourth, longer_from, price)
    return price


def _rate(kind: "Decimal | TieredPrices", start: int | None) -> float:
    """The rate where the input is over `start`, the base rate for None."""
    if isinstance(kind, Decimal):
        return float(kind)
    reached = [tier.price for tier in kind.tiers if start is not None and tier.start <= start]
    return float(reached[-1] if reached else kind.base)
