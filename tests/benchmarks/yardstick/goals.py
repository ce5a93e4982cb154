"""What sluicegate is to reach beside the tutorial's design and beside each Python framework, as tables."""

import statistics
from enum import Enum, auto
from typing import Final, NamedTuple

from .results import OURS, Figures, spread
from .targets import BEFORE, DIALECTS, FRAMEWORKS, GUARDED, TUTORIAL


class Better(Enum):
    LESS = auto()
    MORE = auto()


class Goal(NamedTuple):
    """A bound of the ratio between sluicegate's figure and another's, and what is aimed at."""

    metric: str
    title: str
    must: float
    aim: float
    better: Better = Better.LESS

    def meets(self, ratio: float, bound: float) -> bool:
        return ratio <= bound if self.better is Better.LESS else ratio >= bound


MUSTS: Final = (
    Goal("steady32", "steady, 32 streams of 50 tokens/s, CPU per token", 0.75, 0.50),
    Goal("us_tok_c16", "saturated, 16 streams, CPU per token", 0.40, 0.28),
    Goal("ttft1_p50_added", "first token of a lone request, added", 1.4, 0.9),
    Goal("abort_p50", "abort to upstream closed, 64 streams, p50", 1.4, 0.8),
    Goal("abort_p99", "abort to upstream closed, 64 streams, p99", 1.0, 0.6),
    Goal("kib_stream", "KiB per open stream, 500 streams", 0.40, 0.20),
    Goal("tool_per_cpu", "tool loops per CPU second", 1.6, 3.0, Better.MORE),
    Goal("steady32_tls", "the steady row, both with a TLS upstream", 0.8, 0.5),
)
FRAMEWORK_GOALS: Final = (
    Goal("us_tok_c16", "saturated, 16 streams, CPU per token", 1 / 4, 1 / 4),
    Goal("tool_per_cpu", "tool loops per CPU second", 4, 4, Better.MORE),
    Goal("abort_p50", "abort to upstream closed, 64 streams, p50", 1 / 4, 1 / 4),
    Goal("steady32", "steady, 32 streams of 50 tokens/s, CPU per token", 1 / 3, 1 / 3),
    Goal("ttft1_p50_added", "first token of a lone request, added", 1 / 2, 1 / 2),
)
GUARD_COST: Final = 1.1
DIALECT_GOALS: Final = (
    Goal("steady32", "steady, 32 streams, CPU per token", 1.3, 1.3),
    Goal("us_tok_c16", "saturated, 16 streams, CPU per token", 1.3, 1.3),
)


def musts(figures: Figures) -> list[str]:
    """sluicegate to the tutorial's design."""
    rows = []
    for goal in MUSTS:
        if ratios := figures.ratios(goal.metric, OURS, TUTORIAL):
            bounds = f"{_bound(goal, goal.must)} | {_bound(goal, goal.aim)}"
            rows.append(f"| {goal.title} | {spread(ratios)} | {len(ratios)} | {bounds} | {_reached(goal, ratios)} |")
    if not rows:
        return []
    head = f"| {OURS} / {TUTORIAL} | ratio | rounds | must | aim | reached |"
    return [head, "|---|---|---|---|---|---|", *rows]


def frameworks(figures: Figures) -> list[str]:
    """sluicegate to each Python framework that was measured."""
    peers: list[str] = [peer for peer in FRAMEWORKS if peer in figures.targets]
    if not peers or OURS not in figures.targets:
        return []
    lines = [f"| {OURS} / | " + " | ".join(peers) + " | goal |", "|---" * (len(peers) + 2) + "|"]
    for goal in FRAMEWORK_GOALS:
        cells = [_cell(goal, figures.ratios(goal.metric, OURS, peer)) for peer in peers]
        lines.append(f"| {goal.title} | " + " | ".join(cells) + f" | {_bound(goal, goal.must)} |")
    return lines + _memory_row(figures, peers)


def guarded(figures: Figures) -> list[str]:
    """What keys, limits, budgets, log and metrics cost: beside the same without them, and beside an earlier commit."""
    plain = [name for name in (OURS, BEFORE) if name in figures.targets]
    if GUARDED not in figures.targets or not plain:
        return []
    lines = [f"| {GUARDED} / | " + " | ".join(plain) + " | goal |", "|---" * (len(plain) + 2) + "|"]
    for goal in MUSTS:
        bound = GUARD_COST if goal.better is Better.LESS else 1 / GUARD_COST
        wanted = goal._replace(must=bound, aim=bound)
        if any(ratios := [figures.ratios(goal.metric, GUARDED, name) for name in plain]):
            cells = " | ".join(_cell(wanted, found) for found in ratios)
            lines.append(f"| {goal.title} | {cells} | {_bound(wanted, bound)} |")
    return lines


def dialects(figures: Figures) -> list[str]:
    """The other dialects to our own Chat Completions."""
    present = [name for name in DIALECTS if name in figures.targets]
    if not present or OURS not in figures.targets:
        return []
    lines = ["| / Chat Completions | " + " | ".join(DIALECTS[name] for name in present) + " | goal |"]
    lines.append("|---" * (len(present) + 2) + "|")
    for goal in DIALECT_GOALS:
        cells = [_cell(goal, figures.ratios(goal.metric, name, OURS)) for name in present]
        lines.append(f"| {goal.title} | " + " | ".join(cells) + f" | {_bound(goal, goal.must)} |")
    return lines


def _memory_row(figures: Figures, peers: list[str]) -> list[str]:
    """No more memory than the best of them: the smaller the best, the larger the ratio."""
    ratios = {peer: figures.ratios("kib_stream", OURS, peer) for peer in peers}
    medians = [statistics.median(found) for found in ratios.values() if found]
    if not medians:
        return []
    reached = "yes" if max(medians) <= 1 else "no"
    cells = " | ".join(spread(ratios[peer]) for peer in peers)
    return [f"| KiB per open stream, 500 streams | {cells} | all at most 1: {reached} |"]


def _cell(goal: Goal, ratios: list[float]) -> str:
    return f"{spread(ratios)} {_reached(goal, ratios)}" if ratios else "not seen"


def _reached(goal: Goal, ratios: list[float]) -> str:
    ratio = statistics.median(ratios)
    if not goal.meets(ratio, goal.must):
        return "no"
    return "yes, the aim too" if goal.aim != goal.must and goal.meets(ratio, goal.aim) else "yes"


def _bound(goal: Goal, bound: float) -> str:
    return f"{'at most' if goal.better is Better.LESS else 'at least'} {bound:.2f}"
