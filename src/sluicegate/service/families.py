"""Families of metrics, kept as plain numbers: a run adds to some thirty of them, at a tenth of a microsecond each. To
be used from one thread.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

OTHER: Final = "other"
_MOST_NAMES: Final = 100
_MOST_CHARACTERS: Final = 128


class Counter:
    """A counter for each combination of the values of `labels`. Those in `known` are there from the start: from a
    counter that begins with its first event Prometheus cannot tell that event.
    """

    def __init__(
        self, name: str, text: str, labels: Sequence[str] = (), known: Iterable[tuple[str, ...]] | None = None
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        first: Iterable[tuple[str, ...]] = () if labels else [()]
        self._counts: dict[tuple[str, ...], float] = dict.fromkeys(first if known is None else known, 0)

    def add(self, *values: str, by: float = 1) -> None:
        """Add to the counter of these labels."""
        self._counts[values] = self._counts.get(values, 0) + by

    def family(self) -> CounterMetricFamily:
        """Return what has been counted."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count)
        return family


class Histogram:
    """A histogram for each combination of the values of `labels`. `bounds` are upper ones, the last is infinite."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._bounds = bounds
        self._counts: dict[tuple[str, ...], list[int]] = {} if labels else {(): [0] * len(bounds)}
        self._sums: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}

    def observe(self, value: float, *values: str) -> None:
        """Count `value` for these labels."""
        counts = self._counts.get(values)
        if counts is None:
            counts = self._counts[values] = [0] * len(self._bounds)
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + value

    def family(self) -> HistogramMetricFamily:
        """Return what has been counted."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, counts in self._counts.items():
            family.add_metric(values, buckets(self._bounds, counts), self._sums[values])
        return family


class Names:
    """What may stand in one label. A name of `known` always may, others as long as there are a hundred in all and they
    are not long; the rest is OTHER, since each new one is a series more for everybody who keeps them.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._names = set(known)

    def label(self, name: str) -> str:
        """Return the label for `name`."""
        if name not in self._names:
            if len(self._names) >= _MOST_NAMES or len(name) > _MOST_CHARACTERS:
                return OTHER
            self._names.add(name)
        return name


def buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return the buckets of a histogram, each with all that is below its bound, from counts between the bounds."""
    total = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        found.append(("+Inf" if bound == math.inf else repr(bound), total))
    return found
