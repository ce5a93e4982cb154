"""The table of `Run`: searched exhaustively with an oracle that sees only inputs and outputs; every mutant caught."""

import copy
from collections import deque
from dataclasses import dataclass, field

import pytest

from sluicegate.machine.deltas import CallDelta, CallEnd, End, Eof, Failure, Finish, FinishReason, TextDelta
from sluicegate.machine.errors import ErrorCode, LocalProtocolError, RunError
from sluicegate.machine.events import RunDone, RunFailed, RunStarted, ToolActivity, ToolResult
from sluicegate.machine.history import AssistantMessage, CallPart, Request, ToolMessage, UserMessage
from sluicegate.machine.limits import RunLimits
from sluicegate.machine.run import Run
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
from sluicegate.machine.run_table import TABLE, State, Symbol
from sluicegate.machine.table import Table, arrows
from tests.machine.explore import Wrong, require
from tests.machine.mutants import mutants

LIMITS = RunLimits(steps=3, repeated_steps=2)
ERROR = RunError(ErrorCode.UPSTREAM_ERROR, "broken")
STOPPED = RunError(ErrorCode.CANCELLED, "stopped")
NOTE = ToolNote(ToolActivity("A", "slow", "working"))
REASONS = (
    FinishReason.STOP,
    FinishReason.LENGTH,
    FinishReason.CONTENT_FILTER,
    FinishReason.CONTEXT_LENGTH,
    FinishReason.PAUSE,
)
# "fast" is eager, "slow" is not; the third call is broken and never runs.
ALPHABET: tuple[Input, ...] = (
    Begin(),
    TextDelta("a"),
    CallDelta(0, "A", "fast", "{}"),
    CallDelta(1, "B", "slow", "{}"),
    CallDelta(2, "C", "slow", "}"),
    CallEnd(0),
    *(Finish(reason, reason) for reason in REASONS),
    End(),
    Eof(),
    Failure(ERROR),
    UpstreamFailed(ERROR),
    ToolDone(0, "same"),
    ToolDone(1, "same"),
    NOTE,
    Cancel(STOPPED),
)
DELTAS = (TextDelta, CallDelta, CallEnd, Finish, End, Eof, Failure)


@dataclass
class Oracle:
    """What a driver knows: whether its request is open, which tools it was asked to run, whether the end came."""

    state: State = State.READY
    running: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    steps: int = 0
    outputs: int = 0

    def allows(self, happened: Input) -> bool:
        """May the driver say this now?"""
        if self.state in (State.DONE, State.FAILED) or isinstance(happened, Cancel):
            return True
        if isinstance(happened, Begin):
            return self.state is State.READY
        if isinstance(happened, ToolDone):
            return happened.part in self.running
        if isinstance(happened, ToolNote):
            return self.state in (State.REPLYING, State.TOOLS)
        return self.state in (State.CALLING, State.REPLYING)

    def check(self, happened: Input, outputs: list[Output], run: Run) -> None:
        over = self.state in (State.DONE, State.FAILED)
        require(not (over and outputs), "outputs after the end")
        if isinstance(happened, ToolDone) and not over:
            self.running.discard(happened.part)
            require(any(isinstance(output, ToolResult) for output in outputs), "a result is not told")
        if isinstance(happened, ToolNote) and not over:
            require(outputs == [NOTE.event], "a note is not told")
        opened = [output for output in outputs if isinstance(output, OpenUpstream)]
        ends = [output for output in outputs if isinstance(output, RunDone | RunFailed)]
        require(len(opened) + len(ends) <= 1, "more than one way on")
        require(not ends or outputs[-1] is ends[0], "something behind the terminal")
        require(self.outputs > 0 or not outputs or isinstance(outputs[0], RunStarted), "RunStarted is not first")
        self.outputs += len(outputs)
        for output in outputs:
            if isinstance(output, StartTools):
                for call in output.calls:
                    require(call.part not in self.running | self.answered, "a tool started twice")
                self.running |= {call.part for call in output.calls}
        if isinstance(happened, ToolDone):
            self.answered.add(happened.part)
        self.state = self._expected(happened, opened, ends, run)
        require(run.state is self.state, f"{run.state}, should be {self.state}")

    def _expected(self, happened: Input, opened: list[OpenUpstream], ends: list[Output], run: Run) -> State:
        if self.state in (State.DONE, State.FAILED):
            return self.state
        if ends:
            self.running.clear()
            return State.DONE if isinstance(ends[0], RunDone) else State.FAILED
        require(not isinstance(happened, Cancel | Failure), "went on after a cancel or a failure")
        if opened:
            require(not self.running, "a step ended before its tools")
            self.steps += 1
            require(opened[0].step == self.steps <= LIMITS.steps, "steps are miscounted")
            messages = opened[0].request.messages
            parts = [part for m in messages if isinstance(m, AssistantMessage) for part in m.parts]
            calls = {part.call_id for part in parts if isinstance(part, CallPart)}
            results = {m.call_id for m in messages if isinstance(m, ToolMessage)}
            require(calls == results, "a call without a result goes to the model")
            self.answered.clear()
            return State.CALLING
        if self.state is State.CALLING and isinstance(happened, DELTAS):
            return State.REPLYING
        if self.state is State.REPLYING and isinstance(happened, End | Eof | UpstreamFailed):
            require(bool(self.running), "waits for no tool")
            return State.TOOLS
        require(self.state is not State.TOOLS or bool(self.running), "waits for no tool")
        return self.state


