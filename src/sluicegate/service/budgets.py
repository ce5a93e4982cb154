"""Budgets: tokens, dollars and seconds that one run, one key in a day, and all together in a day may spend.

While a run goes on it is charged what its requests and replies come to by the published estimator, with each read of
the reply; at its end, what the provider said. So a budget is exceeded by at most what one read brings to each run. Days
are UTC's. The spool keeps what was spent: a service that starts again reads what today has cost (`restore`).
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Final

from ..machine.errors import ErrorCode, RunError
from ..providers.route import Route
from ..runtime.budget import Room
from ..runtime.ledger import Settlement
from .access import Caller
from .options import BudgetOptions, LimitOptions
from .problems import Problem

DAY: Final = 86_400.0
RUN: Final = "run_budget"
_NOTHING: Final = BudgetOptions()


class Budgets:
    """What all have spent today. `now` gives Unix seconds. To be used from one thread."""

    def __init__(self, options: LimitOptions, now: Callable[[], float] = time.time) -> None:
        self._options = options
        self._now = now
        self._today = Account("day_budget", options.day_budget, now())
        self._keys: dict[str, Account] = {}

    def restore(self, settlement: Settlement) -> None:
        """Count a run of an earlier process, if it ended today."""
        now = self._now()
        if settlement.at < _day_of(now):
            return
        usage = settlement.usage
        for account in (self._today, self._key(settlement.key, self._options.key_budget, now)):
            account.add(now, usage.input_tokens + usage.output_tokens, settlement.cost or 0.0, settlement.seconds)

    def for_run(self, caller: Caller, route: Route) -> "RunBudget | None":
        """Return the budget of a run that `caller` starts, None if there is no limit. Raises Problem 402 if a limit in
        dollars holds and a model's price is not known.
        """
        now = self._now()
        run = caller.grants.run_budget or self._options.run_budget
        day = caller.grants.day_budget or self._options.key_budget
        accounts = [self._key(caller.key, day, now)] if day != _NOTHING else []
        if self._today.limits != _NOTHING:
            accounts.append(self._today)
        if run == _NOTHING and not accounts:
            return None
        if any(limits.dollars is not None for limits in (run, *(account.limits for account in accounts))):
            _check_prices(route)
        return RunBudget(run, accounts, self._now)

    def _key(self, name: str, limits: BudgetOptions, now: float) -> "Account":
        account = self._keys.get(name)
        if account is None:
            if self._keys and not next(iter(self._keys.values())).is_of(now):
                self._keys = {key: each for key, each in self._keys.items() if each.is_of(now)}
            account = self._keys[name] = Account("key_budget", limits, now)
        account.allow(limits)
        account.look(now)
        return account


class Account:
    """What was spent in one day. Of runs that go on it knows how many there are, and the sum of the times since when
    their seconds count: that costs the same however many there are.

    `tokens` and `dollars` are what was spent, and may be added to by those who have called `look` when `due` had come:
    from then on another day has begun, or the seconds are used up. `most_tokens` and `most_dollars` are the `limits`
    of these, inf where there is none.
    """

    def __init__(self, name: str, limits: BudgetOptions, now: float) -> None:
        self.name = name
        self.allow(limits)
        self.tokens = 0
        self.dollars = 0.0
        self.due = 0.0
        self._day = _day_of(now)
        self._seconds = 0.0
        self._live = 0
        self._since = 0.0
        self.look(now)

    def allow(self, limits: BudgetOptions) -> None:
        """From now on so much may be spent in a day."""
        self.limits = limits
        self.most_tokens = math.inf if limits.tokens is None else limits.tokens
        self.most_dollars = math.inf if limits.dollars is None else limits.dollars

    def is_of(self, now: float) -> bool:
        """Whether it is used, or has something to say of the day of `now`."""
        return self._live > 0 or self._day >= _day_of(now)

    def add(self, now: float, tokens: int, dollars: float, seconds: float = 0.0) -> None:
        """Count what was spent."""
        self._turn(now)
        self.tokens += tokens
        self.dollars += dollars
        self._seconds += seconds

    def begin(self, now: float) -> None:
        """A run's seconds count from now on."""
        self._turn(now)
        self._live += 1
        self._since += now
        self.look(now)

    def end(self, began: float, now: float) -> None:
        """The seconds of a run that began then count no more."""
        self._turn(now)
        since = max(began, self._day)
        self._live -= 1
        self._since -= since
        self._seconds += now - since
        self.look(now)

    def look(self, now: float) -> None:
        """Begin a new day if it is one, and set `due`."""
        self._turn(now)
        self.due = self._day + DAY
        if self._live and self.limits.seconds is not None:
            room = self.limits.seconds - self._lasted(now)
            self.due = min(self.due, now + room / self._live)

    def room(self, now: float) -> Room:
        """Return what is left of the day that was looked at last, less than 0 where it is overdrawn."""
        return _room(self.limits, self.tokens, self.dollars, self._lasted(now))

    def _turn(self, now: float) -> None:
        if now >= self._day + DAY:
            self._day, self.tokens, self.dollars, self._seconds = _day_of(now), 0, 0.0, 0.0
            self._since = self._live * self._day

    def _lasted(self, now: float) -> float:
        return self._seconds + self._live * now - self._since


