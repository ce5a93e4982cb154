"""The frozen options of this room."""

import msgspec

from ..machine.limits import RunLimits


class RunOptions(msgspec.Struct, frozen=True):
    """How runs are driven. Times in seconds, sizes in bytes.

    Deadlines, each with an error of its own: `first_delta_seconds` from the request of a step to the first word of its
    reply (retries included), `stall_seconds` between deltas (the time in which a slow reader makes us wait does not
    count), `step_seconds` for a reply and its tools, `run_seconds` for all. `grace_seconds`: how long a detached run
    goes on without a reader. `heartbeat_seconds`: the longest silence that a waiting reader sees.

    `log_room` is how far the slowest reader may lag behind before the upstream waits; `log_bytes` how much of a run's
    log is kept as it is, beyond that a snapshot; `linger_seconds` how long an upstream that has said all is read on, so
    that its connection can be used again. `max_runs` live at once. Of those that ended, at most `kept_runs` with
    `kept_bytes` of log are kept, each for at most `kept_seconds`.

    `max_lateness_seconds`: when the event loop stays later than that, there is more to do than can be done, and only as
    many new runs are taken as keep it in time (inf for all).
    """

    limits: RunLimits = RunLimits()
    first_delta_seconds: float = 120.0
    stall_seconds: float = 120.0
    step_seconds: float = 300.0
    run_seconds: float = 600.0
    grace_seconds: float = 30.0
    heartbeat_seconds: float = 15.0
    linger_seconds: float = 0.05
    log_room: int = 256 * 1024
    log_bytes: int = 4 * 1024 * 1024
    parallel_tools: int = 8
    max_runs: int = 10_000
    max_lateness_seconds: float = 0.03
    kept_runs: int = 256
    kept_bytes: int = 64 * 1024 * 1024
    kept_seconds: float = 300.0

    def __post_init__(self) -> None:
        if not self.heartbeat_seconds > 0:
            raise ValueError(f"heartbeat_seconds: must be more than 0 (inf for none), is {self.heartbeat_seconds:g}")
        if not self.max_lateness_seconds > 0:
            raise ValueError(
                f"max_lateness_seconds: must be more than 0 (inf for none), is {self.max_lateness_seconds:g}"
            )
