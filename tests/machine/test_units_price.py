"""What a reply costs: every token once, at its own rate."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.deltas import TextDelta, Usage
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.machine.price import CacheCount, Price, cost_of
from sluicegate.machine.run import Run
from sluicegate.machine.run_inputs import Begin

TOKENS = st.integers(0, 1_000_000)
RATE = st.integers(0, 100)


@given(TOKENS, TOKENS, TOKENS, TOKENS, RATE, RATE, RATE, RATE, st.sampled_from(CacheCount), st.none() | TOKENS)
def test_every_token_is_paid_once(
    plain: int,
    cached: int,
    written: int,
    output: int,
    input_rate: int,
    output_rate: int,
    cached_rate: int,
    write_rate: int,
    count: CacheCount,
    longer_from: int | None,
) -> None:
    price = Price(input_rate, output_rate, cached_rate, write_rate)
    twice = Price(2 * input_rate, 2 * output_rate, 2 * cached_rate, 2 * write_rate)
    if longer_from is not None:
        price = Price(input_rate, output_rate, cached_rate, write_rate, longer_from, twice)
    whole = plain + cached + written
    factor = 2 if longer_from is not None and whole > longer_from else 1
    expected = Fraction(
        factor * (plain * input_rate + cached * cached_rate + written * write_rate + output * output_rate), 1_000_000
    )
    said = whole if count is CacheCount.INSIDE else plain
    assert cost_of(Usage(said, output, cached, written), price, count) == pytest.approx(float(expected), rel=1e-12)


def test_a_reply_under_way_is_told_in_tokens() -> None:
    run = Run("r", Request("m", (UserMessage((TextPart("Hi"),)),)))
    run.receive(Begin())
    for said, tokens in (("a", 1), ("bcd", 1), ("e", 2), ("fghij", 3)):
        run.receive(TextDelta(said))
        assert run.reply_tokens == tokens
