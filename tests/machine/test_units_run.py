"""`Run`: what a driver hears for what it tells, step by step; one terminal event, whatever happens."""

from collections.abc import Iterable
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.deltas import (
    CallDelta,
    CallEnd,
    Delta,
    End,
    Eof,
    Failure,
    Finish,
    FinishNotice,
    FinishReason,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    Usage,
    UsageDelta,
)
from sluicegate.machine.errors import ErrorCode, LocalProtocolError, RunError
from sluicegate.machine.events import (
    CallReady,
    RunDone,
    RunFailed,
    RunStarted,
    StepStarted,
    ToolProgress,
    ToolResult,
    ToolsStarted,
    Transition,
)
from sluicegate.machine.history import AssistantMessage, CallPart, Request, TextPart, ToolMessage, UserMessage
from sluicegate.machine.limits import RunLimits, no_progress, too_many_steps
from sluicegate.machine.reply import TRUNCATED
from sluicegate.machine.run import BROKEN_WIRE, FILTERED, MALFORMED_ARGUMENTS, OVERFLOW, Run
from sluicegate.machine.run_inputs import (
    Begin,
    Cancel,
    Input,
    OpenUpstream,
    Output,
    StartTools,
    ToolDone,
    ToolNote,
    UpstreamFailed,
)
from sluicegate.machine.run_table import State
from tests.machine.explore_run import ALPHABET, NOTE

ASKED = UserMessage((TextPart("what is the weather?"),))
PROMPT_TOKENS = 5
REQUEST = Request("some-model", (ASKED,))
LOST = RunError(ErrorCode.UPSTREAM_ERROR, "lost")
LEFT = RunError(ErrorCode.CANCELLED, "left")
CALL = CallDelta(0, "A", "weather", "{}")
READY = CallReady(0, "A", "weather", "{}")
STOP, CALLS, EOF = Finish(FinishReason.STOP, "stop"), Finish(FinishReason.TOOL_CALLS, "tool_calls"), Eof()


def tell(run: Run, *inputs: Input) -> list[Output]:
    outputs: list[Output] = []
    for happened in inputs:
        outputs += run.receive(happened)
    return outputs


def begun(limits: RunLimits | None = None, eager: Iterable[str] = ()) -> Run:
    run = Run("some-run", REQUEST, limits, frozenset(eager))
    run.receive(Begin())
    return run


def error_of(run: Run) -> RunError:
    assert isinstance(run.terminal, RunFailed)
    return run.terminal.error


def test_a_run_with_a_tool_from_first_to_last() -> None:
    run = Run("some-run", REQUEST)
    assert tell(run, Begin()) == [RunStarted("some-run", "some-model"), StepStarted(1), OpenUpstream(1, REQUEST)]
    tell(run, CALL, UsageDelta(10, 3), CALLS)
    assert tell(run, EOF)[-2:] == [ToolsStarted((READY,)), StartTools((READY,))]
    assert not run.replying
    assert tell(run, NOTE) == [NOTE.event]
    heard = tell(run, ToolDone(0, "sunny"))
    messages = (
        ASKED,
        AssistantMessage((CallPart("A", "weather", "{}"),)),
        ToolMessage("A", "weather", "sunny"),
    )
    assert heard == [
        ToolResult("A", "weather", "sunny"),
        StepStarted(2),
        OpenUpstream(2, Request("some-model", messages)),
    ]
    assert run.replying
    assert tell(run, TextDelta("It is sunny."), UsageDelta(20, 4), STOP, EOF)[-1] == run.terminal
    assert run.terminal == RunDone(FinishReason.STOP, "stop", Usage(30, 7))
    assert run.messages == (*messages, AssistantMessage((TextPart("It is sunny."),)))


def test_a_run_that_traces_tells_where_both_machines_go() -> None:
    run = Run("some-run", REQUEST, traces=True)
    outputs = tell(run, Begin(), TextDelta("It is "), TextDelta("sunny."), STOP, EOF)
    told = [output for output in outputs if isinstance(output, Transition)]
    assert [(each.machine, each.source, each.symbol, each.target) for each in told] == [
        ("run", "ready", "begin", "calling"),
        ("run", "calling", "delta", "replying"),
        ("reply", "waiting", "text_open", "text"),
        ("reply", "text", "finish", "finished"),
        ("reply", "finished", "eof", "done"),
        ("run", "replying", "reply_stop", "done"),
    ]
    assert isinstance(outputs[0], RunStarted)
    assert outputs[-1] == run.terminal


