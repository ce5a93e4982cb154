"""The arguments of a call: what fragments come to, for every JSON value and every way of cutting it."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluicegate.machine.arguments import is_json, settle
from sluicegate.machine.events import CallFault
from tests.machine.cutting import cut

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
OBJECTS = st.dictionaries(
    st.text(max_size=4),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)),
    max_size=3,
)
TRICKY = {"a": 'quo"te \\ {[', "b": [{"c": "\\"}, "]}"]}


def texts() -> st.SearchStrategy[str]:
    return st.builds(lambda value, escaped: json.dumps(value, ensure_ascii=escaped), OBJECTS, st.booleans())


@given(texts(), st.lists(st.integers(0, 60), max_size=8))
@example(json.dumps(TRICKY), list(range(60)))
def test_fragments_join_to_the_arguments_however_they_are_cut(text: str, at: list[int]) -> None:
    assert settle(cut(text, at)) == (text, None)


@pytest.mark.once
@given(texts(), st.data())
@example(json.dumps(TRICKY), None)
def test_case_34_every_true_prefix_of_an_object_is_truncated(text: str, data: Any) -> None:
    ends = range(1, len(text)) if data is None else [data.draw(st.integers(1, len(text) - 1))]
    for end in ends:
        assert settle([text[:end]]) == (text[:end], CallFault.TRUNCATED)


@given(texts(), st.lists(st.integers(1, 60), max_size=6))
@example('{"a":1}', [1, 3, 3, 6])
def test_case_20_fragments_that_each_repeat_the_one_before_count_once(text: str, at: list[int]) -> None:
    ends = sorted(min(offset, len(text)) for offset in at)
    assert settle([*(text[:end] for end in ends), text]) in ((text, None), (text + text, None))


@given(texts(), st.sampled_from(["}", "]", "} ", "}{", '"}', "]]"]))
@example("{}", "}")
def test_what_follows_a_whole_object_makes_it_malformed(text: str, more: str) -> None:
    came, fault = settle([text, more])
    assert came == text + more
    assert fault in (CallFault.MALFORMED, CallFault.TRUNCATED)
    assert fault is CallFault.MALFORMED or more in ('"}', "}{")


def test_words_instead_of_json_are_malformed() -> None:
    assert settle(["not ", "json"]) == ("not json", CallFault.MALFORMED)


@pytest.mark.parametrize("fragments", [[], [""], ["", " "], ["\n", "\t "]])
def test_case_21_nothing_is_an_empty_object(fragments: list[str]) -> None:
    assert settle(fragments) == ("{}", None)


def test_what_cannot_be_parsed_is_no_json() -> None:
    assert not is_json("[" * 100_000 + "]" * 100_000)
    assert not is_json('"\ud83d"')
    assert not is_json("{} {}")
    assert is_json("null")
