"""Rates and numbers of runs, for each key, model, end user and address: asked before a run starts, told of its end.

All of a request's limits are looked at before any of them counts it, in one tick: what is refused counts nowhere, and
requests and runs at once are exact, however many come together. Tokens are known when a run ends; until then its
prompt counts, as estimated.
"""

import math
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import trio

from ..machine.errors import ErrorCode
from ..runtime.driver import Driver
from .access import Caller
from .options import LimitOptions, Rates
from .problems import Problem
from .window import WINDOW, Window

SOONEST = 1.0  # seconds after which to come back, where nothing says when there will be room
_NOTHING: Final = Rates()


class Shares(NamedTuple):
    """Whom a run is counted for. `user` as a token or the caller's backend names them, "" for nobody; `address` is the
    client's, as `share_of` tells it.
    """

    caller: Caller
    model: str
    user: str = ""
    address: str = ""


class Limits:
    """An `Observer` that lets runs in and counts them. `now` is a clock in seconds that does not go back. Addresses
    need to be told only where they are limited, `by_address`.
    """

    def __init__(self, options: LimitOptions, now: Callable[[], float] = trio.current_time) -> None:
        self.options = options
        self.by_address = options.address != _NOTHING
        self._now = now
        self._meters: dict[tuple[str, str], _Meter] = {}
        self._runs: dict[str, tuple[list[_Meter], int]] = {}  # of each: who counts it, and the tokens of its prompt
        self._swept = -math.inf
        self._is_open = (options.key, options.model, options.user, options.address) == (_NOTHING,) * 4

    def admit(self, run_id: str, shares: Shares, prompt_tokens: int) -> dict[str, str]:
        """Count a run that starts now; returns the headers that tell what is left. Raises Problem 429, and then nothing
        is counted.
        """
        if self._is_open and shares.caller.grants.rates is None:
            return {}
        now = self._now()
        self._sweep(now)
        meters = list(self._applying(shares))
        if not meters:
            return {}
        tokens = prompt_tokens if any(meter.rates.tokens_per_minute for meter in meters) else 0
        for meter in meters:
            if (refusal := meter.refusal(now, tokens)) is not None:
                raise _refused(refusal, meters, now)
        for meter in meters:
            self._meters[meter.kind, meter.name] = meter  # not before: what is refused leaves nothing behind
            meter.begin(now, tokens)
        self._runs[run_id] = (meters, tokens)
        return _headers(meters, now)

    def started(self, driver: Driver) -> None:
        """It was counted when it was let in."""

    def ended(self, driver: Driver) -> None:
        """Make room for another one, and count the tokens that it cost."""
        terminal = driver.run.terminal
        usage = terminal.usage if terminal is not None else None
        cost = usage.input_tokens + usage.output_tokens if usage is not None else 0
        meters, reserved = self._runs.pop(driver.run.run_id, ((), 0))
        for meter in meters:
            meter.end(self._now(), reserved, cost)

    def _applying(self, shares: Shares) -> Iterator["_Meter"]:
        caller, options = shares.caller, self.options
        for kind, name, rates in (
            ("key", caller.key, caller.grants.rates or options.key),
            ("model", shares.model, options.model),
            ("user", f"{caller.owner} {shares.user}" if shares.user else "", options.user if shares.user else _NOTHING),
            ("address", shares.address, options.address),
        ):
            if rates != _NOTHING:
                meter = self._meters.get((kind, name)) or _Meter(kind, name)
                meter.rates = rates  # a key may have been given others
                yield meter

    def _sweep(self, now: float) -> None:
        """Forget, once a minute, who has not been here for one."""
        if now >= self._swept + WINDOW:
            self._swept = now
            self._meters = {name: meter for name, meter in self._meters.items() if not meter.is_idle(now)}


class _Refusal(NamedTuple):
    message: str
    seconds: float


class _Meter:
    """What one key, model, user or address has used."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.rates = _NOTHING
        self.running = 0
        self._requests = Window()
        self._tokens = Window()
        self._reserved = 0  # by runs that are under way

    def is_idle(self, now: float) -> bool:
        return not (self.running or self._requests.used(now) or self._tokens.used(now))

    def left(self, now: float) -> Iterator[tuple[str, int, int, float]]:
        """For each rate: its name, how much is allowed and left, and the seconds until all of it is there again."""
        rates = self.rates
        for name, most, window, reserved in (
            ("requests", rates.requests_per_minute, self._requests, 0),
            ("tokens", rates.tokens_per_minute, self._tokens, self._reserved),
        ):
            if most is not None:
                used = window.used(now)
                yield name, most, max(0, most - used - reserved), window.free_in(now, used) if used else 0.0

    def refusal(self, now: float, tokens: int) -> _Refusal | None:
        """Why not another run with so many tokens in its prompt, and when to come back."""
        rates = self.rates
        if rates.concurrent_runs is not None and self.running >= rates.concurrent_runs:
            return _Refusal(
                f"concurrent_runs: {rates.concurrent_runs} runs at once are allowed for this {self.kind}", SOONEST
            )
        if rates.requests_per_minute is not None and self._requests.used(now) >= rates.requests_per_minute:
            wait = self._requests.free_in(now, self._requests.used(now) - rates.requests_per_minute + 1)
            return _Refusal(f"requests_per_minute: {rates.requests_per_minute} are allowed for this {self.kind}", wait)
        if rates.tokens_per_minute is not None:
            # A prompt that is over the limit by itself gets through when nothing else is counted.
            over = self._tokens.used(now) + self._reserved + min(tokens, rates.tokens_per_minute)
            over -= rates.tokens_per_minute
            if over > 0:
                wait = self._tokens.free_in(now, over)
                return _Refusal(
                    f"tokens_per_minute: {rates.tokens_per_minute} are allowed for this {self.kind}",
                    SOONEST if wait == math.inf else wait,
                )
        return None

    def begin(self, now: float, tokens: int) -> None:
        self.running += 1
        if self.rates.requests_per_minute is not None:
            self._requests.add(now, 1)
        self._reserved += tokens

    def end(self, now: float, reserved: int, cost: int) -> None:
        self.running -= 1
        self._reserved -= reserved
        if self.rates.tokens_per_minute is not None and cost:
            self._tokens.add(now, cost)


def _refused(refusal: _Refusal, meters: list[_Meter], now: float) -> Problem:
    seconds = max(1, math.ceil(refusal.seconds))
    return Problem(
        429,
        f"{refusal.message}; try again in {seconds} s.",
        code=ErrorCode.RATE_LIMITED,
        headers=_headers(meters, now),
        retry_after_ms=seconds * 1000,
    )


def _headers(meters: list[_Meter], now: float) -> dict[str, str]:
    """The IETF's RateLimit fields (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4)."""
    left = [
        (f"{meter.kind}-{name}", most, rest, seconds)
        for meter in meters
        for name, most, rest, seconds in meter.left(now)
    ]
    if not left:
        return {}
    return {
        "RateLimit-Policy": ", ".join(f'"{name}";q={most};w={WINDOW:g}' for name, most, _, _ in left),
        "RateLimit": ", ".join(f'"{name}";r={rest};t={math.ceil(seconds)}' for name, _, rest, seconds in left),
    }