@pytest.mark.parametrize(
    ("deltas", "reason", "error"),
    [
        ([TextDelta("a"), STOP, EOF], FinishReason.STOP, None),
        ([TextDelta("a"), End()], FinishReason.STOP, None),
        ([TextDelta("a"), Finish(FinishReason.LENGTH, "length"), EOF], FinishReason.LENGTH, None),
        ([CallDelta(0, "A", "f", "{"), Finish(FinishReason.LENGTH, "length"), EOF], FinishReason.LENGTH, None),
        ([RefusalDelta("no"), STOP, EOF], None, FILTERED),
        ([Finish(FinishReason.CONTENT_FILTER, "content_filter"), EOF], None, FILTERED),
        ([FinishNotice(FinishReason.CONTEXT_LENGTH, "model_context_window_exceeded"), End()], None, OVERFLOW),
        ([TextDelta("a"), EOF], None, TRUNCATED),
        ([Failure(LOST)], None, LOST),
        ([TextDelta("a"), Failure(LOST)], None, LOST),
        ([SignatureDelta("for nothing")], None, BROKEN_WIRE),
        ([CALL, CallEnd(0), CallDelta(0, "", "", "more")], None, BROKEN_WIRE),
    ],
)
def test_every_way_in_which_a_reply_without_tools_ends_a_run(
    deltas: list[Delta], reason: FinishReason | None, error: RunError | None
) -> None:
    run = begun()
    outputs = tell(run, *deltas)
    assert outputs[-1] == run.terminal
    assert [output for output in outputs if isinstance(output, RunDone | RunFailed)] == [run.terminal]
    if isinstance(run.terminal, RunDone):
        assert run.terminal.finish_reason is reason
    else:
        assert error_of(run) == error


def test_case_37_a_connection_that_breaks_after_the_finish_reason_does_no_harm() -> None:
    run = begun()
    tell(run, TextDelta("a"), STOP, UpstreamFailed(LOST))
    assert isinstance(run.terminal, RunDone)
    run = begun()
    tell(run, TextDelta("a"), FinishNotice(FinishReason.STOP, "end_turn"), UpstreamFailed(LOST))
    assert error_of(run) == LOST


BEFORE: dict[State, list[Input]] = {
    State.CALLING: [],
    State.REPLYING: [TextDelta("12345678")],
    State.TOOLS: [CALL, UsageDelta(9, 2), CALLS, EOF],
}


@pytest.mark.parametrize("state", BEFORE)
def test_a_cancel_ends_a_run_in_every_state_with_its_own_words(state: State) -> None:
    run = begun()
    tell(run, *BEFORE[state])
    assert run.state is state
    outputs = tell(run, Cancel(LEFT))
    assert [output for output in outputs if isinstance(output, RunDone | RunFailed)] == [outputs[-1]]
    assert error_of(run) == LEFT
    assert tell(run, Cancel(LOST), ToolDone(0, "late"), ToolDone(7, "stray"), NOTE, EOF, UpstreamFailed(LOST)) == []
    assert error_of(run) == LEFT


def test_a_run_cancelled_before_it_began_still_starts_and_ends() -> None:
    run = Run("some-run", REQUEST)
    assert tell(run, Cancel(LEFT)) == [RunStarted("some-run", "some-model"), RunFailed(LEFT, Usage())]
    assert tell(run, Begin()) == []


def test_what_was_said_before_a_cancel_is_kept() -> None:
    run = begun()
    tell(run, TextDelta("half an ans"), Cancel(LEFT))
    assert run.messages == (ASKED, AssistantMessage((TextPart("half an ans"),)))


@pytest.mark.parametrize("state", [*BEFORE, None])
def test_what_a_driver_may_not_say_is_refused_and_changes_nothing(state: State | None) -> None:
    for happened in ALPHABET:
        run = Run("some-run", REQUEST)
        if state is not None:
            tell(run, Begin(), *BEFORE[state])
        before = (run.state, run.step, run.messages, run.usage)
        try:
            tell(run, happened)
        except LocalProtocolError:
            assert (run.state, run.step, run.messages, run.usage) == before
        else:
            assert state is not None or isinstance(happened, Begin | Cancel)
    with pytest.raises(LocalProtocolError, match="tool_stray in state ready"):
        Run("some-run", REQUEST).receive(ToolDone(0, "nobody asked"))


# -- usage -----------------------------------------------------------------------------------------------------------


def test_case_63_a_run_that_is_cut_off_still_costs_what_it_said() -> None:
    run = begun()
    assert run.usage == Usage(PROMPT_TOKENS, 0, estimated=True)
    tell(run, TextDelta("12345678"))
    assert run.usage == Usage(PROMPT_TOKENS, 2, estimated=True)
    tell(run, Cancel(LEFT))
    assert run.terminal == RunFailed(LEFT, Usage(PROMPT_TOKENS, 2, estimated=True))
    assert run.usage == run.terminal.usage


