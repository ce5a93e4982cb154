"""The scenarios beyond the musts: many streams, more load than a target can carry, long replies."""

import time

from . import proc
from .provider import Provider
from .scenarios import AGAIN, ENDLESS, Measure, Measured, warmed
from .service import Asked, Service

IDLE = 2000
IDLE_WINDOW = 15.0  # seconds; as long as the heartbeat of sluicegate, so each stream has one in it
SILENT = Asked("bench-n100-d20-b1-s10", IDLE, ENDLESS, 60, ("--ramp-ms", "8000", *AGAIN))
OPEN_SECONDS = 20.0
SHORT_RUN = "bench-n20-d20-b1"
CAPACITY_CLIENTS = 128
LOADS = (0.5, 1.0, 1.5, 2.0)
MOST_OPEN = 4000
WARM_SECONDS, COUNTED_SECONDS = 3, 6
LENGTHS = (100, 1_000, 10_000, 100_000)
LENGTH_TOKENS = max(LENGTHS)  # for each length


def paced(clients: int, total: int, model: str, ramp_ms: int, seconds: float) -> Measure:
    """Streams that begin one by one and are paced: first tokens, the gaps between tokens, CPU with the requests."""

    def measure(service: Service, _provider: Provider) -> Measured:
        seen, spent = service.load(Asked(model, clients, total, seconds, ("--ramp-ms", str(ramp_ms))))
        return {
            f"ttft{clients}_p50": seen.ttft_ms.p50,
            f"ttft{clients}_p99": seen.ttft_ms.p99,
            f"us_tok_paced{clients}": spent / max(1, seen.tokens) * 1e6,
            f"gap{clients}_p50": seen.gap_us.p50 / 1e3,
            f"gap{clients}_p99": seen.gap_us.p99 / 1e3,
            f"total{clients}_p50": seen.total_ms.p50,
            f"err_paced{clients}": seen.errors,
            f"paced{clients}_unfinished": seen.unfinished,
        }

    return measure


def idle(service: Service, provider: Provider) -> Measured:
    """Streams that have fallen silent after ten tokens: memory of each, and the CPU at rest."""
    base, _ = warmed(service, provider)
    with service.loading(SILENT):
        count = provider.wait_open(IDLE, IDLE, OPEN_SECONDS)
        time.sleep(1.0)
        grown = proc.anonymous_kib(service.pid) - base
        spent, began = proc.cpu_seconds(service.pid), time.monotonic()
        time.sleep(IDLE_WINDOW)
        rest = (proc.cpu_seconds(service.pid) - spent) / (time.monotonic() - began)
    provider.settle(10)
    return {"idle_open": count, "err_idle2000": IDLE - count, "idle_kib": grown / max(1, count), "idle_cpu": rest}


def goodput(service: Service, provider: Provider) -> Measured:
    """The capacity in a closed loop, then open loops at shares of it: which of the runs are good?"""
    capacity = _capacity(service, provider)
    figures: Measured = {"capacity": capacity}
    for share in LOADS if capacity else ():
        provider.settle(5)
        rate = share * capacity
        options = ("--rate", f"{rate:.2f}", "--warm-ms", str(WARM_SECONDS * 1000), "--drain-ms", "4000")
        seconds = WARM_SECONDS + COUNTED_SECONDS
        seen, spent = service.load(Asked(SHORT_RUN, MOST_OPEN, ENDLESS, seconds, options))
        found = seen.open_loop
        key = f"goodput_{share:g}"
        figures |= {
            key: found.good / found.window_s,
            f"{key}_offered": found.arrived / found.window_s,
            f"{key}_refused": found.refused / found.window_s,
            f"{key}_late": (found.late_first + found.late_gap) / found.window_s,
            f"{key}_failed": (found.failed + found.no_slot) / found.window_s,
            f"{key}_ttft_p99": seen.ttft_ms.p99,
            f"{key}_refused_p99": seen.refused_ms.p99,
            f"{key}_util": spent / seen.wall_s,
        }
    return figures


def _capacity(service: Service, provider: Provider) -> float:
    """Runs per second that the provider finishes for clients in a closed loop, once all of them are there."""
    asked = Asked(SHORT_RUN, CAPACITY_CLIENTS, ENDLESS, 20, ("--ramp-ms", "1000", "--backoff-ms", "500"))
    with service.loading(asked):
        time.sleep(3.0)
        finished, began = provider.stats().finished, time.monotonic()
        time.sleep(4.0)
        return (provider.stats().finished - finished) / (time.monotonic() - began)


def lengths(service: Service, _provider: Provider) -> Measured:
    """Whole replies of several lengths, as fast as they go: CPU for each token, requests included."""
    figures: Measured = {}
    for length in LENGTHS:
        replies = LENGTH_TOKENS // length
        seen, spent = service.load(Asked(f"bench-n{length}-d0-b1", 1, replies, 60))
        figures[f"err_length{length}"] = replies - seen.ok
        if seen.ok == replies:
            figures[f"length{length}_us"] = spent / (seen.ok * length) * 1e6
    return figures
