"""`Reply`: what comes of a reply, whoever said it and however; refusals change nothing."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.deltas import (
    CallDelta,
    CallEnd,
    CitationDelta,
    Delta,
    End,
    Eof,
    Failure,
    Finish,
    FinishNotice,
    FinishReason,
    PartEnd,
    ProviderDelta,
    ReasoningDelta,
    ReasoningTotal,
    RefusalDelta,
    RefusalTotal,
    SignatureDelta,
    Started,
    TextDelta,
    TextTotal,
    UsageDelta,
)
from sluicegate.machine.errors import ErrorCode, RemoteProtocolError, RunError
from sluicegate.machine.events import CitationAdded, PartDelta, PartEnded, PartKind, PartStarted, ReplyEvent
from sluicegate.machine.history import CallPart, ProviderPart, ReasoningPart, RefusalPart, TextPart
from sluicegate.machine.limits import ReplyLimits
from sluicegate.machine.reply import EMPTY, TRUNCATED, Reply
from sluicegate.machine.reply_table import TABLE, State, Symbol
from sluicegate.machine.table import arrows
from tests.machine.cutting import cut
from tests.machine.explore import ALPHABET, fingerprint

STOP, EOF = Finish(FinishReason.STOP, "stop"), Eof()
KINDS: list[tuple[type[TextDelta | ReasoningDelta | RefusalDelta], type[TextTotal | ReasoningTotal | RefusalTotal]]] = [
    (TextDelta, TextTotal),
    (ReasoningDelta, ReasoningTotal),
    (RefusalDelta, RefusalTotal),
]


def told(reply: Reply, deltas: Iterable[Delta]) -> list[ReplyEvent]:
    """Tell `reply` all `deltas`; return its events with adjacent deltas of a part joined."""
    out: list[ReplyEvent] = []
    for delta in deltas:
        for event in reply.receive(delta):
            last = out[-1] if out else None
            if isinstance(event, PartDelta) and isinstance(last, PartDelta) and last.part == event.part:
                out[-1] = PartDelta(last.part, last.kind, last.text + event.text)
            else:
                out.append(event)
    return out


def of(*deltas: Delta) -> Reply:
    reply = Reply()
    told(reply, deltas)
    return reply


@given(st.text(max_size=30), st.lists(st.integers(0, 30), max_size=6), st.sampled_from(KINDS))
def test_totals_deltas_and_both_mixed_say_the_same(
    text: str, at: list[int],
    kind: tuple[type[TextDelta | ReasoningDelta | RefusalDelta], type[TextTotal | ReasoningTotal | RefusalTotal]],
) -> None:  # fmt: skip
    delta, total = kind
    ends = [sum(len(piece) for piece in cut(text, at)[: n + 1]) for n in range(len(at) + 1)]
    by_deltas = [delta(piece) for piece in cut(text, at) if piece]
    by_totals = [total(text[:end]) for end in ends]
    mixed = [each for one, other in zip((delta(p) for p in cut(text, at)), by_totals, strict=True) if one.text
             for each in (one, other)]  # fmt: skip
    expected = told(Reply(), [*by_deltas, PartEnd(), STOP, EOF])
    assert told(Reply(), [*by_totals, PartEnd(), STOP, EOF]) == expected
    assert told(Reply(), [*mixed, PartEnd(), STOP, EOF]) == expected


@pytest.mark.parametrize(("delta", "total"), KINDS)
def test_a_total_that_disagrees_with_what_was_shown_says_nothing(
    delta: type[TextDelta | ReasoningDelta | RefusalDelta], total: type[TextTotal | ReasoningTotal | RefusalTotal]
) -> None:
    reply = of(delta("shown"))
    assert reply.classify(total("other")) is Symbol.NOTHING_NEW
    assert reply.classify(total("show")) is Symbol.NOTHING_NEW
    assert reply.receive(total("other")) == []


def test_every_pair_that_is_not_in_the_table_is_refused_and_changes_nothing() -> None:
    known = {(state, symbol) for state, symbol, _ in arrows(TABLE)}
    refused = set()
    starts: list[list[Delta]] = [
        [],
        [Started("m")],
        [TextDelta("a")],
        [RefusalDelta("a")],
        [ProviderDelta("p", "search", b"{}")],
        [CallDelta(0, "A", "f", "{}"), CallEnd(0)],
        [CallDelta(0, "A", "f", "{}"), CallEnd(0), TextDelta("a")],
        [TextDelta("a"), STOP],
    ]
    for start in starts:
        for delta in (*ALPHABET, CallDelta(0, "", "", "more")):
            reply = of(*start)
            symbol, before = reply.classify(delta), (fingerprint(reply), reply.message(), reply.usage)
            if (reply.state, symbol) in known:
                continue
            with pytest.raises(RemoteProtocolError, match=f"{symbol} in state {reply.state}"):
                reply.receive(delta)
            assert (fingerprint(reply), reply.message(), reply.usage) == before
            refused.add((reply.state, symbol))
    assert {(State.TEXT, Symbol.SIGNATURE_STRAY), (State.CALL, Symbol.CALL_LATE)} <= refused


def test_case_29_parts_keep_the_order_in_which_they_began() -> None:
    reply = of(
        ReasoningDelta("why"),
        SignatureDelta("si"),
        SignatureDelta("gn"),
        TextDelta("be"),
        CallDelta(0, "A", "f", "{"),
        TextDelta("tween"),
        CallDelta(0, "", "", "}"),
        ProviderDelta("p", "search", b'{"q":'),
        ProviderDelta("p", "", b"", "1}"),
        RefusalDelta("no"),
        CitationDelta(b"[1]"),
        STOP,
        EOF,
    )
    assert reply.message().parts == (
        ReasoningPart("why", "sign"),
        TextPart("be"),
        CallPart("A", "f", "{}"),
        TextPart("tween", (b"[1]",)),
        ProviderPart("search", b'{"q":', "1}"),
        RefusalPart("no"),
    )


def test_a_citation_before_any_text_is_shown_and_belongs_nowhere() -> None:
    reply = Reply()
    assert told(reply, [CitationDelta(b"[1]")]) == [CitationAdded(b"[1]")]
    assert reply.message().parts == ()


def test_raw_reasoning_goes_to_its_own_part_even_after_the_next_one_began() -> None:
    reply = of(
        ReasoningDelta("one", 1),
        ReasoningDelta("", 1, b"[1]"),
        ReasoningDelta("two", 2),
        ReasoningDelta("", 1, b"[2]"),
        ReasoningDelta("", None, b"[3]"),
    )
    assert reply.message().parts == (
        ReasoningPart("one", "", (b"[1]", b"[2]")),
        ReasoningPart("two"),
        ReasoningPart("", "", (b"[3]",)),
    )


def test_a_provider_part_is_updated_whatever_is_open() -> None:
    reply = of(
        ProviderDelta("p", "search", b"{}"),
        TextDelta("a"),
        ProviderDelta("p", "", b"[1]"),
        ProviderDelta("p", "", b"", "x"),
    )
    assert reply.message().parts == (ProviderPart("search", b"[1]", "x"), TextPart("a"))
    assert reply.state is State.TEXT


def test_an_end_of_a_part_that_is_not_open_says_nothing() -> None:
    reply = of(TextDelta("a", 1))
    assert reply.receive(PartEnd(2)) == []
    assert reply.receive(PartEnd(1)) == [PartEnded(0, PartKind.TEXT)]
    assert reply.receive(PartEnd(1)) == []
    assert reply.receive(TextDelta("b", 1))[0] == PartStarted(1, PartKind.TEXT)


CALL = CallDelta(0, "A", "f", "{}")
CUT = CallDelta(0, "A", "f", "{")


@pytest.mark.parametrize(
    ("said", "reason", "parts_win"),
    [
        ([TextDelta("a")], FinishReason.STOP, FinishReason.STOP),
        ([TextDelta("a")], FinishReason.TOOL_CALLS, FinishReason.STOP),
        ([TextDelta("a")], FinishReason.LENGTH, FinishReason.LENGTH),
        ([TextDelta("a")], FinishReason.PAUSE, FinishReason.PAUSE),
        ([TextDelta("a"), RefusalDelta("no")], FinishReason.STOP, FinishReason.STOP),
        ([RefusalDelta("no")], FinishReason.STOP, FinishReason.CONTENT_FILTER),
        ([RefusalDelta("no")], FinishReason.LENGTH, FinishReason.LENGTH),
        ([CALL], FinishReason.STOP, FinishReason.TOOL_CALLS),
        ([CALL], FinishReason.PAUSE, FinishReason.TOOL_CALLS),
        ([CALL], FinishReason.LENGTH, FinishReason.LENGTH),
        ([CALL], FinishReason.CONTENT_FILTER, FinishReason.CONTENT_FILTER),
        ([CUT], FinishReason.TOOL_CALLS, FinishReason.LENGTH),
        ([CUT], FinishReason.STOP, FinishReason.LENGTH),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_case_33_where_the_finish_reason_and_the_parts_disagree_the_parts_win(
    said: list[Delta], reason: FinishReason, parts_win: FinishReason, late: bool
) -> None:
    ends: list[Delta] = [FinishNotice(reason, "word"), End()] if late else [Finish(reason, "word"), EOF]
    reply = of(*said, *ends)
    assert reply.state is State.DONE
    assert (reply.finish_reason, reply.raw_finish_reason) == (parts_win, "word")


@pytest.mark.parametrize(
    ("deltas", "error"),
    [
        ([EOF], TRUNCATED),
        ([Started("m"), EOF], TRUNCATED),
        ([TextDelta("a"), EOF], TRUNCATED),
        ([TextDelta("a"), FinishNotice(FinishReason.STOP, "end_turn"), EOF], TRUNCATED),
        ([CALL, End()], TRUNCATED),
        ([End()], EMPTY),
        ([Started("m"), End()], EMPTY),
        ([TextDelta("a"), STOP, EOF], None),
        ([TextDelta("a"), End()], None),
        ([STOP, End()], None),
        ([FinishNotice(FinishReason.STOP, "end_turn"), End()], None),
        ([CALL, STOP, End()], None),
    ],
)
def test_case_37_only_a_finish_reason_or_an_end_after_words_is_success(
    deltas: list[Delta], error: RunError | None
) -> None:
    reply = of(*deltas)
    assert reply.error == error
    assert reply.state is (State.FAILED if error else State.DONE)
    assert reply.finish_reason in FinishReason


def test_a_failure_keeps_what_was_said_and_its_own_words() -> None:
    error = RunError(ErrorCode.RATE_LIMITED, "later", retryable=True)
    reply = of(TextDelta("a"), Failure(error), TextDelta("b"), Failure(TRUNCATED), EOF)
    assert reply.error is error
    assert reply.message().parts == (TextPart("a"),)


FIELDS = UsageDelta.__struct_fields__


@given(st.lists(st.builds(UsageDelta, *(st.none() | st.integers(0, 9) for _ in FIELDS)), max_size=4))
def test_case_40_the_last_word_on_each_field_of_usage_counts_and_nothing_is_added_up(said: list[UsageDelta]) -> None:
    usage = of(*said).usage
    last = {
        field: next((value for each in reversed(said) if (value := getattr(each, field)) is not None), None)
        for field in FIELDS
    }
    if last["input_tokens"] is None and last["output_tokens"] is None:
        assert usage is None
    else:
        assert usage is not None
        assert {field: getattr(usage, field) for field in FIELDS} == {field: last[field] or 0 for field in FIELDS}
        assert not usage.estimated


def test_the_estimate_counts_all_that_was_said() -> None:
    reply = of(TextDelta("é" * 4), ReasoningDelta("r" * 4), CallDelta(0, "A", "f", '{"a":1}!'))
    assert reply.estimated_output_tokens == (8 + 4 + 8) // 4


@pytest.mark.parametrize("limit", [10**6, 24])
def test_the_short_way_for_words_is_the_general_one(limit: int) -> None:
    """In what it says and in what it leaves behind; where it says nothing, it leaves everything as it was."""
    taken = 0
    words = st.builds(
        TextDelta, st.sampled_from(["", "a", "word ", "é", "\ud83d", "\ude00"]), st.sampled_from([None, 0])
    )

    @given(st.lists(words | st.sampled_from(ALPHABET), max_size=12))
    def check(deltas: list[Delta]) -> None:
        nonlocal taken
        short, general = (Reply(ReplyLimits(reply_bytes=limit)) for _ in range(2))
        for delta in [TextDelta("begun "), *deltas]:
            before = fingerprint(short)
            event = short.more(delta) if isinstance(delta, TextDelta) else None
            if event is not None:
                taken += 1
                assert general.receive(delta) == [event]
            else:
                assert fingerprint(short) == before
                try:
                    expected = general.receive(delta)
                except RemoteProtocolError:
                    continue
                assert short.receive(delta) == expected
            assert fingerprint(short) == fingerprint(general)
            assert (short.message(), short.usage) == (general.message(), general.usage)

    check()
    assert taken > 20
