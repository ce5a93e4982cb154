"""The live runs by id, and the ended ones for a while: logs are bounded in count and bytes."""

import logging
from collections import OrderedDict

import trio

from ..machine.errors import RunError
from ..machine.events import RunFailed
from .driver import Driver
from .ledger import Ledger
from .options import RunOptions

log = logging.getLogger(__name__)


class Runs:
    """Starts runs in the application's nursery and finds them again."""

    def __init__(self, nursery: trio.Nursery, options: RunOptions) -> None:
        self._nursery = nursery
        self._options = options
        self.ledger = Ledger()
        self._live: dict[str, Driver] = {}
        self._ended: OrderedDict[str, Driver] = OrderedDict()
        self._ended_bytes = 0

    def __len__(self) -> int:
        return len(self._live)

    def start(self, driver: Driver) -> None:
        """Start driving; the run outlives the request that asked for it."""
        self._live[driver.run.run_id] = driver
        self._nursery.start_soon(self._drive, driver, name=f"run {driver.run.run_id}")

    def get(self, run_id: str) -> Driver | None:
        """Return the run of that id, live or ended not long ago."""
        return self._live.get(run_id) or self._ended.get(run_id)

    def cancel_all(self, error: RunError) -> None:
        """End every live run with `error`."""
        for driver in list(self._live.values()):
            driver.cancel(error)

    async def _drive(self, driver: Driver) -> None:
        try:
            await driver.drive()
        finally:
            run_id = driver.run.run_id
            _log_end(driver)
            del self._live[run_id]
            self._ended[run_id] = driver
            self._ended_bytes += driver.feed.size
            while len(self._ended) > self._options.kept_runs or self._ended_bytes > self._options.kept_bytes:
                _, oldest = self._ended.popitem(last=False)
                self._ended_bytes -= oldest.feed.size


def _log_end(driver: Driver) -> None:
    run, terminal = driver.run, driver.run.terminal
    if terminal is None:
        return
    outcome = terminal.error.code if isinstance(terminal, RunFailed) else terminal.finish_reason
    usage = terminal.usage
    log.info(
        "run %s model=%r outcome=%s steps=%d input_tokens=%d output_tokens=%d%s",
        run.run_id,
        run.model,
        outcome,
        run.step,
        usage.input_tokens,
        usage.output_tokens,
        " (estimated)" if usage.estimated else "",
    )
