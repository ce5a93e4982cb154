"""What one run of the yardstick found, as it is kept in a file, and the figures derived from it."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec

OURS = "sluicegate"
DIRECT = "direct"
FAILED = "err_"  # begins the metrics that count requests which failed
# A latency is compared by what a relay adds to it: less that of the provider alone, in the same round.
ADDED = ("ttft1_p50", "ttft64_p50", "ttft64_p99", "gap64_p99", "ttft256_p50", "ttft256_p99", "gap256_p99")


class Sample(msgspec.Struct, frozen=True):
    """What one scenario found out about one target in one round, by metric."""

    round: int
    target: str
    scenario: str
    figures: dict[str, float]


class Failure(msgspec.Struct, frozen=True):
    """A scenario that could not be measured, or a target that did not start."""

    round: int
    target: str
    scenario: str
    reason: str


class Noise(msgspec.Struct, frozen=True):
    """The machine while a scenario ran over all targets: shares of its CPU time, and its load average at the end."""

    round: int
    scenario: str
    seconds: float
    busy: float
    stolen: float
    load: float


class Conditions(msgspec.Struct, frozen=True):
    """On what was measured; `versions` are those of each target's packages, in words."""

    machine: str
    cores: int
    python: str
    commit: str
    targets: list[str]
    versions: dict[str, str]
    command: str
    date: str
    rounds: int


class Results(msgspec.Struct):
    """Samples in the order in which they were taken."""

    conditions: Conditions
    samples: list[Sample] = []
    failures: list[Failure] = []
    noise: list[Noise] = []


class Figures:
    """Samples by target, metric and round; the latencies of `ADDED` also as `NAME_added`. `targets` gives the order."""

    def __init__(self, samples: Iterable[Sample], targets: Iterable[str]) -> None:
        self._found: dict[str, dict[str, dict[int, float]]] = {target: defaultdict(dict) for target in targets}
        for sample in samples:
            for metric, value in sample.figures.items():
                self._found[sample.target][metric][sample.round] = value
        for metrics in self._found.values():
            for metric in ADDED:
                alone = self._found[DIRECT][metric] if DIRECT in self._found else {}
                added = {at: value - alone[at] for at, value in metrics.get(metric, {}).items() if at in alone}
                if added:
                    metrics[f"{metric}_added"] = added

    @property
    def targets(self) -> list[str]:
        return [target for target, metrics in self._found.items() if metrics]

    def failed(self) -> list[str]:
        """For each target and metric that counts failed requests: how many of them, in words; none for none."""
        return [
            f"{target}: {metric.removeprefix(FAILED)} {sum(rounds.values()):g}"
            for target, metrics in self._found.items()
            for metric, rounds in metrics.items()
            if metric.startswith(FAILED) and sum(rounds.values()) > 0
        ]

    def rounds(self, target: str, metric: str) -> Mapping[int, float]:
        """The figure of every round in which there was one."""
        return self._found.get(target, {}).get(metric, {})

    def values(self, target: str, metric: str) -> list[float]:
        return list(self.rounds(target, metric).values())

    def ratios(self, metric: str, ours: str, theirs: str) -> list[float]:
        """`ours` divided by `theirs`, for each round that has both; rounds in which theirs is not above 0 count not."""
        there = self.rounds(theirs, metric)
        return [value / there[at] for at, value in self.rounds(ours, metric).items() if there.get(at, 0) > 0]


def spread(values: list[float], digits: int = 2) -> str:
    """The median, and the least and the most where there is more than one value; a dash for none."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return f"{middle}¹"
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
