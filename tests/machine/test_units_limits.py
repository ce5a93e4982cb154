"""Limits: what fits exactly is taken, one byte or one call more ends the reply, and the words name the limit."""

from collections.abc import Callable

import pytest

from sluicegate.machine.deltas import (
    CallDelta,
    CallTotal,
    Delta,
    End,
    ProviderDelta,
    ReasoningDelta,
    ReasoningTotal,
    RefusalDelta,
    RefusalTotal,
    TextDelta,
    TextTotal,
)
from sluicegate.machine.errors import ErrorCode, LimitExceeded, SluicegateError
from sluicegate.machine.limits import (
    ReplyLimits,
    RunLimits,
    arguments_too_large,
    no_progress,
    reply_too_large,
    too_many_calls,
    too_many_steps,
)
from sluicegate.machine.reply import Reply
from sluicegate.machine.reply_table import State

ROOM = 12
LIMITS = ReplyLimits(reply_bytes=ROOM, argument_bytes=ROOM, calls_per_step=2)
MAKERS: list[Callable[[str], Delta]] = [
    TextDelta,
    ReasoningDelta,
    RefusalDelta,
    TextTotal,
    ReasoningTotal,
    RefusalTotal,
    lambda text: ReasoningDelta(text, raw=b""),
    lambda text: ProviderDelta("p", "search", text.encode()),
    lambda text: ProviderDelta("p", "search", b"", text),
    lambda text: CallDelta(0, "A", "f", text),
    lambda text: CallTotal(0, "A", "f", text),
]


@pytest.mark.parametrize("make", MAKERS)
def test_the_last_byte_that_fits_is_taken_and_the_next_one_is_not(make: Callable[[str], Delta]) -> None:
    fits, spills = Reply(LIMITS), Reply(LIMITS)
    fits.receive(make("é" * (ROOM // 2)))
    assert fits.state not in (State.DONE, State.FAILED)
    spills.receive(make("é" * (ROOM // 2) + "x"))
    assert spills.error is not None
    assert spills.error.code is ErrorCode.BUDGET_EXCEEDED


@pytest.mark.parametrize("first", MAKERS)
@pytest.mark.parametrize("second", MAKERS)
def test_parts_of_every_kind_share_the_room_of_a_reply(
    first: Callable[[str], Delta], second: Callable[[str], Delta]
) -> None:
    reply = Reply(ReplyLimits(reply_bytes=ROOM))
    reply.receive(first("x" * ROOM))
    assert reply.error is None
    reply.receive(second("x" * (ROOM + 1)))
    assert reply.error == reply_too_large(ReplyLimits(reply_bytes=ROOM))


def test_a_total_counts_only_what_is_new_in_it() -> None:
    reply = Reply(LIMITS)
    reply.receive(TextDelta("a" * ROOM))
    reply.receive(TextTotal("a" * ROOM))
    assert reply.error is None
    reply.receive(TextTotal("a" * ROOM + "b"))
    assert reply.error == reply_too_large(LIMITS)
    reply = Reply(LIMITS)
    for end in range(1, ROOM + 1):
        reply.receive(CallTotal(0, "A", "f", "{" + " " * (end - 1)))
    assert reply.error is None
    reply.receive(CallTotal(0, "A", "f", "{" + " " * ROOM))
    assert reply.error == arguments_too_large(LIMITS)


def test_the_arguments_of_a_call_are_bounded_over_all_their_pieces() -> None:
    reply = Reply(ReplyLimits(argument_bytes=ROOM))
    for _ in range(ROOM):
        reply.receive(CallDelta(0, "A", "f", "1"))
    reply.receive(CallDelta(1, "B", "f", "1" * ROOM))
    assert reply.error is None
    reply.receive(CallDelta(0, "", "", "1"))
    assert reply.error == arguments_too_large(ReplyLimits(argument_bytes=ROOM))


def test_one_call_too_many_ends_the_reply() -> None:
    reply = Reply(LIMITS)
    for key in range(LIMITS.calls_per_step):
        reply.receive(CallDelta(key, f"id{key}", "f", "{}"))
    assert reply.error is None
    reply.receive(CallDelta(9, "id9", "f", "{}"))
    assert reply.error == too_many_calls(LIMITS)
    assert too_many_calls(LIMITS).code is ErrorCode.TOOL_LOOP
    assert len(reply.calls) == LIMITS.calls_per_step
    assert reply.receive(End()) == []


def test_the_words_of_every_limit_name_its_option() -> None:
    reply, run = ReplyLimits(), RunLimits()
    for option, error in {
        "reply_bytes": reply_too_large(reply),
        "argument_bytes": arguments_too_large(reply),
        "calls_per_step": too_many_calls(reply),
        "steps": too_many_steps(run),
        "repeated_steps": no_progress(run),
    }.items():
        assert f"(limit {option})" in error.message
        limit = getattr(reply if hasattr(reply, option) else run, option)
        assert str(limit) in error.message
        assert not error.retryable


def test_an_exceeded_limit_is_named() -> None:
    error = LimitExceeded("steps", "too many")
    assert isinstance(error, SluicegateError)
    assert (error.limit, str(error)) == ("steps", "too many")