def new_run(table: Table[State, Symbol] = TABLE) -> Run:
    request = Request("m", (UserMessage(()),))
    return Run("r", request, LIMITS, frozenset({"fast"}), table)


def step(run: Run, oracle: Oracle, happened: Input) -> bool:
    """Tell `run` one input under the oracle's eyes; False if it was rightly refused."""
    legal, before = oracle.allows(happened), fingerprint(run)
    try:
        outputs = run.receive(happened)
    except LocalProtocolError:
        require(not legal, f"{oracle.state} refuses {happened}")
        require(fingerprint(run) == before, "a refused input changed the run")
        return False
    require(legal, f"{oracle.state} takes {happened}")
    oracle.check(happened, outputs, run)
    return True


def fingerprint(run: Run) -> object:
    reply = run._reply
    calls = tuple((call.key, call.state) for call in reply._calls.order)
    step = (run.step, run._repeats, repr(run._last_step), frozenset(run._started), frozenset(run._results))
    if run.state in (State.DONE, State.FAILED):
        return run.state, bool(run._started.keys() - run._results.keys())
    return run.state, step, reply.state, calls, reply._noted, len(reply.calls), bool(reply._parts)


@pytest.fixture(scope="module")
def witness() -> dict[tuple[State, Symbol], tuple[Input, ...]]:
    """Search breadth first; return a shortest way to take each arrow."""
    taken: list[tuple[State, Symbol]] = []

    class Row(dict[Symbol, object]):
        state: State

        def get(self, symbol: Symbol, default: object = None) -> object:  # type: ignore[override]
            if symbol in self:
                taken.append((self.state, symbol))
            return super().get(symbol, default)

    table = {}
    for state, row in TABLE.items():
        table[state] = Row(row)
        table[state].state = state
    found: dict[tuple[State, Symbol], tuple[Input, ...]] = {}
    first = new_run(table)  # type: ignore[arg-type]
    seen = {fingerprint(first)}
    queue: deque[tuple[Run, Oracle, tuple[Input, ...]]] = deque([(first, Oracle(), ())])
    transitions = 0
    while queue:
        run, oracle, path = queue.popleft()
        for happened in ALPHABET:
            transitions += 1
            twin, watcher = copy.deepcopy((run, oracle), _shared(run, table))
            taken.clear()
            if not step(twin, watcher, happened):
                continue
            for arrow in taken:
                found.setdefault(arrow, (*path, happened))
            key = fingerprint(twin)
            if key not in seen:
                seen.add(key)
                queue.append((twin, watcher, (*path, happened)))
    print(f"run: {len(seen)} states, {transitions} transitions, {len(found)} arrows")
    assert len(seen) >= 300
    return found


def _shared(run: Run, table: object) -> dict[int, object]:
    from sluicegate.machine.reply import _NOWHERE
    from sluicegate.machine.reply_table import TABLE as REPLY_TABLE

    return {id(thing): thing for thing in (table, REPLY_TABLE, _NOWHERE, run._limits, run._request)}


@pytest.mark.sweep
def test_every_arrow_is_taken(witness: dict[tuple[State, Symbol], tuple[Input, ...]]) -> None:
    missing = {(state, symbol) for state, symbol, _ in arrows(TABLE)} - witness.keys()
    assert missing == set()


@pytest.mark.sweep
def test_every_single_arrow_mutant_is_caught(witness: dict[tuple[State, Symbol], tuple[Input, ...]]) -> None:
    survivors, count = [], 0
    for name, state, symbol, table in mutants(TABLE):
        count += 1
        run, oracle = new_run(table), Oracle()
        try:
            for happened in witness[state, symbol]:
                step(run, oracle, happened)
        except (Wrong, LocalProtocolError, KeyError):
            continue
        survivors.append(name)
    print(f"run: {count} mutants")
    assert survivors == []
    assert count >= 240
