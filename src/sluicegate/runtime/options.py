"""The frozen options of this room."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..machine.limits import RunLimits
from ..machine.quantities import DOCUMENTED, Bytes, Count, CountOrNone, Seconds, SomeSeconds


@dataclass(frozen=True)
class RunOptions:
    """How runs are driven. Times in seconds, sizes in bytes. Each deadline has an error of its own."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    limits: RunLimits = field(default_factory=RunLimits)
    first_delta_seconds: Seconds = 120.0
    """From the request of a step to the first word of its reply, retries included."""
    stall_seconds: Seconds = 120.0
    """Between two deltas; the time in which a slow reader makes us wait does not count."""
    step_seconds: Seconds = 300.0
    """For one reply and its tools."""
    run_seconds: Seconds = 600.0
    """For the whole run."""
    grace_seconds: Seconds = 30.0
    """How long a detached run goes on without a reader."""
    heartbeat_seconds: SomeSeconds = 15.0
    """The longest silence that a waiting reader sees; inf for no heartbeats."""
    linger_seconds: Seconds = 0.05
    """How long an upstream that has said all is read on, so that its connection can be used again."""
    log_room: Bytes = 256 * 1024
    """How far the slowest reader may lag behind before the upstream waits."""
    log_bytes: Bytes = 4 * 1024 * 1024
    """How much of a run's log is kept as it is; beyond that, a snapshot."""
    parallel_tools: Count = 8
    """Tools of one step that run side by side."""
    max_runs: Count = 10_000
    """Runs that live at once; more are refused."""
    max_lateness_seconds: SomeSeconds = 0.03
    """When the event loop stays later than that, there is more to do than can be done, and only as many new runs are
    taken as keep it in time; inf for all."""
    kept_runs: CountOrNone = 256
    """How many of the runs that ended are kept for those who come back."""
    kept_bytes: Bytes = 64 * 1024 * 1024
    """How much of their logs is kept."""
    kept_seconds: Seconds = 300.0
    """How long each of them is kept."""

    def __post_init__(self) -> None:
        if not self.heartbeat_seconds > 0:
            raise ValueError(f"heartbeat_seconds: must be more than 0 (inf for none), is {self.heartbeat_seconds:g}")
        if not self.max_lateness_seconds > 0:
            raise ValueError(
                f"max_lateness_seconds: must be more than 0 (inf for none), is {self.max_lateness_seconds:g}"
            )