def test_case_63_the_provider_is_believed_where_it_spoke_before_the_cut() -> None:
    run = begun()
    tell(run, UsageDelta(100, 1), TextDelta("12345678" * 4), Cancel(LEFT))
    assert run.usage == Usage(100, 8, estimated=True)
    run = begun()
    tell(run, TextDelta("12345678"), UsageDelta(100, 50), Cancel(LEFT))
    assert run.usage == Usage(100, 50, estimated=True)


def test_a_provider_that_never_says_usage_is_estimated() -> None:
    run = begun()
    tell(run, TextDelta("12345678"), STOP, EOF)
    assert run.usage == Usage(PROMPT_TOKENS, 2, estimated=True)


def test_a_request_that_was_refused_costs_nothing() -> None:
    run = begun()
    tell(run, UpstreamFailed(LOST))
    assert run.terminal == RunFailed(LOST, Usage())


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=5))
def test_a_run_costs_the_sum_of_its_steps(steps: list[tuple[int, int]]) -> None:
    run = begun()
    for n, (tokens_in, tokens_out) in enumerate(steps):
        last = n == len(steps) - 1
        tell(run, UsageDelta(tokens_in, tokens_out), TextDelta("a") if last else CALL, STOP, EOF)
        if not last:
            tell(run, ToolDone(0, f"result {n}"))
    assert run.terminal == RunDone(FinishReason.STOP, "stop", Usage(sum(i for i, _ in steps), sum(o for _, o in steps)))


# -- tools -----------------------------------------------------------------------------------------------------------


def test_results_go_to_the_model_in_the_order_of_the_calls_whichever_came_first() -> None:
    run = begun()
    tell(run, CallDelta(0, "A", "f", "{}"), CallDelta(1, "B", "g", "{}"), CALLS, EOF)
    outputs = tell(run, ToolDone(1, "second"), ToolDone(0, "first", is_error=True))
    assert outputs[:2] == [ToolResult("B", "g", "second"), ToolResult("A", "f", "first", is_error=True)]
    assert run.messages[-2:] == (ToolMessage("A", "f", "first", is_error=True), ToolMessage("B", "g", "second"))


def test_a_result_that_came_twice_is_refused() -> None:
    run = begun()
    tell(run, CallDelta(0, "A", "f", "{}"), CallDelta(1, "B", "g", "{}"), CALLS, EOF, ToolDone(0, "once"))
    with pytest.raises(LocalProtocolError):
        tell(run, ToolDone(0, "twice"))


def test_a_broken_call_is_answered_for_the_model_and_never_run() -> None:
    run = begun()
    outputs = tell(run, CallDelta(0, "A", "f", "{}}"), CallDelta(1, "B", "g", "{}"), CALLS, EOF)
    assert outputs[-3:] == [
        ToolResult("A", "f", MALFORMED_ARGUMENTS, is_error=True),
        ToolsStarted((CallReady(1, "B", "g", "{}"),)),
        StartTools((CallReady(1, "B", "g", "{}"),)),
    ]
    tell(run, ToolDone(1, "done"))
    assert run.messages[-2:] == (
        ToolMessage("A", "f", MALFORMED_ARGUMENTS, is_error=True),
        ToolMessage("B", "g", "done"),
    )


def test_a_step_with_broken_calls_alone_goes_on_at_once() -> None:
    run = begun()
    outputs = tell(run, CallDelta(0, "A", "f", "{}}"), CALLS, EOF)
    assert [type(output) for output in outputs[-3:]] == [ToolResult, StepStarted, OpenUpstream]


def test_case_34_no_tool_starts_from_a_reply_that_was_cut() -> None:
    for end in (EOF, Failure(LOST), UpstreamFailed(LOST), Finish(FinishReason.LENGTH, "length")):
        run = begun()
        outputs = tell(run, CALL, CallDelta(1, "B", "g", "{"), end, *([EOF] if run.terminal is None else []))
        assert not any(isinstance(output, StartTools | ToolsStarted) for output in outputs)
        assert run.terminal is not None


def test_an_eager_tool_starts_at_the_end_of_its_call_and_others_wait() -> None:
    run = begun(eager=["weather"])
    tell(run, CALL, CallDelta(1, "B", "g", "{}"))
    assert tell(run, CallEnd(0))[-2:] == [ToolsStarted((READY,)), StartTools((READY,))]
    assert not any(isinstance(output, StartTools) for output in tell(run, CallEnd(1)))
    assert tell(run, NOTE) == [NOTE.event]
    assert tell(run, ToolDone(0, "sunny")) == [ToolResult("A", "weather", "sunny")]
    assert tell(run, CALLS, EOF)[-1] == StartTools((CallReady(1, "B", "g", "{}"),))


