"""Who hears of runs: the port at which logs, metrics and traces hook in. Told per run, never per token."""

import logging
from typing import Protocol

from ..machine.events import RunFailed
from .driver import Driver

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Synchronous, and must not raise."""

    def started(self, driver: Driver) -> None:
        """`driver` is about to be driven. Called in the context of the request that asked for it."""
        ...

    def ended(self, driver: Driver) -> None:
        """`driver` has ended; `driver.run.terminal` says how."""
        ...


class LogLine:
    """Logs one line for each run, at its end, with nothing of what was said."""

    def started(self, driver: Driver) -> None:
        """Nothing is logged yet."""

    def ended(self, driver: Driver) -> None:
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
