"""Runs scenarios over targets, round by round, and notes how noisy the machine was."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from enum import Enum, auto
from typing import Final, NamedTuple

import msgspec

from . import crowds, proc, scenarios
from .results import Failure, Noise, Results, Sample
from .scenarios import Measure
from .service import Link, NotStarted, Service, Starter
from .targets import CROWDS, MUSTS, Speed, Target

AT_ONCE_SECONDS = 2.0  # that everything may calm down in after the start
FEW = 2  # rounds of a scenario that takes long


class Process(Enum):
    """Which process of a target a scenario measures: one for all rounds, the same with TLS, or a new one each time."""

    KEPT = auto()
    KEPT_TLS = auto()
    FRESH = auto()


class Scenario(NamedTuple):
    """`rounds` is in how many of the rounds, from the first on, it is measured; None for all."""

    measure: Measure
    process: Process = Process.KEPT
    rounds: int | None = None
    rounds_if_slow: int | None = None


SCENARIOS: Final = {
    "steady32": Scenario(scenarios.steady(32, "steady32")),
    "steady32_tls": Scenario(scenarios.steady(32, "steady32_tls"), Process.KEPT_TLS),
    "steady64": Scenario(scenarios.steady(64, "steady64")),
    "sat1": Scenario(scenarios.saturated(1, 1)),
    "sat16": Scenario(scenarios.saturated(16, 2)),
    "sat128": Scenario(scenarios.saturated(128, 2), rounds_if_slow=1),
    "ttft1": Scenario(scenarios.lone),
    "req8": Scenario(scenarios.requests),
    "abort": Scenario(scenarios.abort(64, 128, "abort")),
    "abort8": Scenario(scenarios.abort(8, 32, "abort8")),
    "tool": Scenario(scenarios.tool),
    "mem": Scenario(scenarios.memory, Process.FRESH),
    "paced64": Scenario(crowds.paced(64, 96, "bench-n50-d20-b1", 800, 7)),
    "paced256": Scenario(crowds.paced(256, 256, "bench-n40-d100-b1", 2560, 12)),
    "idle2000": Scenario(crowds.idle, Process.FRESH, FEW),
    "goodput": Scenario(crowds.goodput, Process.FRESH, FEW),
    "lengths": Scenario(crowds.lengths, rounds=FEW),
    "slow": Scenario(scenarios.slow_readers, rounds=1),
}
GROUPS: Final = {"musts": MUSTS, "crowds": tuple(name for name in SCENARIOS if name in {*CROWDS, "paced64"})}


def chosen(names: str) -> list[str]:
    """Return the scenarios that a list with commas names, groups among them; all for an empty one."""
    found: dict[str, None] = {}
    for name in names.split(",") if names else SCENARIOS:
        found |= dict.fromkeys(GROUPS.get(name, (name,)))
    if unknown := [name for name in found if name not in SCENARIOS]:
        raise SystemExit(f"--scenarios: no {unknown[0]!r}; there are {', '.join([*GROUPS, *SCENARIOS])}")
    return list(found)


class Rounds:
    """Measures `targets`; what is found goes into `results`, after each scenario also to `keep`."""

    def __init__(self, starter: Starter, targets: Sequence[Target], results: Results, keep: Callable[[], None]) -> None:
        self._starter = starter
        self._targets = list(targets)
        self._results = results
        self._keep = keep
        self._kept: dict[tuple[str, Process], Service] = {}

    def run(self, names: Sequence[str], rounds: int) -> None:
        """Start what is needed, measure `names` in so many rounds, end what was started."""
        with ExitStack() as stack:
            self._start(names, stack)
            for number in range(rounds):
                for name in names:
                    self._over_targets(number, name)
                    self._keep()

    def _start(self, names: Sequence[str], stack: ExitStack) -> None:
        for target in self._targets:
            wanted = {SCENARIOS[name].process for name in names if name in target.scenarios}
            for process in wanted - {Process.FRESH}:
                link = Link.TLS if process is Process.KEPT_TLS else Link.CLEAR
                try:
                    service = stack.enter_context(self._starter.running(target, link))
                except NotStarted as error:
                    self._failed(0, target, "start", error)
                else:
                    self._kept[target.name, process] = service
        time.sleep(AT_ONCE_SECONDS)

    def _over_targets(self, number: int, name: str) -> None:
        scenario = SCENARIOS[name]
        first = number % len(self._targets)
        before, began = proc.ticks(), time.monotonic()
        measured = False
        for target in self._targets[first:] + self._targets[:first]:
            slow = target.speed is Speed.SLOW
            most = scenario.rounds_if_slow if slow and scenario.rounds_if_slow else scenario.rounds
            if name in target.scenarios and (most is None or number < most):
                measured = True
                self._one(number, name, scenario, target)
        if not measured:
            return
        after = proc.ticks()
        total = max(1, after.all - before.all)
        noise = Noise(
            number, name, round(time.monotonic() - began, 1), round(1 - (after.idle - before.idle) / total, 3),
            round((after.stolen - before.stolen) / total, 3), round(proc.load_average(), 2),
        )  # fmt: skip
        self._results.noise.append(noise)
        print(msgspec.json.encode(noise).decode(), file=sys.stderr, flush=True)

    def _one(self, number: int, name: str, scenario: Scenario, target: Target) -> None:
        provider = self._starter.provider
        try:
            with ExitStack() as stack:
                if scenario.process is Process.FRESH and target.command:
                    service = stack.enter_context(self._starter.running(target))
                elif (target.name, scenario.process) in self._kept:
                    service = self._kept[target.name, scenario.process]
                else:
                    return
                provider.settle(3)
                figures = scenario.measure(service, provider)
        # A target may break in any way, and the others are still to be measured.
        except (NotStarted, subprocess.SubprocessError, msgspec.MsgspecError, OSError, ZeroDivisionError) as error:
            self._failed(number, target, name, error)
        else:
            self._results.samples.append(Sample(number, target.name, name, figures))

    def _failed(self, number: int, target: Target, name: str, error: Exception) -> None:
        failure = Failure(number, target.name, name, f"{type(error).__name__}: {error}")
        self._results.failures.append(failure)
        print(msgspec.json.encode(failure).decode(), file=sys.stderr, flush=True)
