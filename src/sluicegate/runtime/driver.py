"""The driver of one run: performs what `Run` asks for. One nursery, whose cancel scope is the run's.

Whatever ends a run tells the machine first and cancels the scope afterwards; telling is synchronous, so the terminal
event is in the log before anything is cancelled, and there is exactly one. That goes for deadlines, too: they are
watched from outside, by an alarm.
"""

import logging
from enum import StrEnum
from typing import Any, Final

import trio

from ..machine.deltas import Delta
from ..machine.errors import ErrorCode, RunError
from ..machine.events import Event, RunFailed, RunStarted, StepStarted, Terminal
from ..machine.run import Run
from ..machine.run_inputs import Begin, Cancel, Input, OpenUpstream, Output, StartTools, UpstreamFailed
from ..machine.usage import estimate_prompt_tokens
from ..providers.base import Body, Provider, ProviderError
from ..tools.registry import Registry
from .alarms import Alarms
from .batch import Batch
from .feed import Feed, Reader, ReaderState
from .ledger import Intent, Ledger, MemoryLedger, Settlement, Source
from .merge import merged
from .options import RunOptions
from .ports import Sink
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
    set together with it.
    """

    def __init__(
        self,
        run: Run,
        provider: Provider,
        tools: Registry,
        feed: Feed,
        options: RunOptions,
        ledger: Ledger | None = None,
        on_disconnect: OnDisconnect = OnDisconnect.CANCEL,
        owner: str = "",
    ) -> None:
        self.run = run
        self.feed = feed
        self.on_disconnect = on_disconnect
        self.owner = owner
        self.phase = Phase.OPENING
        self.first: Event | None = None
        self.answered = trio.Event()
        self._provider = provider
        self._tools = tools
        self._options = options
        self._ledger = ledger or MemoryLedger()
        self._scope: trio.CancelScope | None = None  # while it drives
        self._batch: Batch | None = None
        self._body: Body | None = None  # of the step that is being read
        self._wanted: OpenUpstream | None = None
        self._wake = trio.Event()
        self._watch = Watch(options, feed, self.cancel)

    async def drive(self, alarms: Alarms) -> None:
        """Run to the end. Never raises but Cancelled (and then the log has its terminal event all the same)."""
        self._watch.start(alarms)
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                self._batch = Batch(self.run.run_id, self._tools, nursery, self.tell, self._options.parallel_tools)
                self.tell(Begin())
                while (wanted := await self._next_step()) is not None:
                    await self._step(wanted)
                nursery.cancel_scope.cancel()
        except Exception:
            log.exception("run %s failed", self.run.run_id)
            self.tell(Cancel(INTERNAL))
        finally:
            self.tell(Cancel(SHUTTING_DOWN))
            self.phase = Phase.ENDED
            self._watch.stop()
            # What is held in a circle waits for the collector: 7 to 9 % of a short request's cost went there.
            self._body = self._batch = self._scope = None

    def tell(self, happened: Input) -> None:
        """Hand an input to the machine and perform what comes of it. Synchronous; after the end it does nothing."""
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
        run, usage = self.run, terminal.usage
        self._ledger.settle(Settlement(run.run_id, self.owner, run.model, run.step, usage, Source.of(usage), outcome))

    def _end(self, terminal: Terminal) -> None:
        self._wake.set()
        if isinstance(terminal, RunFailed) and self._scope is not None:
            self._scope.cancel()

    def _obey(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case OpenUpstream():
                    if output.step == 1:
                        prompt_tokens = estimate_prompt_tokens(output.request.messages)
                        self._ledger.intend(Intent(self.run.run_id, self.owner, self.run.model, prompt_tokens))
                    self._wanted = output
                    self._wake.set()
                case StartTools(calls=calls):
                    self.phase = Phase.TOOLS
                    if self._batch is not None:
                        self._batch.start(calls)

    def _note_first(self, events: list[Event]) -> None:
        for event in events:
            if not isinstance(event, RunStarted | StepStarted):
                self.first = event
                self.answered.set()
                return

    async def _next_step(self) -> OpenUpstream | None:
        """Wait for the tools of a step; return the next request, or None after the terminal event."""
        while self._wanted is None and self.run.terminal is None:
            self._wake = trio.Event()
            await self._wake.wait()
        wanted, self._wanted = self._wanted, None
        return wanted

    async def _step(self, wanted: OpenUpstream) -> None:
        self.phase = Phase.OPENING
        self._watch.begin_step()
        decoder = self._provider.decoder()
        try:
            async with self._provider.open(wanted.request) as chunks:
                self.phase = Phase.STREAMING
                self._body = chunks if isinstance(chunks, Body) else None
                async for data in chunks:
                    if not self._feed_deltas(wanted.step, decoder.feed(data)):
                        # Read on to EOF for a moment, so that the connection can be used again.
                        with trio.move_on_after(self._options.linger_seconds):
                            async for _ in chunks:
                                pass
                        return
                    if self.feed.is_full():
                        await self._wait_room()
                self._feed_deltas(wanted.step, decoder.eof())
        except ProviderError as failure:
            if self._is_listening(wanted.step):
                self.tell(UpstreamFailed(failure.error))
            self._watch.stop_listening()  # broken off behind its last word, the reply is whole, and its tools run

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
        if not wants_more:
            self._watch.stop_listening()
        return wants_more
