"""The tool calls of one run: started in the run's nursery, in parallel up to a cap, each reported once."""

import logging
from collections.abc import Callable, Iterable

import msgspec
import trio

from ..machine.events import CallReady, ToolActivity, ToolProgress
from ..machine.run_inputs import ToolDone, ToolNote
from ..tools.context import ToolContext
from ..tools.registry import Registry
from .record import CallOutcome, Record

log = logging.getLogger(__name__)


class Batch:
    """Runs calls, notes them in `record`. `tell` is the driver's: synchronous, takes results and notes at any time."""

    def __init__(
        self,
        run_id: str,
        registry: Registry,
        nursery: trio.Nursery,
        tell: Callable[[ToolDone | ToolNote], None],
        parallel: int,
        record: Record,
    ) -> None:
        self._run_id = run_id
        self._registry = registry
        self._nursery = nursery
        self._tell = tell
        self._places = trio.Semaphore(parallel)
        self._record = record

    def start(self, calls: Iterable[CallReady]) -> None:
        """Start `calls`; each will be told as one ToolDone, whatever becomes of it, unless the run is cancelled."""
        for call in calls:
            self._nursery.start_soon(self._run, call, name=f"tool {call.name}")

    async def _run(self, call: CallReady) -> None:
        tool = self._registry.get(call.name)
        noted = self._record.begin_call(call.call_id, call.name)
        if tool is None:
            outcome = self._registry.unknown(call.name)
        else:
            async with self._places:
                text = tool.activity_text(call.arguments)
                self._tell(ToolNote(ToolActivity(call.call_id, call.name, text)))
                noted.began = trio.current_time()  # the wait for a place is not the tool's
                outcome = await tool.call(call.arguments, ToolContext(call.call_id, self._run_id, self._progress(call)))
        if outcome.fault is not None:
            log.warning("tool %s failed in run %s: %s", call.name, self._run_id, type(outcome.fault).__name__)
        noted.ended = trio.current_time()
        noted.outcome = CallOutcome.ERROR if outcome.is_error else CallOutcome.OK
        self._tell(ToolDone(call.part, outcome.content, outcome.is_error))

    def _progress(self, call: CallReady) -> Callable[[msgspec.Raw], None]:
        return lambda data: self._tell(ToolNote(ToolProgress(call.call_id, call.name, data)))
