"""Breadth-first search over everything that a run can be told, and an oracle that knows no table.

The oracle knows what a driver knows: whether its request is open, which tools it was asked to run, and whether the end
came. It says from that alone which inputs are legal and where the run must be.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

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
from sluicegate.machine.table import Arrow, Table
from tests.machine.explore import copied as copied_reply
from tests.machine.explore import require, shallow

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
OVER = (State.DONE, State.FAILED)


@dataclass
class Oracle:
    """What a driver knows of one run from its inputs and outputs alone."""

    state: State = State.READY
    running: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    steps: int = 0
    outputs: int = 0

    def allows(self, happened: Input) -> bool:
        """May the driver say this now?"""
        if self.state in OVER or isinstance(happened, Cancel):
            return True
        if isinstance(happened, Begin):
            return self.state is State.READY
        if isinstance(happened, ToolDone):
            return happened.part in self.running
        if isinstance(happened, ToolNote):
            return self.state in (State.REPLYING, State.TOOLS)
        return self.state in (State.CALLING, State.REPLYING)

    def check(self, happened: Input, outputs: list[Output], run: Run) -> None:
        """Check one accepted input."""
        over = self.state in OVER
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
        self.state = self._expected(happened, opened, ends)
        require(run.state is self.state, f"{run.state}, should be {self.state}")

    def _expected(self, happened: Input, opened: list[OpenUpstream], ends: list[RunDone | RunFailed]) -> State:
        if self.state in OVER:
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


def new_run(table: Table[State, Symbol] = TABLE, *, traces: bool = False) -> Run:
    """A run with LIMITS whose tool `fast` is eager."""
    request = Request("m", (UserMessage(()),))
    return Run("r", request, LIMITS, frozenset({"fast"}), table, traces=traces)


def step(run: Run, oracle: Oracle, happened: Input) -> bool:
    """Tell `run` one input under the oracle's eyes; False if it was rightly refused."""
    legal = oracle.allows(happened)
    before = None if legal else fingerprint(run)
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
    """Everything about a run that decides what may happen next."""
    if run.state in OVER:
        return run.state, bool(run._started.keys() - run._results.keys())
    tools = (frozenset(run._started), frozenset(run._results))
    past = (run.step, run._repeats, _step_before(run))
    reply = run._reply
    calls = frozenset((call.key, call.state) for call in reply._calls.order)
    return run.state, past, tools, reply.state, calls, reply._noted, bool(reply._parts)


def _step_before(run: Run) -> object:
    """What the step before asked for and got: whether the next one repeats it hangs on that."""
    last = run._last_step
    assert last is None or isinstance(last, list)
    return last and frozenset((name, arguments, done is None) for name, arguments, done in last)


def _copied(run: Run) -> Run:
    """A deep copy, by hand because a search makes a hundred thousand of them."""
    twin = shallow(run)
    twin._messages = list(run._messages)
    twin._reply = copied_reply(run._reply)
    twin._started, twin._results = dict(run._started), dict(run._results)
    return twin


def _watching(oracle: Oracle) -> Oracle:
    return Oracle(oracle.state, set(oracle.running), set(oracle.answered), oracle.steps, oracle.outputs)


class _Row(dict[Symbol, Arrow]):
    """A row of the table that notes which of its arrows are taken."""

    def __init__(self, state: State, row: Mapping[Symbol, Arrow], taken: list[tuple[State, Symbol]]) -> None:
        super().__init__(row)
        self._state = state
        self._taken = taken

    def get(self, symbol: Symbol, default: Arrow | None = None) -> Arrow | None:  # type: ignore[override]
        if symbol in self:
            self._taken.append((self._state, symbol))
        return super().get(symbol, default)


@dataclass(frozen=True)
class Found:
    """What a search saw; `witness` is a shortest way to take each arrow."""

    states: int
    transitions: int
    witness: dict[tuple[State, Symbol], tuple[Input, ...]]


def explore() -> Found:
    """Search breadth first through every order of ALPHABET; raise Wrong at the first thing the oracle forbids."""
    taken: list[tuple[State, Symbol]] = []
    first = new_run({state: _Row(state, row, taken) for state, row in TABLE.items()})
    seen = {fingerprint(first)}
    queue: deque[tuple[Run, Oracle, tuple[Input, ...]]] = deque([(first, Oracle(), ())])
    witness: dict[tuple[State, Symbol], tuple[Input, ...]] = {}
    transitions = 0
    while queue:
        run, oracle, path = queue.popleft()
        twin, watcher = _copied(run), _watching(oracle)
        for happened in ALPHABET:
            transitions += 1
            taken.clear()
            if not step(twin, watcher, happened):
                continue  # a refusal changed nothing: the twin serves again
            for arrow in taken:
                witness.setdefault(arrow, (*path, happened))
            key = fingerprint(twin)
            if key not in seen:
                seen.add(key)
                queue.append((twin, watcher, (*path, happened)))
            twin, watcher = _copied(run), _watching(oracle)
    return Found(len(seen), transitions, witness)
