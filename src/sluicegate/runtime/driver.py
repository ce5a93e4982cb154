"""The driver of one run: performs what `Run` asks for. One nursery, whose cancel scope is the run's.

Whatever ends a run tells the machine first and cancels the scope afterwards; telling is synchronous, so the terminal
event is in the log before anything is cancelled, and there is exactly one. That goes for deadlines, too: they are
watched from outside, by an alarm.
"""

import logging
import math
from enum import StrEnum
from typing import Any, Final

import msgspec
import trio

from ..machine.deltas import Delta, Usage
from ..machine.errors import ErrorCode, RunError
from ..machine.events import Event, RunFailed, RunStarted, StepStarted, Terminal
from ..machine.run import Run
from ..machine.run_inputs import Begin, Cancel, Input, OpenUpstream, Output, StartTools, UpstreamFailed
from ..machine.run_table import State
from ..machine.usage import estimate_prompt_tokens
from ..providers.base import NO_TRACE, Body, ProviderError
from ..providers.route import Candidate, Route, Turns
from ..tools.registry import Registry
from .alarms import Alarms
from .batch import Batch
from .budget import Budget
from .feed import Feed, Reader, ReaderState
from .ledger import Intent, Ledger, MemoryLedger, Settlement, Source
from .merge import merged
from .opening import Opening
from .options import RunOptions
from .ports import Sink
from .record import Attempt, Fallback, Record
from .spending import Spending
from .watch import Watch

_ORDERS: Final = (OpenUpstream, StartTools)
log = logging.getLogger(__name__)

LEFT = RunError(ErrorCode.CANCELLED, "The client disconnected.")
SHUTTING_DOWN = RunError(ErrorCode.SHUTTING_DOWN, "The server is shutting down.", retryable=True)
INTERNAL = RunError(ErrorCode.INTERNAL, "Something went wrong on our side.")


class Phase(StrEnum):
    """What the run is doing, for those who watch it from outside."""

    OPENING = "opening"
    STREAMING = "streaming"
    TOOLS = "tools"
    ENDED = "ended"


class OnDisconnect(StrEnum):
    """What the leaving of the last reader does. CANCEL: it ends the run at once. DETACH: after `grace_seconds`, unless
    a reader comes back.
    """

    CANCEL = "cancel"
    DETACH = "detach"


