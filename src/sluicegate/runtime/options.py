"""The frozen options of this room."""

import msgspec

from ..machine.limits import RunLimits


class RunOptions(msgspec.Struct, frozen=True):
    """How runs are driven. Times in seconds, sizes in bytes."""

    limits: RunLimits = RunLimits()
    run_seconds: float = 600.0
    log_room: int = 256 * 1024
    parallel_tools: int = 8
    drain_seconds: float = 0.05
    kept_runs: int = 256
    kept_bytes: int = 64 * 1024 * 1024
