"""Coalescing: adjacent words of one part become one delta, everything else stays as it is and where it is."""

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.deltas import CallDelta, Delta, PartEnd, ReasoningDelta, RefusalDelta, TextDelta
from sluicegate.runtime.merge import merged

KEYS = st.sampled_from([None, 0, 1])
WORDS = st.sampled_from(["", "a", "b"])
DELTAS: st.SearchStrategy[Delta] = st.one_of(
    st.builds(TextDelta, WORDS, KEYS),
    st.builds(ReasoningDelta, WORDS, KEYS, st.sampled_from([b"", b"{}"])),
    st.builds(RefusalDelta, WORDS, KEYS),
    st.builds(CallDelta, KEYS, WORDS, WORDS, WORDS),
    st.builds(PartEnd, KEYS),
)


def join_key(position: int, delta: Delta) -> object:
    """What two neighbours must share to be one; unlike for everything but plain words."""
    if isinstance(delta, TextDelta) or (isinstance(delta, ReasoningDelta) and not delta.raw):
        return type(delta), delta.key
    return position


@given(st.lists(DELTAS, max_size=12))
def test_neighbours_of_one_part_are_joined_and_nothing_else(deltas: list[Delta]) -> None:
    groups = [[delta for _, delta in group] for _, group in groupby(enumerate(deltas), lambda at: join_key(*at))]
    out = merged(list(deltas))
    assert len(out) == len(groups)
    for delta, group in zip(out, groups, strict=True):
        if isinstance(delta, TextDelta | ReasoningDelta):
            assert delta.text == "".join(getattr(each, "text", "") for each in group)
            assert type(delta) is type(group[0])
            assert delta.key == getattr(group[0], "key", None)
        else:
            assert [delta] == group


@given(st.lists(DELTAS, max_size=12))
def test_what_is_merged_cannot_be_merged_further(deltas: list[Delta]) -> None:
    out = merged(list(deltas))
    assert merged(out) == out
    assert not any(join_key(0, a) == join_key(1, b) for a, b in pairwise(out))
