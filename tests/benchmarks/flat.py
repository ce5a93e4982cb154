"""Whether a row of samples is flat, judged robustly: by the median of the slopes of all pairs (Theil and Sen)."""

import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple


class Trend(NamedTuple):
    """`growth` is how much the samples rise from the first to the last by the median slope, `median` their median,
    `least` and `most` their range.
    """

    growth: float
    median: float
    least: float
    most: float

    def is_flat(self, share: float, at_least: float) -> bool:
        """Whether the growth is within `share` of the median, or within `at_least` where that is more."""
        return self.growth <= max(share * self.median, at_least)


def trend(times: Sequence[float], values: Sequence[float]) -> Trend:
    """Return the trend of at least two samples at increasing times."""
    pairs = combinations(zip(times, values, strict=True), 2)
    slope = statistics.median((later - earlier) / (then - now) for (now, earlier), (then, later) in pairs)
    return Trend(slope * (times[-1] - times[0]), statistics.median(values), min(values), max(values))
