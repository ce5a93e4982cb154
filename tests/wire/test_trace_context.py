"""Trace context: what is right is continued, what is wrong in any place is as if it were not there."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.wire.trace_context import (
    MAX_STATE,
    TraceFlags,
    TraceParent,
    decode_traceparent,
    decode_tracestate,
    encode_traceparent,
)

GOOD = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_hex = st.text("0123456789abcdef")


def ids(length: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=length, max_size=length).filter(lambda each: each.strip("0") != "")


parents = st.builds(TraceParent, ids(32), ids(16), st.sampled_from([TraceFlags(each) for each in range(4)]))


@given(parents)
def test_what_is_encoded_is_decoded(parent: TraceParent) -> None:
    assert decode_traceparent([encode_traceparent(parent).encode()]) == parent


@pytest.mark.once
@settings(max_examples=1_000)
@given(st.data())
def test_what_is_broken_in_one_place_is_not_there(data: st.DataObject) -> None:
    """One byte of a right value is another one, or is gone, or is there twice."""
    at = data.draw(st.integers(0, len(GOOD) - 1))
    other = data.draw(st.integers(0, 255).map(lambda each: bytes([each])))
    broken = data.draw(
        st.sampled_from([GOOD[:at] + other + GOOD[at + 1 :], GOOD[:at] + GOOD[at + 1 :], GOOD[:at] + other + GOOD[at:]])
    )
    found = decode_traceparent([broken])
    right = re.fullmatch(rb"(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", broken) is not None
    assert (found is not None) == right
    if found is not None:
        assert broken[3:52].decode() == f"{found.trace_id}-{found.span_id}"


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [GOOD, GOOD],
        [GOOD.upper()],
        [b"00-" + b"0" * 32 + GOOD[35:]],
        [GOOD[:36] + b"0" * 16 + b"-01"],
        [b"ff" + GOOD[2:]],
        [GOOD + b"-more"],
        [b"01" + GOOD[2:] + b"more"],
        [GOOD + b"\n"],
        [b" " + GOOD],
    ],
)
def test_what_is_wrong_is_not_there(values: list[bytes]) -> None:
    assert decode_traceparent(values) is None


def test_a_later_version_may_say_more_behind_what_is_known() -> None:
    later = decode_traceparent([b"01" + GOOD[2:53] + b"ff-more-of-it"])
    assert later == TraceParent(GOOD[3:35].decode(), GOOD[36:52].decode(), TraceFlags.SAMPLED | TraceFlags.RANDOM)
    assert encode_traceparent(later) == f"00-{GOOD[3:52].decode()}-03"


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([], ""),
        ([b"a=1"], "a=1"),
        ([b" a=1 ,\tb@c=x y,,"], "a=1,b@c=x y"),
        ([b"a=1", b"b=2"], "a=1,b=2"),
        ([b"a=1,a=2"], ""),
        ([b"A=1"], ""),
        ([b"a"], ""),
        ([b"a=b=c"], ""),
        ([b"a="], ""),
        ([b"a=\xe4"], ""),
        ([b"a=1\r\nevil: 1"], ""),
        ([b"a=\x00"], ""),
        ([",".join(f"k{each}=v" for each in range(32)).encode()], ",".join(f"k{each}=v" for each in range(32))),
        ([",".join(f"k{each}=v" for each in range(33)).encode()], ""),
        ([b"a=" + b"1" * 250, b"b=" + b"2" * 257], ""),
    ],
)
def test_the_state_goes_along_if_it_is_right(values: list[bytes], state: str) -> None:
    assert decode_tracestate(values) == state


@pytest.mark.once
@settings(max_examples=1_000)
@given(st.lists(st.one_of(st.binary(max_size=300), st.from_regex(rb"[a-z0-9]{1,3}=[ -~]{1,5}(,[a-z]=[ -~]){0,3}"))))
def test_no_state_can_break_a_request(values: list[bytes]) -> None:
    """It is one line of printable characters, whatever came; and decoding it again changes nothing."""
    state = decode_tracestate(values)
    assert re.fullmatch(r"[ -~]*", state)
    assert len(state) <= MAX_STATE
    assert decode_tracestate([state.encode()]) == state
    assert decode_traceparent(values) is None
