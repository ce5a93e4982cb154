"""What a piece of code does, counted instead of timed: calls, lines of Python, and bytes held at the peak.

Counts are the same on a busy machine and on a quiet one. They see between them what time would show: work in Python
(lines, calls) and big temporary copies made in C (bytes). A scan in C that neither calls nor copies they do not see.
"""

import gc
import statistics
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Work(NamedTuple):
    """`calls` and `lines` of all steps together; `held` is the median over the steps of the bytes at the peak."""

    calls: int
    lines: int
    held: float


def count(step: Callable[[T], object], inputs: Iterable[T]) -> Work:
    """Return what `step` does for `inputs`, one step each. Not re-entrant; profiler and tracer are put back."""
    calls = lines = 0

    def on_call(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def on_line(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return on_line

    held = []
    profiler, tracer = sys.getprofile(), sys.gettrace()
    tracing = tracemalloc.is_tracing()
    collecting = gc.isenabled()
    for value in inputs:
        gc.disable()  # what it finds was left by others, and who hears of it (Hypothesis does) would be counted here
        if not tracing:
            tracemalloc.start()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        sys.setprofile(on_call)
        sys.settrace(on_line)
        try:
            step(value)
        finally:
            sys.settrace(tracer)
            sys.setprofile(profiler)
            if collecting:
                gc.enable()
        held.append(tracemalloc.get_traced_memory()[1] - before)
        if not tracing:
            tracemalloc.stop()
    return Work(calls, lines, statistics.median(held))
