"""The live runs by id, and the ended ones for a while: bounded in count, bytes and age."""

import contextvars
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import trio

from ..machine.errors import ErrorCode, RunError
from .admission import Admission
from .alarms import Alarms
from .driver import Driver
from .feed import FeedState
from .ledger import Ledger, MemoryLedger
from .observers import Observer
from .options import RunOptions

TOO_MANY = RunError(
    ErrorCode.OVERLOADED, "Too many runs are under way (max_runs); try again.", retryable=True, retry_after_ms=1000
)


class Key(NamedTuple):
    """A client's own name for a run (`Idempotency-Key`), and of what was asked under it a fingerprint."""

    owner: str
    name: str
    fingerprint: bytes


class _Ended(NamedTuple):
    driver: Driver
    size: int
    at: float


class Runs:
    """Starts runs in the application's nursery and finds them again, by id or by the key of their client."""

    def __init__(
        self,
        nursery: trio.Nursery,
        options: RunOptions,
        ledger: Ledger | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._nursery = nursery
        # Of the application: that of the request would keep all that belongs to the request for as long as the run.
        self._context = contextvars.copy_context()
        self._options = options
        self.ledger: Ledger = ledger or MemoryLedger()
        self._observers = observers
        self._alarms = Alarms(nursery)
        self._expiry = self._alarms.alarm(self._expire)
        self.admission = Admission(options.max_lateness_seconds)
        self._probe = self._alarms.alarm(self.admission.probe)
        self._live: dict[str, Driver] = {}
        self._ended: OrderedDict[str, _Ended] = OrderedDict()
        self._ended_bytes = 0
        self._keys: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._key_of: dict[str, tuple[str, str]] = {}
        self._none_left = trio.Event()

    def __len__(self) -> int:
        return len(self._live)

    @property
    def is_full(self) -> bool:
        """Whether `max_runs` are live; then no other should be started (TOO_MANY)."""
        return len(self._live) >= self._options.max_runs

    def refusal(self) -> RunError | None:
        """A run is asked for: return None if it may start, else how it is refused. Counts it as started or refused."""
        if self.is_full:
            return TOO_MANY
        error = self.admission.refusal(trio.current_time())
        self._probe.by(self.admission.due)
        return error

    def start(self, driver: Driver, key: Key | None = None) -> None:
        """Start driving; the run outlives the request that asked for it. `key` names it from now on."""
        run_id = driver.run.run_id
        self._live[run_id] = driver
        if key is not None:
            self._keys[key[:2]] = (key.fingerprint, run_id)
            self._key_of[run_id] = key[:2]
        for observer in self._observers:
            observer.started(driver)
        self._context.run(lambda: self._nursery.start_soon(self._drive, driver, name=f"run {run_id}"))

    def get(self, run_id: str) -> Driver | None:
        """Return the run of that id, live or ended not long ago."""
        driver = self._live.get(run_id)
        if driver is None and (ended := self._ended.get(run_id)) is not None:
            driver = ended.driver
        return driver

    def named(self, owner: str, name: str) -> tuple[bytes, Driver] | None:
        """Return the run that `owner` calls `name`, behind the fingerprint of what was asked; None if there is none."""
        fingerprint, run_id = self._keys.get((owner, name), (b"", ""))
        driver = self.get(run_id)
        return None if driver is None else (fingerprint, driver)

    def unname(self, run_id: str) -> None:
        """Free the run's key, so that the same request under the same key starts anew."""
        if (key := self._key_of.pop(run_id, None)) is not None:
            del self._keys[key]

    def cancel_all(self, error: RunError) -> None:
        """End every live run with `error`."""
        for driver in list(self._live.values()):
            driver.cancel(error)

    def close(self) -> None:
        """No deadline, heartbeat or age is watched any more; live runs go on until their nursery ends."""
        self._alarms.close()

    async def wait_none(self) -> None:
        """Wait until no run is live. A checkpoint only if it has to wait."""
        while self._live:
            await self._none_left.wait()

    async def _drive(self, driver: Driver) -> None:
        try:
            await driver.drive(self._alarms)
        finally:
            for observer in self._observers:
                observer.ended(driver)
            self._keep(driver)

    def _keep(self, driver: Driver) -> None:
        run_id = driver.run.run_id
        del self._live[run_id]
        driver.run.release()
        now = trio.current_time()
        self._ended[run_id] = _Ended(driver, driver.feed.held, now)
        self._ended_bytes += driver.feed.held
        while len(self._ended) > self._options.kept_runs or self._ended_bytes > self._options.kept_bytes:
            self._forget_one()
        self._expiry.by(now + self._options.kept_seconds)
        if not self._live:
            self._none_left.set()
            self._none_left = trio.Event()

    def _forget_one(self) -> None:
        """Forget the oldest run whose end somebody has heard, or the oldest one: others may still be come back for."""
        heard = (run_id for run_id, ended in self._ended.items() if ended.driver.feed.state is FeedState.HEARD)
        self._forget(next(heard, None) or next(iter(self._ended)))

    def _forget(self, run_id: str) -> None:
        self._ended_bytes -= self._ended.pop(run_id).size
        self.unname(run_id)

    def _expire(self, now: float) -> float:
        while self._ended:
            run_id, oldest = next(iter(self._ended.items()))
            due = oldest.at + self._options.kept_seconds
            if due > now:
                return due
            self._forget(run_id)
        return math.inf