def test_without_an_explicit_end_an_eager_tool_starts_with_the_others() -> None:
    run = begun(eager=["weather"])
    outputs = tell(run, CALL, CALLS, EOF)
    assert [output.calls for output in outputs if isinstance(output, StartTools)] == [(READY,)]


def test_when_every_eager_tool_is_done_the_next_step_begins_with_the_end_of_the_reply() -> None:
    run = begun(eager=["weather"])
    tell(run, CALL, CallEnd(0), ToolDone(0, "sunny"))
    assert isinstance(tell(run, CALLS, EOF)[-1], OpenUpstream)
    assert run.step == 2


def test_progress_is_relayed_as_it_comes() -> None:
    run = begun()
    tell(run, CALL, CALLS, EOF)
    progress = ToolProgress("A", "weather", msgspec.Raw(b'{"percent":50}'))
    assert tell(run, ToolNote(progress)) == [progress]


# -- loops -----------------------------------------------------------------------------------------------------------


def rounds(run: Run, answers: Iterable[str], eager: bool = False) -> int:
    """Call a tool once per answer until the run ends; return how many requests went to the model."""
    for answer in answers:
        if run.terminal is not None:
            break
        order: list[Input] = [CALL, CallEnd(0), ToolDone(0, answer), CALLS, EOF] if eager else [
            CALL, CALLS, EOF, ToolDone(0, answer)
        ]  # fmt: skip
        tell(run, *order)
    return run.step


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("repeated", [2, 3, 5])
def test_case_72_the_same_calls_with_the_same_results_end_a_run(repeated: int, eager: bool) -> None:
    run = begun(RunLimits(repeated_steps=repeated), ["weather"] if eager else [])
    assert rounds(run, ["same"] * 9, eager) == repeated
    assert error_of(run) == no_progress(RunLimits(repeated_steps=repeated))


def test_case_72_a_result_that_changes_is_progress() -> None:
    run = begun(RunLimits(repeated_steps=2))
    assert rounds(run, ["one", "two", "one", "two", "one"]) == 6
    assert run.terminal is None


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_case_72_a_run_has_at_most_so_many_steps(steps: int) -> None:
    run = begun(RunLimits(steps=steps))
    last = 0
    for n in range(9):
        outputs = tell(run, CALL, CALLS, EOF)
        if run.terminal is not None:
            last = run.step
            assert not any(isinstance(output, StartTools) for output in outputs)
            break
        tell(run, ToolDone(0, f"result {n}"))
    assert last == steps
    assert error_of(run) == too_many_steps(RunLimits(steps=steps))


def test_case_73_a_paused_turn_goes_back_as_it_is_and_pauses_are_bounded() -> None:
    run = begun(RunLimits(steps=3))
    paused: list[Input] = [TextDelta("so far"), Finish(FinishReason.PAUSE, "pause_turn"), EOF]
    outputs = tell(run, *paused)
    assert isinstance(outputs[-1], OpenUpstream)
    assert outputs[-1].request.messages == (ASKED, AssistantMessage((TextPart("so far"),)))
    tell(run, *paused, *paused)
    assert error_of(run) == too_many_steps(RunLimits(steps=3))


# -- any order -------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(ALPHABET), max_size=25))
def test_started_is_first_the_terminal_last_and_nothing_follows(inputs: list[Input]) -> None:
    run = Run("some-run", REQUEST, RunLimits(steps=3, repeated_steps=2), frozenset({"fast"}))
    outputs: list[Output] = []
    for happened in inputs:
        with suppress(LocalProtocolError):
            outputs += run.receive(happened)
    outputs += run.receive(Cancel(LEFT))
    assert isinstance(outputs[0], RunStarted)
    assert [output for output in outputs if isinstance(output, RunDone | RunFailed)] == [outputs[-1]] == [run.terminal]
    assert isinstance(run.terminal, RunDone | RunFailed)
    assert run.usage == run.terminal.usage


def test_a_run_that_is_over_may_let_go_of_its_conversation() -> None:
    """What it was and what it cost stays; what may still be said to it changes nothing."""
    run = Run("r", REQUEST)
    for happened in (Begin(), TextDelta("sunny"), Finish(FinishReason.STOP, "stop"), UsageDelta(3, 2), End()):
        run.receive(happened)
    before = (run.terminal, run.usage, run.model, run.step, run.state)
    said = run.messages
    assert len(said) == 2
    run.release()
    assert not run.messages
    for late in (Cancel(LEFT), UpstreamFailed(LOST), ToolDone(0, "late"), NOTE, TextDelta("late")):
        assert run.receive(late) == []
    assert (run.terminal, run.usage, run.model, run.step, run.state) == before
