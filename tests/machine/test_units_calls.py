"""Which call a delta belongs to: every way in which wires name calls, and what has ended stays ended."""

from itertools import permutations

import pytest

from sluicegate.machine.calls import Calls
from sluicegate.machine.deltas import CallDelta, CallEnd, CallTotal, Delta, Eof, Finish, FinishReason
from sluicegate.machine.events import CallBroken, CallFault, CallReady, PartDelta, PartEnded, PartKind, PartStarted
from sluicegate.machine.history import CallPart
from sluicegate.machine.reply import Reply
from sluicegate.machine.reply_table import Symbol

FINISH = Finish(FinishReason.TOOL_CALLS, "tool_calls")


def heard(*deltas: Delta) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of the calls that `deltas` make, in the order in which they began."""
    reply = Reply()
    for delta in (*deltas, FINISH, Eof()):
        reply.receive(delta)
    calls = sorted(reply.calls, key=lambda call: call.part)
    assert all(isinstance(call, CallReady) for call in calls), calls
    return [(call.call_id, call.name, call.arguments) for call in calls]


def test_case_17_calls_keep_apart_in_every_interleaving() -> None:
    first = [CallDelta(0, "A", "f", '{"a"'), CallDelta(0, "", "", ":1}")]
    second = [CallDelta(1, "B", "g", '{"b"'), CallDelta(1, "", "", ":2}")]
    for order in set(permutations((0, 0, 1, 1))):
        sources = [iter(first), iter(second)]
        calls = heard(*(next(sources[which]) for which in order))
        assert sorted(calls) == [("A", "f", '{"a":1}'), ("B", "g", '{"b":2}')]


def test_case_16_without_a_key_the_id_names_the_call() -> None:
    deltas = [
        CallDelta(None, "A", "f", "{"),
        CallDelta(None, "B", "g", "{"),
        CallDelta(None, "A", "", "}"),
        CallDelta(None, "B", "", "}"),
    ]
    assert heard(*deltas) == [("A", "f", "{}"), ("B", "g", "{}")]


def test_case_16_without_key_and_id_the_last_call_goes_on() -> None:
    assert heard(CallDelta(None, "A", "f", "{"), CallDelta(None, "", "", "}")) == [("A", "f", "{}")]
    assert heard(CallDelta(None, "A", "f", "{"), CallDelta(None, "", "f", "}")) == [("A", "f", "{}")]


@pytest.mark.parametrize("arguments", ["{}", '{"a":1}'])
def test_case_16_complete_arguments_and_a_name_make_a_new_call(arguments: str) -> None:
    calls = heard(CallDelta(None, "", "f", "{}"), CallDelta(None, "", "f", arguments))
    assert [(name, text) for _, name, text in calls] == [("f", "{}"), ("f", arguments)]


def test_case_15_a_new_id_on_a_known_key_is_a_new_call_once_named_or_complete() -> None:
    assert heard(CallDelta(0, "A", "f", "{}"), CallDelta(0, "B", "g", "{}")) == [("A", "f", "{}"), ("B", "g", "{}")]
    calls = heard(CallDelta(0, "A", "f", "{}"), CallDelta(0, "B", "", ""), CallDelta(0, "", "g", "{}"))
    assert [(name, text) for _, name, text in calls] == [("f", "{}"), ("g", "{}")]
    # An id of its own for every delta, in the middle of the arguments, names no new call.
    assert heard(CallDelta(0, "A", "f", "{"), CallDelta(0, "B", "", "}")) == [("A", "f", "{}")]


def test_case_15_without_ids_a_name_behind_complete_arguments_makes_a_new_call() -> None:
    one, other = CallDelta(0, "", "f", '{"a":1}'), CallDelta(0, "", "g", '{"b":2}')
    assert [call[1:] for call in heard(one, other)] == [("f", '{"a":1}'), ("g", '{"b":2}')]
    again = CallDelta(0, "", "f", '{"a":3}')
    assert [call[1:] for call in heard(one, again)] == [("f", '{"a":1}'), ("f", '{"a":3}')]
    assert [call[1:] for call in heard(one, one)] == [("f", '{"a":1}')]
    grown = heard(CallDelta(0, "", "f", ""), CallDelta(0, "", "oo", ""), CallDelta(0, "", "", "{}"))
    assert [call[1:] for call in grown] == [("foo", "{}")]


def test_case_14_a_name_is_said_once_however_often_it_comes() -> None:
    pieces = ["{", '"a"', ":1", "}"]
    assert heard(*(CallDelta(0, "A", "f", piece) for piece in pieces)) == [("A", "f", '{"a":1}')]
    assert heard(*(CallDelta(0, "", "f", piece) for piece in pieces))[0][1:] == ("f", '{"a":1}')


def test_case_13_calls_without_ids_get_different_ones() -> None:
    ids = [call_id for call_id, _, _ in heard(*(CallDelta(key, "", "f", "{}") for key in range(4)))]
    assert len(set(ids)) == 4
    assert all(ids)


def test_case_13_an_id_that_another_call_has_is_not_given_twice() -> None:
    ids = [call_id for call_id, _, _ in heard(CallDelta(0, "A", "f", "{}"), CallDelta(1, "A", "f", "{}"))]
    assert ids[0] == "A"
    assert len(set(ids)) == 2


ENDED: list[Delta] = [CallDelta(0, "A", "f", "{}"), CallEnd(0)]


@pytest.mark.parametrize(
    ("delta", "symbol"),
    [
        (CallDelta(0, "A", "f", ""), Symbol.NOTHING_NEW),
        (CallDelta(0, "", "", " "), Symbol.CALL_LATE),
        (CallTotal(0, "A", "f", "{}"), Symbol.NOTHING_NEW),
        (CallTotal(0, "A", "", ""), Symbol.NOTHING_NEW),
        (CallTotal(0, "A", "f", '{"a":1}'), Symbol.CALL_LATE),
        (CallDelta(0, "B", "g", "{}"), Symbol.CALL_OPEN),
        (CallTotal(0, "B", "g", "{}"), Symbol.CALL_OPEN),
        (CallDelta(1, "", "", "{}"), Symbol.CALL_OPEN),
        (CallEnd(0), Symbol.NOTHING_NEW),
        (CallEnd(7), Symbol.NOTHING_NEW),
    ],
)
def test_a_call_that_has_ended_takes_no_more(delta: Delta, symbol: Symbol) -> None:
    reply = Reply()
    for each in ENDED:
        reply.receive(each)
    assert reply.classify(delta) is symbol
    assert reply.calls == [CallReady(0, "A", "f", "{}")]


@pytest.mark.parametrize("steps", [["{", '{"a"', '{"a":1}'], ['{"a":1}'], ["", "{", '{"a":1}', '{"a":1}']])
def test_totals_say_the_same_as_deltas(steps: list[str]) -> None:
    totals, deltas = Reply(), Reply()
    told = []
    for before, now in zip(["", *steps], steps, strict=False):
        events = totals.receive(CallTotal(0, "A", "f", now))
        assert events == deltas.receive(CallDelta(0, "A", "f", now.removeprefix(before)))
        told += events
    assert totals.receive(CallEnd(0)) == deltas.receive(CallEnd(0))
    assert "".join(event.text for event in told if isinstance(event, PartDelta)) == '{"a":1}'


def test_the_last_word_of_a_wire_wins_over_its_deltas_but_shown_stays_shown() -> None:
    reply = Reply()
    told = reply.receive(CallDelta(0, "A", "f", '{"a":1'))
    told += reply.receive(CallTotal(0, "A", "f", '{"b":2}'))
    told += reply.receive(CallEnd(0))
    assert told == [
        PartStarted(0, PartKind.CALL, "A", "f"),
        PartDelta(0, PartKind.CALL, '{"a":1'),
        PartEnded(0, PartKind.CALL),
        CallReady(0, "A", "f", '{"b":2}'),
    ]


def test_a_total_that_says_nothing_leaves_the_deltas_alone() -> None:
    assert heard(CallDelta(0, "A", "f", '{"a":1}'), CallTotal(0, "A", "f", "")) == [("A", "f", '{"a":1}')]


def test_a_call_is_told_only_when_its_name_and_one_thing_more_are_known() -> None:
    reply = Reply()
    assert reply.receive(CallDelta(0, "A", "", "{")) == []
    assert reply.receive(CallDelta(0, "", "f", "")) == [
        PartStarted(0, PartKind.CALL, "A", "f"),
        PartDelta(0, PartKind.CALL, "{"),
    ]


@pytest.mark.parametrize(
    ("delta", "reason", "outcome"),
    [
        (CallDelta(0, "A", "f", '{"a'), FinishReason.LENGTH, CallBroken(0, "A", "f", '{"a', CallFault.TRUNCATED)),
        (CallDelta(0, "A", "f", ""), FinishReason.LENGTH, CallBroken(0, "A", "f", "", CallFault.TRUNCATED)),
        (CallDelta(0, "A", "f", ""), FinishReason.TOOL_CALLS, CallReady(0, "A", "f", "{}")),
        (CallDelta(0, "A", "f", "{}}"), FinishReason.TOOL_CALLS, CallBroken(0, "A", "f", "{}}", CallFault.MALFORMED)),
        (CallDelta(0, "A", "", "{}"), FinishReason.TOOL_CALLS, CallBroken(0, "A", "", "{}", CallFault.MALFORMED)),
    ],
)
def test_case_34_only_a_named_call_with_whole_arguments_is_ready(
    delta: CallDelta, reason: FinishReason, outcome: CallReady | CallBroken
) -> None:
    reply = Reply()
    for each in (delta, Finish(reason, reason), Eof()):
        reply.receive(each)
    assert reply.calls == [outcome]


def test_half_a_surrogate_pair_at_the_end_of_arguments_is_shown_as_replaced() -> None:
    reply = Reply()
    reply.receive(CallDelta(0, "A", "f", '"\ud83d'))
    events = reply.receive(CallEnd(0))
    assert events[0] == PartDelta(0, PartKind.CALL, "\ufffd")
    assert reply.calls == [CallBroken(0, "A", "f", '"\ufffd', CallFault.TRUNCATED)]


def test_what_a_wire_adds_to_a_call_goes_back_with_it() -> None:
    reply = Reply()
    reply.receive(CallDelta(0, "A", "f", "{", b"[1]"))
    reply.receive(CallDelta(0, "", "", "}", b"[2]"))
    assert reply.message().parts == (CallPart("A", "f", "{}", b"[2]"),)


def test_finding_a_call_changes_nothing() -> None:
    calls = Calls("call_")
    delta = CallDelta(0, "A", "f", "{}")
    assert calls.find(delta) is None
    assert calls.find(delta) is None
    assert calls.order == []
    assert not calls.is_open(0)
