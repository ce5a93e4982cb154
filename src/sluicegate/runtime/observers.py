"""Who hears of runs: the port at which logs, metrics and traces hook in. Told per run, never per token."""

import logging
from typing import Protocol

import msgspec

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


class RunLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the log says of a run: nothing that was asked, answered, or given to a tool.

    `outcome` is a finish reason or an error code, `reason` the provider's own short name for it. `providers` are those
    that were asked, in order. Times in seconds; `cost` in US dollars, absent where a price is not known.
    """

    run_id: str
    model: str
    outcome: str
    seconds: float
    steps: int
    input_tokens: int
    output_tokens: int
    tools: int = 0
    first_word_seconds: float | None = None
    cached_tokens: int = 0
    cost: float | None = None
    estimated: bool = False
    owner: str = ""
    key: str = ""
    providers: str = ""
    attempts: int = 0
    reason: str = ""


def run_line(driver: Driver) -> RunLine | None:
    """Return what the log says of a run that has ended; None if it has not."""
    run, record, terminal = driver.run, driver.record, driver.run.terminal
    if terminal is None or record.ended is None:
        return None
    failed = terminal if isinstance(terminal, RunFailed) else None
    usage = terminal.usage
    asked = [attempt.candidate.gate.name for step in record.steps for attempt in step.attempts]
    return RunLine(
        run.run_id,
        run.model,
        failed.error.code if failed else terminal.finish_reason,  # type: ignore[union-attr]  # RunDone, if not failed
        round(record.ended - record.began, 4),
        run.step,
        usage.input_tokens,
        usage.output_tokens,
        len(record.tools),
        None if record.first_word is None else round(record.first_word - record.began, 4),
        usage.cached_tokens,
        record.cost,
        usage.estimated,
        driver.owner,
        driver.key,
        ",".join(dict.fromkeys(asked)),
        len(asked),
        failed.error.reason if failed else "",
    )


class LogLine:
    """Logs one line for each run, at its end, with nothing of what was said."""

    def started(self, driver: Driver) -> None:
        """Nothing is logged yet."""

    def ended(self, driver: Driver) -> None:
        line = run_line(driver)
        if line is not None:
            log.info("run ended", extra={"fields": line})
