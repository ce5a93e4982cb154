"""The cost of a delta against the length of its reply: `python -m tests.benchmarks.linear`.

For each kind of reply: CPU nanoseconds for each delta, end and final message included, at three lengths, best of
several repeats in turn; and the slope of log cost over log length between the first length and the last: 1 is linear, 2
quadratic.
"""

import math
import time
from collections.abc import Callable, Sequence

from sluicegate.machine.limits import ReplyLimits
from sluicegate.machine.reply import Reply
from sluicegate.wire.downstream.dialect import Spoken

from . import streams

LENGTHS = (1_000, 10_000, 100_000)
ROOMY = ReplyLimits(reply_bytes=1 << 30, argument_bytes=1 << 30)
KINDS: dict[str, Callable[[int], list[Spoken]]] = {
    "text": streams.text,
    "reasoning": streams.reasoning,
    "call arguments": streams.arguments,
    "8 interleaved calls": lambda count: streams.arguments(count, calls=8),
}
REPEATS = 5


def seconds(deltas: Sequence[Spoken]) -> float:
    """Return how much CPU time one reply takes to receive `deltas` and to become a message."""
    reply = Reply(ROOMY)
    began = time.process_time()
    for delta in deltas:
        reply.receive(delta)
    reply.message()
    return time.process_time() - began


def table() -> str:
    """Measure, and return a Markdown table."""
    rows = [
        "| reply of | " + " | ".join(f"{length:,} deltas, ns each" for length in LENGTHS) + " | slope |",
        "|---" * (len(LENGTHS) + 2) + "|",
    ]
    for kind, make in KINDS.items():
        replies = [streams.whole(make(length)) for length in LENGTHS]
        times = [
            min(repeats)
            for repeats in zip(*([seconds(reply) for reply in replies] for _ in range(REPEATS)), strict=True)
        ]
        each = [spent / length * 1e9 for spent, length in zip(times, LENGTHS, strict=True)]
        slope = math.log(times[-1] / times[0]) / math.log(LENGTHS[-1] / LENGTHS[0])
        rows.append(f"| {kind} | " + " | ".join(f"{figure:.0f}" for figure in each) + f" | {slope:.2f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