class Driver:
    """Drives `run` until its terminal event. Any task of the run may call `tell`; nobody awaits in it.

    `first` is the first event that tells whether the provider answers (not RunStarted, not StepStarted); `answered` is
    set together with it. `record` is what happened, and when. `prompt_tokens` is what was asked, by the estimator.
    """

    def __init__(
        self,
        run: Run,
        route: Route,
        tools: Registry,
        feed: Feed,
        options: RunOptions,
        ledger: Ledger | None = None,
        on_disconnect: OnDisconnect = OnDisconnect.CANCEL,
        owner: str = "",
        key: str = "",
        budget: Budget | None = None,
    ) -> None:
        self.run = run
        self.feed = feed
        self.on_disconnect = on_disconnect
        self.owner = owner
        self.key = key
        self.prompt_tokens = estimate_prompt_tokens(run.messages)
        self.phase = Phase.OPENING
        self.first: Event | None = None
        self.answered = trio.Event()
        self.record = Record.begun()
        self._route = route
        self._answered_by: Candidate | None = None
        self._opening: Opening | None = None  # of the reply that has not had its first word
        self._tools = tools
        self._options = options
        self._ledger = ledger or MemoryLedger()
        self._budget = budget
        self._spending = None if budget is None else Spending(budget, run, self.record)
        self._scope: trio.CancelScope | None = None  # while it drives
        self._batch: Batch | None = None
        self._body: Body | None = None  # of the step that is being read
        self._wanted: OpenUpstream | None = None
        self._wake = trio.Event()
        self._watch = Watch(options, feed, self.cancel, self.record.pauses)

    async def drive(self, alarms: Alarms) -> None:
        """Run to the end. Never raises but Cancelled (and then the log has its terminal event all the same)."""
        self._watch.start(alarms)
        try:
            if self._budget is not None:
                self._budget.begin()
                if (seconds := self._budget.room().seconds) < math.inf:
                    self._watch.limit(seconds, self._budget.late())
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                self._batch = Batch(
                    self.run.run_id, self._tools, nursery, self.tell, self._options.parallel_tools, self.record
                )
                self.tell(Begin())
                while (wanted := await self._next_step()) is not None:
                    turns = self._begin_step(wanted)
                    while True:
                        candidate = await self._next_candidate(turns)
                        try:  # here, not in a coroutine of its own: each one more is woken with every token
                            if not await self._attempt(candidate, turns, wanted):
                                break
                        finally:
                            candidate.gate.release()
                nursery.cancel_scope.cancel()
        except Exception:
            log.exception("run %s failed", self.run.run_id)
            self.tell(Cancel(INTERNAL))
        finally:
            self.tell(Cancel(SHUTTING_DOWN))
            self.phase = Phase.ENDED
            self._watch.stop()
            # What is held in a circle waits for the collector: 7 to 9 % of a short request's cost went there.
            self._body = self._batch = self._scope = self._opening = None

    def tell(self, happened: Input) -> None:
        """Hand an input to the machine and perform what comes of it. Synchronous; after the end it does nothing."""
        if isinstance(happened, Cancel) and self._is_unasked:
            happened = UpstreamFailed(happened.error)  # what was never sent costs nothing
        if self._opening is not None and self.run.terminal is None:
            for delta in self._take_opening():  # silent ones, but they may tell what the request has cost
                self.run.receive(delta)
        outputs = self.run.receive(happened)
        if outputs:
            self._perform(outputs)
            self._watch.note_published()

    def cancel(self, error: RunError) -> None:
        """End the run with `error` as its terminal event, at once. Harmless if it has ended."""
        self.tell(Cancel(error))

    def attach(self, after: int = 0, sink: Sink | None = None) -> Reader:
        """Return a new reader of the log; it holds the run until it is given to `detach`. Synchronous."""
        self._watch.be_joined()
        return self.feed.attach(after, sink)

    def detach(self, reader: Reader) -> None:
        """Let `reader` go. The last one to leave a live run ends it, at once or later. Synchronous; repeats do
        nothing.
        """
        if reader.state is ReaderState.CLOSED:
            return
        reader.close()
        if self.feed.readers or self.run.terminal is not None:
            return
        if self.on_disconnect is OnDisconnect.DETACH:
            self._watch.be_left()
        else:
            self.cancel(LEFT)

    def _perform(self, outputs: list[Output]) -> None:
        events: list[Any] = outputs
        for output in outputs:  # not a comprehension, which is a call on Python 3.11: a token is one event, no order
            if isinstance(output, _ORDERS):
                events = [output for output in outputs if not isinstance(output, _ORDERS)]
                break
        if self.run.terminal is not None:
            if isinstance(self.run.terminal, RunFailed) and self._body is not None:
                self._body.close()  # not only when the run's task has its turn: many may leave at once
            self._end_step()
            self._settle(self.run.terminal)  # before readers are told: none knows of an end that the ledger does not
        if len(events) < len(outputs):
            self._obey(outputs)
        if events:
            self.feed.publish(events)
            if self.first is None:
                self._note_first(events)
        if self.run.terminal is not None:
            self._end(self.run.terminal)

    def _settle(self, terminal: Terminal) -> None:
        outcome = terminal.error.code if isinstance(terminal, RunFailed) else terminal.finish_reason
        run, usage, record = self.run, terminal.usage, self.record
        record.ended = trio.current_time()
        cost = record.cost
        self.feed.note_cost(cost)
        if self._spending is not None:
            self._spending.end(usage, cost)
        self._ledger.settle(
            Settlement(
                run.run_id,
                self.owner,
                run.model,
                run.step,
                usage,
                Source.of(usage),
                outcome,
                cost,
                self.key,
                record.ended - record.began,
            )
        )

    def _end_step(self) -> None:
        self.record.end_step(self.run.spent, self.run.reasons)

    def _end(self, terminal: Terminal) -> None:
        self._wake.set()
        if isinstance(terminal, RunFailed) and self._scope is not None:
            self._scope.cancel()

    def _obey(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case OpenUpstream():
                    if output.step == 1:
                        self._intend()
                    self._wanted = output
                    self._wake.set()
                case StartTools(calls=calls):
                    self.phase = Phase.TOOLS
                    if self._batch is not None:
                        self._batch.start(calls)

    def _intend(self) -> None:
        run, prompt_tokens = self.run, self.prompt_tokens
        cost = self._route.candidates[0].cost_of(Usage(prompt_tokens))
        self._ledger.intend(Intent(run.run_id, self.owner, run.model, prompt_tokens, self.key, cost))

    def _note_first(self, events: list[Event]) -> None:
        for event in events:
            if not isinstance(event, RunStarted | StepStarted):
                self.first = event
                self.record.note_first_word(event)
                self.answered.set()
                return

    @property
    def _is_unasked(self) -> bool:
        """Whether nobody is asked for the step yet: it waits for its turn, a place at the gate, or another attempt."""
        return self.run.state is State.CALLING and self._opening is None

    async def _next_step(self) -> OpenUpstream | None:
        """Wait for the tools of a step; return the next request, or None after the terminal event."""
        while self._wanted is None and self.run.terminal is None:
            self._wake = trio.Event()
            await self._wake.wait()
        wanted, self._wanted = self._wanted, None
        return wanted

    def _begin_step(self, wanted: OpenUpstream) -> Turns:
        self.phase = Phase.OPENING
        self._watch.begin_step()
        self.record.begin_step(wanted.step, trio.current_time())
        return Turns(self._route, self._answered_by)

    async def _next_candidate(self, turns: Turns) -> Candidate:
        """Wait as long as the last attempt asks for, and for a place; return who is asked, whose gate is to be left."""
        if (seconds := turns.take_wait()) > 0:
            await trio.sleep(seconds)
        now = trio.current_time()
        candidate = turns.next(now)
        await candidate.gate.acquire(now)
        return candidate

    async def _attempt(self, candidate: Candidate, turns: Turns, wanted: OpenUpstream) -> bool:
        """Ask `candidate`. Return whether it failed before its first word, and another attempt is to follow."""
        step, provider = wanted.step, candidate.provider
        request = msgspec.structs.replace(wanted.request, model=candidate.model)
        if self._spending is not None:
            prompt_tokens = self.prompt_tokens if step == 1 else estimate_prompt_tokens(request.messages)
            if (too_much := self._spending.ask(candidate, prompt_tokens)) is not None:
                self.tell(UpstreamFailed(too_much))
                return False
            request = self._spending.capped(request)
        attempt = self.record.begin_attempt(candidate)
        trace = self.record.trace
        headers = NO_TRACE if trace is None else trace.headers(attempt.span_id)
        self._body, self._opening = None, Opening()
        try:
            async with provider.open(request, headers) as chunks:
                decoder = provider.decoder()
                self.phase = Phase.STREAMING
                self._body = chunks if isinstance(chunks, Body) else None
                async for data in chunks:
                    deltas = decoder.feed(data)
                    if self._opening is not None:
                        if not self._opening.feed(deltas):
                            continue
                        if self._is_given_up(attempt, turns, self._opening.failure):
                            return True
                        deltas = self._take_opening()
                    if not self._feed_deltas(step, deltas):
                        # Read on to EOF for a moment, so that the connection can be used again.
                        with trio.move_on_after(self._options.linger_seconds):
                            async for _ in chunks:
                                pass
                        return False
                    if self.feed.is_full():
                        await self._wait_room()
                deltas = decoder.eof()
                if self._opening is not None:
                    self._opening.feed(deltas)
                    if self._is_given_up(attempt, turns, self._opening.failure):
                        return True
                    deltas = self._take_opening()
                self._feed_deltas(step, deltas)
        except ProviderError as failure:
            if self._is_listening(step):
                if self._opening is not None and self._is_given_up(attempt, turns, failure.error):
                    return True
                self.tell(UpstreamFailed(failure.error))
            self._watch.stop_listening()  # broken off behind its last word, the reply is whole, and its tools run
        return False

    def _is_given_up(self, attempt: Attempt, turns: Turns, failure: RunError | None) -> bool:
        """The opening is over: note how `attempt` goes, and return whether another one takes its place."""
        now = trio.current_time()
        attempt.answered(now, failure, "" if self._opening is None else self._opening.model)
        if failure is None:
            self._answered_by = attempt.candidate
            return False
        again = self._is_listening(self.run.step) and turns.goes_on(failure)
        if again:
            self._opening = None
            name, model = attempt.candidate.gate.name, attempt.candidate.model
            fields = Fallback(self.run.run_id, name, model, failure.code, failure.reason)
            log.warning("a provider failed before its first word; another attempt follows", extra={"fields": fields})
        return again

    def _take_opening(self) -> list[Delta]:
        opening, self._opening = self._opening, None
        return [] if opening is None else opening.take()

    async def _wait_room(self) -> None:
        """Wait for the slowest reader; that is no silence of the provider's."""
        self._watch.stop_listening()
        await self.feed.wait_room()
        self._watch.hear()

    def _is_listening(self, step: int) -> bool:
        return self.run.step == step and self.run.replying

    def _feed_deltas(self, step: int, deltas: list[Delta]) -> bool:
        """Feed what one read brought, publish it as one; return whether the step wants more."""
        run = self.run
        outputs: list[Output] = []
        wants_more = True
        for delta in merged(deltas) if len(deltas) > 1 else deltas:
            outputs += run.receive(delta)
            wants_more = run.replying and run.step == step
            if not wants_more:
                break
        if outputs:  # a provider that only shows that it is there (pings, usage) is none that answers
            self._perform(outputs)
            self._watch.hear()
            if self._spending is not None and wants_more and (too_much := self._spending.read()) is not None:
                self.cancel(too_much)
                wants_more = False
        if not wants_more:
            self._end_step()
            self._watch.stop_listening()
        return wants_more
