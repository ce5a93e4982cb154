"""`Run`: the whole answer to one user turn. The table in `run_table` decides; this file performs.

Theory of operation: the driver feeds inputs and performs the outputs in order; events among them it publishes. A delta
goes to the step's `Reply` first; what that did (a call that may start early, the reply's end) is fired at the table as
a symbol of its own before `receive` returns. The terminal event is always the last output, and there is exactly one.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from .deltas import Delta, Eof, Failure, FinishReason, TextDelta, Usage
from .errors import ErrorCode, LocalProtocolError, RemoteProtocolError, RunError
from .events import (
    CallBroken,
    CallReady,
    Machine,
    RunDone,
    RunFailed,
    RunStarted,
    StepStarted,
    Terminal,
    ToolResult,
    ToolsStarted,
    Transition,
)
from .history import Message, Request, ToolMessage
from .limits import RunLimits, no_progress, too_many_steps
from .reply import Reply
from .reply_table import State as ReplyState
from .run_inputs import Begin, Cancel, Input, OpenUpstream, Output, StartTools, ToolDone, ToolNote, UpstreamFailed
from .run_table import TABLE, Action, State, Symbol
from .table import Arrow, Table
from .usage import add_usage, estimate_prompt_tokens

FILTERED = RunError(ErrorCode.CONTENT_FILTER, "The provider declined to answer.")
OVERFLOW = RunError(ErrorCode.CONTEXT_LENGTH, "The conversation is too long for the model.")
BROKEN_WIRE = RunError(
    ErrorCode.UPSTREAM_ERROR, "The provider sent events in an order that its protocol does not allow.", retryable=True
)
MALFORMED_ARGUMENTS = "The arguments are not valid JSON. Send the call again with one complete JSON object."

_FORWARD = Arrow(State.REPLYING, (Action.FORWARD,))
_REPLY_ENDS = {
    FinishReason.STOP: Symbol.REPLY_STOP,
    FinishReason.LENGTH: Symbol.REPLY_LENGTH,
    FinishReason.CONTENT_FILTER: Symbol.REPLY_FILTERED,
    FinishReason.CONTEXT_LENGTH: Symbol.REPLY_OVERFLOW,
    FinishReason.PAUSE: Symbol.REPLY_PAUSE,
    FinishReason.TOOL_CALLS: Symbol.REPLY_CALLS,
}


class Run:
    """One run. `eager` names the tools that may start before their reply has ended (they have no side effects). With
    `traces` the transitions of both machines are among its events.
    """

    def __init__(
        self,
        run_id: str,
        request: Request,
        limits: RunLimits | None = None,
        eager: frozenset[str] = frozenset(),
        table: Table[State, Symbol] = TABLE,
        *,
        traces: bool = False,
    ) -> None:
        self.run_id = run_id
        self.model = request.model
        self.state = State.READY
        self.step = 0
        self.terminal: Terminal | None = None
        self.spent: list[Usage] = []  # by each step whose reply has begun, until the one that goes on
        self.reasons: list[FinishReason | None] = []  # why each of these ended; None: it was cut off
        self._request = request
        self._limits = limits or RunLimits()
        self._eager = eager
        self._table = table
        self._traces = traces
        self._messages: list[Message] = list(request.messages)
        self._spent = Usage()
        self._reply = Reply(self._limits.reply, traces=traces)
        self._started: dict[int, CallReady] = {}
        self._results: dict[int, ToolDone] = {}
        self._last_step: object = None
        self._repeats = 1
        # Where a delta does no more than go to the reply, which has a short way for most.
        self._plain = State.REPLYING if table[State.REPLYING].get(Symbol.DELTA) == _FORWARD else None

    def receive(self, happened: Input) -> list[Output]:
        """Take one input; return what to publish and to do, in order. After the terminal event: nothing.

        Raises LocalProtocolError, and changes nothing, if the driver may not say this now. A provider's faults never
        raise: they end the run with UPSTREAM_ERROR. Synchronous and not re-entrant: any task of the run may call it.
        """
        if type(happened) is TextDelta and self.state is self._plain:
            event = self._reply.more(happened)
            if event is not None:
                return [event]
        outputs: list[Output] = []
        classify = _CLASSIFY.get(type(happened))
        self._fire(Symbol.DELTA if classify is None else classify(self, happened), happened, outputs)
        return outputs

    def release(self) -> None:
        """Let go of the conversation, after the terminal event: who keeps the run's log need not keep it twice."""
        self._messages = []
        self._request = msgspec.structs.replace(self._request, messages=(), tools=())
        self._reply = Reply(self._limits.reply)
        self._started, self._results, self._last_step = {}, {}, None

    @property
    def replying(self) -> bool:
        """True while the step's upstream has more to say; deltas may be fed only then."""
        return self.state in _REPLYING

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far: what was asked, and what each finished reply and tool added. None once released."""
        return tuple(self._messages)

    @property
    def usage(self) -> Usage:
        """What the run has cost until now; estimated where a provider has not said."""
        if not self.replying:
            return self._spent
        return add_usage(self._spent, self._step_usage())

    @property
    def reply_tokens(self) -> int:
        """What the reply that is under way has come to, by the published estimator."""
        return self._reply.estimated_output_tokens

    def _fire(self, symbol: Symbol, happened: Any, outputs: list[Output]) -> None:
        arrow = self._table[self.state].get(symbol)
        if arrow is None:
            raise LocalProtocolError(f"{symbol} in state {self.state}")
        source, at = self.state, len(outputs)
        # First the state: what an action fires is judged from where this arrow leads.
        self.state = arrow.target  # type: ignore[assignment]  # Arrow serves both machines; this table holds Run's
        for action in arrow.actions:
            _PERFORM[action](self, happened, outputs)
        if self._traces and arrow.target is not source:
            behind_start = at + (source is State.READY)
            outputs.insert(behind_start, Transition(Machine.RUN, source, symbol, arrow.target))

    # -- classification -------------------------------------------------------------------------------------------

    def _classify_upstream(self, _happened: UpstreamFailed) -> Symbol:
        # Chat Completions may be cut after its finish reason without harm.
        late = self.state is State.REPLYING and self._reply.state is ReplyState.FINISHED
        return Symbol.UPSTREAM_CLOSED if late else Symbol.UPSTREAM_FAILED

    def _classify_tool(self, done: ToolDone) -> Symbol:
        waiting = self._started.keys() - self._results.keys()
        if done.part not in waiting:
            return Symbol.TOOL_STRAY
        waiting -= {done.part}
        if self.state is not State.TOOLS or waiting:
            return Symbol.TOOL_DONE
        return Symbol.TOOL_REPEATED if self._repeats_with(done) else Symbol.TOOL_LAST

    def _classify_reply(self) -> Symbol:
        if self._reply.state is ReplyState.FAILED:
            return Symbol.REPLY_FAILED
        symbol = _REPLY_ENDS[self._reply.finish_reason]
        if symbol not in (Symbol.REPLY_CALLS, Symbol.REPLY_PAUSE):
            return symbol
        if self.step >= self._limits.steps:
            return Symbol.REPLY_EXHAUSTED
        if symbol is Symbol.REPLY_PAUSE or any(call.part not in self._results for call in self._runnable()):
            return symbol
        return Symbol.REPLY_REPEATED if self._repeats_with() else Symbol.REPLY_SETTLED

    def _runnable(self) -> list[CallReady]:
        calls = [call for call in self._reply.calls if isinstance(call, CallReady)]
        return sorted(calls, key=lambda call: call.part)

    def _fingerprint(self, *more: ToolDone) -> object:
        results = self._results | {done.part: done for done in more}
        return [(call.name, call.arguments, results.get(call.part)) for call in self._reply.calls]

    def _repeats_with(self, *more: ToolDone) -> bool:
        same = self._fingerprint(*more) == self._last_step
        return same and self._repeats + 1 >= self._limits.repeated_steps

    # -- actions --------------------------------------------------------------------------------------------------

    def _start(self, _happened: object, outputs: list[Output]) -> None:
        outputs.append(RunStarted(self.run_id, self._request.model))

    def _open_step(self, _happened: object, outputs: list[Output]) -> None:
        self.step += 1
        self._reply = Reply(self._limits.reply, f"call_{self.step}_", traces=self._traces)
        self._started, self._results = {}, {}
        request = msgspec.structs.replace(self._request, messages=tuple(self._messages))
        outputs += (StepStarted(self.step), OpenUpstream(self.step, request))

    def _forward(self, delta: Delta, outputs: list[Output]) -> None:
        reply = self._reply
        try:
            events = reply.receive(delta)
        except RemoteProtocolError:
            events = reply.receive(Failure(BROKEN_WIRE))
        outputs += events
        if self._eager:
            for event in events:
                if isinstance(event, CallReady) and event.name in self._eager and reply.state not in _REPLY_OVER:
                    self._fire(Symbol.CALL_EAGER, event, outputs)
        if reply.state in _REPLY_OVER:
            self._fire(self._classify_reply(), delta, outputs)

    def _forward_eof(self, _happened: object, outputs: list[Output]) -> None:
        self._forward(Eof(), outputs)

    def _start_eager(self, call: CallReady, outputs: list[Output]) -> None:
        self._started[call.part] = call
        outputs += (ToolsStarted((call,)), StartTools((call,)))

    def _start_tools(self, _happened: object, outputs: list[Output]) -> None:
        outputs += [
            ToolResult(call.call_id, call.name, MALFORMED_ARGUMENTS, is_error=True)
            for call in self._reply.calls
            if isinstance(call, CallBroken)
        ]
        calls = tuple(call for call in self._runnable() if call.part not in self._started)
        if calls:
            self._started |= {call.part: call for call in calls}
            outputs += (ToolsStarted(calls), StartTools(calls))

    def _note_result(self, done: ToolDone, outputs: list[Output]) -> None:
        call = self._started[done.part]
        self._results[done.part] = done
        outputs.append(ToolResult(call.call_id, call.name, done.content, done.is_error))

    def _relay_note(self, note: ToolNote, outputs: list[Output]) -> None:
        outputs.append(note.event)

    def _spend(self, _happened: object, _outputs: list[Output]) -> None:
        usage = self._step_usage()
        self.spent.append(usage)
        self.reasons.append(self._reply.finish_reason if self._reply.state is ReplyState.DONE else None)
        self._spent = add_usage(self._spent, usage)

    def _keep_reply(self, _happened: object, _outputs: list[Output]) -> None:
        self._messages.append(self._reply.message())

    def _settle_step(self, _happened: object, _outputs: list[Output]) -> None:
        fingerprint = self._fingerprint()
        self._repeats = self._repeats + 1 if fingerprint == self._last_step else 1
        self._last_step = fingerprint
        for call in sorted(self._reply.calls, key=lambda call: call.part):
            done = self._results.get(call.part) or ToolDone(call.part, MALFORMED_ARGUMENTS, is_error=True)
            self._messages.append(ToolMessage(call.call_id, call.name, done.content, done.is_error))

    def _abort_reply(self, happened: UpstreamFailed | Cancel, outputs: list[Output]) -> None:
        outputs += self._reply.receive(Failure(happened.error))

    def _finish(self, _happened: object, outputs: list[Output]) -> None:
        reply = self._reply
        self._end(RunDone(reply.finish_reason, reply.raw_finish_reason, self._spent), outputs)

    def _fail(self, happened: UpstreamFailed | Cancel, outputs: list[Output]) -> None:
        self._end(RunFailed(happened.error, self._spent), outputs)

    def _fail_reply(self, _happened: object, outputs: list[Output]) -> None:
        self._end(RunFailed(self._reply.error or BROKEN_WIRE, self._spent), outputs)

    def _fail_filtered(self, _happened: object, outputs: list[Output]) -> None:
        self._end(RunFailed(FILTERED, self._spent), outputs)

    def _fail_overflow(self, _happened: object, outputs: list[Output]) -> None:
        self._end(RunFailed(OVERFLOW, self._spent), outputs)

    def _fail_exhausted(self, _happened: object, outputs: list[Output]) -> None:
        self._end(RunFailed(too_many_steps(self._limits), self._spent), outputs)

    def _fail_repeated(self, _happened: object, outputs: list[Output]) -> None:
        self._end(RunFailed(no_progress(self._limits), self._spent), outputs)

    def _end(self, terminal: Terminal, outputs: list[Output]) -> None:
        self.terminal = terminal
        outputs.append(terminal)

    def _step_usage(self) -> Usage:
        usage = self._reply.usage
        if usage is not None and self._reply.state is ReplyState.DONE:
            return usage
        said = usage or Usage()
        return msgspec.structs.replace(
            said,
            input_tokens=said.input_tokens or estimate_prompt_tokens(self._messages),
            output_tokens=max(said.output_tokens, self._reply.estimated_output_tokens),
            estimated=True,
        )


_REPLYING = (State.CALLING, State.REPLYING)
_REPLY_OVER = (ReplyState.DONE, ReplyState.FAILED)


# Whatever is not here is a delta.
_CLASSIFY: dict[type, Callable[[Run, Any], Symbol]] = {
    Begin: lambda _run, _happened: Symbol.BEGIN,
    UpstreamFailed: Run._classify_upstream,
    ToolDone: Run._classify_tool,
    ToolNote: lambda _run, _happened: Symbol.TOOL_NOTE,
    Cancel: lambda _run, _happened: Symbol.CANCEL,
}
_PERFORM: dict[Any, Callable[[Run, Any, list[Output]], None]] = {
    action: getattr(Run, f"_{action}") for action in Action
}
