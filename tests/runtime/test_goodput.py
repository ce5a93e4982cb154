"""At twice the load the service does nearly as much as at its peak, and its streams go on as before.

Trio's scheduler, the alarms and the admission are the real ones; the work of a run is played by moving the clock, so
what is late is late because of the work before it, and the machine has no part in it.
"""

import random
import statistics
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import hypothesis  # importing it is what makes Trio's scheduler deterministic  # noqa: F401
import pytest
import trio
from trio._core import _run as trio_run  # private: pinned with Trio's version
from trio.testing import MockClock

from sluicegate.runtime.admission import Admission
from sluicegate.runtime.alarms import Alarms

REFUSAL = 0.0003  # seconds of work; those of the other steps are as they were measured, about
STEP, STEPS = 0.0004, 10  # from the request to the provider
TOKEN, READ = 0.00001, 0.0001  # for each token, and for each read, which may bring many
TARGET = 0.03
WARM, COUNTED = 3.0, 8.0
PATIENCE = 1.0  # within which a first token has to come


class Kind(NamedTuple):
    """Runs of `tokens`, `pace` seconds apart, the first one `first` seconds after the request."""

    tokens: int
    pace: float
    first: float


class Result(NamedTuple):
    """Runs a second that ended well, the share of those refused, and the gap between tokens that 99 % stay below."""

    goodput: float
    refused: float
    gap: float


KINDS = {"short": Kind(2, 0, 0.02), "paced": Kind(25, 0.02, 0.02), "slow to begin": Kind(25, 0.02, 0.8)}


class Plant:
    """Runs that come at `rate`, each at its time whether the ones before it have ended or not."""

    def __init__(self, kind: Kind, admission: Admission, clock: MockClock, work: Callable[[float], None]) -> None:
        self._kind = kind
        self._admission = admission
        self._work = work
        self.asked = self.good = self.refused = 0
        self.gaps: list[float] = []

    async def run(self, alarms: Alarms, rate: float, rng: random.Random) -> None:
        self._probe = alarms.alarm(self._admission.probe)
        began = due = trio.current_time()
        self._counted = (began + WARM, began + WARM + COUNTED)
        async with trio.open_nursery() as nursery:
            while due < began + WARM + COUNTED:
                await trio.sleep_until(due)
                while due <= trio.current_time():
                    nursery.start_soon(self._ask, due)
                    due += rng.expovariate(rate)

    async def _ask(self, at: float) -> None:
        is_counted = self._counted[0] <= at < self._counted[1]
        self.asked += is_counted
        refusal = self._admission.refusal(trio.current_time())
        self._probe.by(self._admission.due)
        if refusal is not None:
            self.refused += is_counted
            self._work(REFUSAL)
            return
        for _ in range(STEPS):
            self._work(STEP)
            await trio.lowlevel.checkpoint()
        first = await self._stream(is_counted) - self._kind.first
        self.good += is_counted and first - at <= PATIENCE

    async def _stream(self, is_counted: bool) -> float:
        """Take the tokens that are there whenever it is this run's turn; return when the first one came."""
        kind, heard, came = self._kind, 0, []
        begins = trio.current_time() + kind.first
        while heard < kind.tokens:
            await trio.sleep_until(begins + heard * kind.pace)
            there = int((trio.current_time() - begins) / kind.pace + 1e-9) + 1 if kind.pace else kind.tokens
            fresh = min(there, kind.tokens) - heard
            self._work(READ + TOKEN * fresh)
            heard += fresh
            came.append(trio.current_time())
        if is_counted:
            self.gaps += [later - sooner for sooner, later in pairwise(came)]
        return came[0]


@lru_cache
def play(kind: Kind, rate: float, target: float = TARGET) -> Result:
    """Let runs of `kind` come at `rate`."""
    clock = MockClock(autojump_threshold=0)
    plant = Plant(kind, Admission(target), clock, clock.jump)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await plant.run(Alarms(nursery), rate, random.Random(1))
            nursery.cancel_scope.cancel()

    if not trio_run._ALLOW_DETERMINISTIC_SCHEDULING:
        trio_run._hypothesis_plugin_setup()
    trio_run._r.seed(1)
    trio.run(main, clock=clock)
    gap = statistics.quantiles(plant.gaps, n=100)[-1] if plant.gaps else 0.0
    return Result(plant.good / COUNTED, plant.refused / plant.asked, gap)


def capacity(kind: Kind) -> float:
    """Runs a second for which there is time, if every token is read by itself."""
    reads = kind.tokens if kind.pace else 1
    return 1 / (STEP * STEPS + READ * reads + TOKEN * kind.tokens)


@pytest.mark.once
@pytest.mark.parametrize("name", KINDS)
def test_goodput_at_twice_the_load_stays_at_nine_tenths_of_its_peak(name: str) -> None:
    kind = KINDS[name]
    peak = max(play(kind, capacity(kind) * share).goodput for share in (0.9, 1.0, 1.2, 1.5))
    assert peak > 0.9 * capacity(kind)
    assert play(kind, capacity(kind) * 2).goodput > 0.9 * peak


@pytest.mark.parametrize("name", KINDS)
def test_without_a_limit_it_breaks_down(name: str) -> None:
    """So the law above is not one of the plant."""
    kind = KINDS[name]
    assert play(kind, capacity(kind) * 2, target=float("inf")).goodput < 0.2 * capacity(kind)


@pytest.mark.parametrize("name", ["paced", "slow to begin"])
def test_streams_keep_their_latency(name: str) -> None:
    kind = KINDS[name]
    for share in (1.5, 2.0):
        assert play(kind, capacity(kind) * share).gap < kind.pace + 4 * TARGET


@pytest.mark.parametrize("name", KINDS)
def test_nobody_is_refused_while_there_is_room(name: str) -> None:
    kind = KINDS[name]
    assert play(kind, capacity(kind) * 0.8).refused == 0
