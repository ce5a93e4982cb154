"""Costs are those of the price table: held against the library that keeps it."""

from decimal import Decimal

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.machine.deltas import Usage
from sluicegate.machine.price import CacheCount, Price, cost_of
from sluicegate.providers.prices import price_of

COUNTS = st.integers(0, 3_000_000)
MODELS = [
    (provider.id, model.id)
    for provider in providers
    if provider.id in ("openai", "anthropic", "azure", "google")
    for model in provider.models
]


def priced() -> list[tuple[str, str, Price]]:
    found = [(provider, model, price_of(model, provider, None)) for provider, model in MODELS]
    return [(provider, model, price) for provider, model, price in found if price is not None]


PRICED = priced()


def test_most_models_of_the_table_have_a_price() -> None:
    assert len(PRICED) >= 150
    assert any(price.longer is not None for _, _, price in PRICED)


@given(st.sampled_from(PRICED), COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from(CacheCount))
@settings(max_examples=2_000, deadline=None)
def test_a_cost_is_what_the_table_says(
    priced: tuple[str, str, Price], plain: int, cached: int, written: int, output: int, count: CacheCount
) -> None:
    provider, model, price = priced
    inside = plain + cached + written
    usage = Usage(inside if count is CacheCount.INSIDE else plain, output, cached, written)
    table = TableUsage(input_tokens=inside, output_tokens=output, cache_read_tokens=cached, cache_write_tokens=written)
    expected = calc_price(table, model, provider_id=provider).total_price
    assert cost_of(usage, price, count) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


def test_a_model_that_the_table_does_not_know_has_no_price() -> None:
    assert price_of("no-such-model", "openai", None) is None
    assert price_of("gpt-5-mini", None, "https://models.example.com/v1") is None


def test_a_cache_never_has_more_than_there_is() -> None:
    """Some servers say that more was cached than was sent; nothing is paid back for that."""
    price = Price(1.0, 1.0, 0.5, 1.0)
    assert cost_of(Usage(10, 0, 40), price, CacheCount.INSIDE) == pytest.approx(40 * 0.5 / 1e6)


def test_longer_requests_cost_more_from_the_token_on_that_the_table_names() -> None:
    price = Price(1.0, 2.0, 1.0, 1.0, 200, Price(3.0, 4.0, 3.0, 3.0))
    assert cost_of(Usage(200, 10), price, CacheCount.INSIDE) == pytest.approx(float(Decimal(220) / 1_000_000))
    assert cost_of(Usage(201, 10), price, CacheCount.INSIDE) == pytest.approx(float(Decimal(643) / 1_000_000))
