"""The figures of every target as Markdown tables."""

import math
import statistics
from typing import Final, NamedTuple

from .crowds import LENGTHS, LOADS
from .results import Figures, spread


class Column(NamedTuple):
    title: str
    metric: str
    digits: int = 0


ALL: Final = (
    Column("steady c32 µs/tok", "steady32"),
    Column("the same, TLS", "steady32_tls"),
    Column("steady c64 µs/tok", "steady64"),
    Column("µs/tok c16", "us_tok_c16", 1),
    Column("tok/s c16", "tok_s_c16"),
    Column("µs/tok paced c64", "us_tok_paced64"),
    Column("+TTFT c1 p50 ms", "ttft1_p50_added", 1),
    Column("KiB/stream", "kib_stream"),
    Column("base MiB", "rss_base_mib"),
    Column("slow readers +MiB", "slow_mib", 1),
    Column("abort c64 p50 ms", "abort_p50", 1),
    Column("abort c64 p99", "abort_p99"),
    Column("abort c8 p50", "abort8_p50", 1),
    Column("tool ok", "tool_ok"),
    Column("loops/CPU-s", "tool_per_cpu"),
    Column("CPU ms/request", "req8_ms", 2),
)
PACED: Final = (
    Column("first token p50", "ttft64_p50_added", 1),
    Column("p99", "ttft64_p99_added", 1),
    Column("inter-token p99", "gap64_p99_added", 1),
    Column("256: first token p50", "ttft256_p50_added", 1),
    Column("p99", "ttft256_p99_added", 1),
    Column("inter-token p99", "gap256_p99_added", 1),
    Column("CPU µs/tok", "us_tok_paced256"),
    Column("unfinished", "paced256_unfinished"),
)
IDLE: Final = (
    Column("streams open", "idle_open"),
    Column("KiB each", "idle_kib", 1),
    Column("CPU at rest, cores", "idle_cpu", 3),
)
GOODPUT: Final = (
    ("runs offered/s", "_offered", 0),
    ("good/s", "", 0),
    ("refused/s", "_refused", 0),
    ("late/s", "_late", 0),
    ("failed/s", "_failed", 0),
    ("first token p99 ms", "_ttft_p99", 0),
    ("refusal p99 ms", "_refused_p99", 0),
    ("CPU, cores", "_util", 2),
)


def columns(figures: Figures, chosen: tuple[Column, ...]) -> list[str]:
    """A row for each target that has any of the figures; columns that nobody has are left out."""
    used = [column for column in chosen if any(figures.values(name, column.metric) for name in figures.targets)]
    lines = ["| target | " + " | ".join(column.title for column in used) + " |", "|---" * (len(used) + 1) + "|"]
    for name in figures.targets:
        cells = [spread(figures.values(name, column.metric), column.digits) for column in used]
        if any(cell != "-" for cell in cells):
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines if used else []


def goodput(figures: Figures) -> list[str]:
    """A row for each target and load, with its share of the best that the target reached in the same round."""
    lines = [
        "| target | load | " + " | ".join(title for title, _, _ in GOODPUT) + " | of the peak |",
        "|---" * (len(GOODPUT) + 3) + "|",
    ]
    for name in figures.targets:
        for share in LOADS:
            key = f"goodput_{share:g}"
            if figures.values(name, key):
                cells = [spread(figures.values(name, f"{key}{metric}"), digits) for _, metric, digits in GOODPUT]
                cells.append(spread(_of_peak(figures, name, key)))
                lines.append(f"| {name} | {share:g} x | " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else []


def lengths(figures: Figures) -> list[str]:
    """A row for each target: CPU per token at each length, and how the cost of a reply grows."""
    lines = ["| target | " + " | ".join(f"{length:,} tokens" for length in LENGTHS) + " | slope |"]
    lines.append("|---" * (len(LENGTHS) + 2) + "|")
    for name in figures.targets:
        found = [figures.values(name, f"length{length}_us") for length in LENGTHS]
        if any(found):
            slope = _slope([statistics.median(values) if values else math.nan for values in found])
            lines.append(f"| {name} | " + " | ".join(spread(values, 1) for values in found) + f" | {slope:.2f} |")
    return lines if len(lines) > 2 else []


def _of_peak(figures: Figures, name: str, key: str) -> list[float]:
    peaks: dict[int, float] = {}
    for share in LOADS:
        for at, value in figures.rounds(name, f"goodput_{share:g}").items():
            peaks[at] = max(value, peaks.get(at, 0.0))
    return [value / peaks[at] for at, value in figures.rounds(name, key).items() if peaks[at]]


def _slope(each: list[float]) -> float:
    """Of log cost of a reply over log length, from the second length on: before it, the request itself weighs."""
    cost = [value * length for value, length in zip(each, LENGTHS, strict=True)]
    return math.log(cost[-1] / cost[1]) / math.log(LENGTHS[-1] / LENGTHS[1])
