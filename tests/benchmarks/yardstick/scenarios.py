"""The scenarios of the musts, and their variants: each measures one target and returns figures by metric.

Tokens are the provider's text tokens, counted in the bytes that clients get: every eighth carries a mark, so targets
that merge or split events are compared fairly. CPU is that of the target's whole process tree.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

from . import proc
from .provider import Provider
from .service import Asked, Service
from .targets import Speed

Measured: TypeAlias = dict[str, float]
Measure: TypeAlias = Callable[[Service, Provider], Measured]
ENDLESS = 1_000_000  # requests, more than any scenario has time for
AGAIN = ("--backoff-ms", "200")  # who is refused comes back, until all streams are open
LONE = 100  # requests one after another: enough for a stable median
OPEN = 500
MEMORY = Asked("bench-n100-d2000-b1-f0", OPEN, ENDLESS, 30, ("--ramp-ms", "2000", *AGAIN))
WARM_UP = Asked("bench-n20-d0-b1", 8, 40, 5)


def steady(clients: int, prefix: str = "steady") -> Measure:
    """Long streams already running: CPU in a window, over the tokens that the provider sent in it (no request cost)."""

    def measure(service: Service, provider: Provider) -> Measured:
        with service.loading(Asked("bench-n500-d20-b1", clients, ENDLESS, 8, ("--ramp-ms", "700", *AGAIN))):
            time.sleep(1.7)
            tokens, spent, began = provider.stats().tokens, proc.cpu_seconds(service.pid), time.monotonic()
            time.sleep(1.6)
            tokens, spent = provider.stats().tokens - tokens, proc.cpu_seconds(service.pid) - spent
            took = time.monotonic() - began
        provider.settle(3)
        return {prefix: spent / max(1, tokens) * 1e6, f"{prefix}_util": spent / took, f"{prefix}_rate": tokens / took}

    return measure


def saturated(clients: int, seconds: float) -> Measure:
    """As many tokens as the target can carry."""

    def measure(service: Service, _provider: Provider) -> Measured:
        slow = service.target.speed is Speed.SLOW
        time_for = seconds * (1 if not slow else 3 if clients <= 16 else 6)
        seen, spent = service.load(Asked("bench-n500-d0-b1", clients, ENDLESS, time_for))
        tokens = max(1, seen.tokens)
        return {
            f"tok_s_c{clients}": seen.tokens / seen.wall_s,
            f"us_tok_c{clients}": spent / tokens * 1e6,
            f"util_c{clients}": spent / seen.wall_s,
            f"err_c{clients}": seen.errors,
            f"ev_tok_c{clients}": seen.events / tokens,
        }

    return measure


def lone(service: Service, _provider: Provider) -> Measured:
    """First token of requests that come one after another, with nobody else there."""
    seen, spent = service.load(Asked("bench-n2-d20-b1", 1, LONE, 20))
    return {
        "ttft1_p50": seen.ttft_ms.p50,
        "ttft1_p99": seen.ttft_ms.p99,
        "ttft1_n": seen.ttft_ms.n,
        "req_cpu_ms": spent / max(1, seen.finished) * 1e3,
        "err_ttft1": seen.errors,
    }


def requests(service: Service, _provider: Provider) -> Measured:
    """Short requests one after another: CPU milliseconds per request."""
    seen, spent = service.load(Asked("bench-n2-d0-b1", 8, ENDLESS, 1.5))
    return {"req8_ms": spent / max(1, seen.ok) * 1e3, "err_req8": seen.errors}


def abort(clients: int, total: int, prefix: str) -> Measure:
    """Clients that leave after ten events: from their close until the provider sees its connection closed."""

    def measure(service: Service, provider: Provider) -> Measured:
        provider.reset()
        asked = Asked("bench-n500-d20-b1", clients, total, 5, ("--abort-after", "10", "--ramp-ms", "500"))
        seen, _ = service.load(asked)
        left = provider.settle(4)
        closed = {found.bid: found for found in provider.stats().aborts}
        took = sorted((closed[gone.bid].closed_ns - gone.at_ns) / 1e6 for gone in seen.aborts if gone.bid in closed)
        found: Measured = {f"{prefix}_seen": len(took), f"{prefix}_sent": len(seen.aborts), f"{prefix}_leak": left}
        found[f"err_{prefix}"] = seen.errors
        if not took:
            return found
        return {**found, f"{prefix}_p50": took[len(took) // 2], f"{prefix}_p99": took[int((len(took) - 1) * 0.99)]}

    return measure


def tool(service: Service, provider: Provider) -> Measured:
    """Runs of two steps with one tool call between them; `tool_ok` is 1 where every loop was whole."""
    provider.reset()
    seconds = 4 if service.target.speed is Speed.SLOW else 1.5
    seen, spent = service.load(Asked("bench-n50-d0-b1-t1", 8, 100_000, seconds))
    stats = provider.stats()
    whole = stats.tool_second > 0 and stats.tool_ok == stats.tool_second and not seen.errors and seen.ok > 0
    return {
        "tool_ok": int(whole),
        "err_tool": seen.errors,
        "tool_per_cpu": seen.ok / spent,
        "tool_per_s": seen.ok / seen.wall_s,
    }


def memory(service: Service, provider: Provider) -> Measured:
    """Anonymous memory that 500 open streams add to a process that has served 40 short requests."""
    base, total = warmed(service, provider)
    with service.loading(MEMORY):
        count = provider.wait_open(OPEN, OPEN, 8)
        time.sleep(0.7)
        grown = proc.anonymous_kib(service.pid) - base
    provider.settle(3)
    return {
        "rss_base_mib": total / 1024,
        "kib_stream": grown / max(1, count),
        "mem_open": count,
        "err_mem": OPEN - count,
    }


def warmed(service: Service, provider: Provider) -> tuple[int, int]:
    """Warm the target up; return the KiB of its anonymous memory, and of all its memory."""
    service.load(WARM_UP)
    provider.settle(4)
    return proc.anonymous_kib(service.pid), proc.resident_kib(service.pid)


def slow_readers(service: Service, provider: Provider) -> Measured:
    """16 clients that read 20 kB/s from an unpaced reply of 20,000 tokens: does memory grow without bound?"""
    base = proc.anonymous_kib(service.pid)
    options = ("--read-rate", "20000", "--rcvbuf", "8192")
    with service.loading(Asked("bench-n20000-d0-b1", 16, 16, 20, options)):
        time.sleep(4)
        grown, stats = proc.anonymous_kib(service.pid) - base, provider.stats()
    provider.settle(4)
    return {"slow_mib": grown / 1024, "slow_open": stats.open}