class RunBudget:
    """A `Budget` of one run, and of the accounts that pay for it."""

    def __init__(self, limits: BudgetOptions, accounts: list[Account], now: Callable[[], float]) -> None:
        self._limits = limits
        self._most_tokens = math.inf if limits.tokens is None else limits.tokens
        self._most_dollars = math.inf if limits.dollars is None else limits.dollars
        self._accounts = accounts
        self._now = now
        self._began: float | None = None
        self._due = math.inf
        self._tokens = 0
        self._dollars = 0.0

    def begin(self) -> None:
        """The run begins."""
        self._began = now = self._now()
        if self._limits.seconds is not None:
            self._due = now + self._limits.seconds
        for account in self._accounts:
            account.begin(now)

    def room(self) -> Room:
        """Return what the run may still spend: the least of what its limits and accounts leave."""
        tokens = dollars = seconds = math.inf
        for _, _, room in self._rooms(self._now()):
            tokens, dollars = min(tokens, room.tokens), min(dollars, room.dollars)
            seconds = min(seconds, room.seconds)
        return Room(tokens, dollars, seconds)

    def charge(self, tokens: int, dollars: float) -> RunError | None:
        """Count what the run has spent until now; return how it ends if that is too much."""
        # With each read of a reply, so everything is looked at only where a look tells something new.
        now = self._now()
        is_over = tokens > self._most_tokens or dollars > self._most_dollars or now >= self._due
        more, dearer = tokens - self._tokens, dollars - self._dollars
        self._tokens, self._dollars = tokens, dollars
        for account in self._accounts:
            if now >= account.due:
                account.look(now)
            account.tokens += more
            account.dollars += dearer
            if account.tokens > account.most_tokens or account.dollars > account.most_dollars or now >= account.due:
                is_over = True
        return self._exceeded(now) if is_over else None

    def late(self) -> RunError:
        """Return how a run ends whose seconds are over."""
        now = self._now()
        name, limits, _ = min(self._rooms(now), key=lambda each: each[2].seconds)
        return _exceeded(f"{name}.seconds", limits.seconds, now)

    def end(self, tokens: int, dollars: float) -> None:
        """The run has ended."""
        if self._began is None:
            return
        now = self._now()
        for account in self._accounts:
            account.add(now, tokens - self._tokens, dollars - self._dollars)
            account.end(self._began, now)
        self._tokens, self._dollars, self._began = tokens, dollars, None

    def _exceeded(self, now: float) -> RunError | None:
        for name, limits, room in self._rooms(now):
            if room.tokens < 0:
                return _exceeded(f"{name}.tokens", limits.tokens, now, self._tokens)
            if room.dollars < 0:
                return _exceeded(f"{name}.dollars", limits.dollars, now, self._dollars)
            if room.seconds <= 0:
                return _exceeded(f"{name}.seconds", limits.seconds, now)
        return None

    def _rooms(self, now: float) -> Iterator[tuple[str, BudgetOptions, Room]]:
        lasted = 0.0 if self._began is None else now - self._began
        yield RUN, self._limits, _room(self._limits, self._tokens, self._dollars, lasted)
        for account in self._accounts:
            if now >= account.due:
                account.look(now)
            yield account.name, account.limits, account.room(now)


def _room(limits: BudgetOptions, tokens: int, dollars: float, seconds: float) -> Room:
    return Room(
        math.inf if limits.tokens is None else limits.tokens - tokens,
        math.inf if limits.dollars is None else limits.dollars - dollars,
        math.inf if limits.seconds is None else limits.seconds - seconds,
    )


def _exceeded(name: str, most: float | None, now: float, own: float = 0.0) -> RunError:
    """The error of a budget that is used up: one of a day is there again tomorrow, but not for a run whose `own`
    spending is more than that.
    """
    if not name.startswith(RUN) and most is not None and own > most:
        return RunError(ErrorCode.BUDGET_EXCEEDED, f"The run needs more than there is for a day ({name}: {most:g}).")
    if name.startswith(RUN):
        return RunError(ErrorCode.BUDGET_EXCEEDED, f"The run has used up its budget ({name}: {most:g}).")
    left = _day_of(now) + DAY - now
    return RunError(
        ErrorCode.BUDGET_EXCEEDED,
        f"The budget of today is used up ({name}: {most:g}); there is another one tomorrow, by UTC.",
        retryable=True,
        retry_after_ms=math.ceil(left * 1000),
    )


def _check_prices(route: Route) -> None:
    if any(candidate.price is None for candidate in route.candidates):
        raise Problem(
            402,
            f"model: the price of {route.model!r} is not known here, and there is a budget in dollars; ask for another "
            "model, or have its price set (providers.NAME.prices).",
            field="model",
            code=ErrorCode.BUDGET_EXCEEDED,
        )


def _day_of(now: float) -> float:
    """When the day of `now` began."""
    return now - now % DAY
