"""Every way in which a request or its stream fails here."""

from typing import Any

from ..machine.errors import SluicegateError


class Interrupted(SluicegateError):
    """The stream ended before its terminal event, for good: what came is not the answer.

    `after` is the id of the last frame that came, "" if none did: `Client.events(run_id, after)` may still read on.
    `run_id` is the idempotency key where no response told the run's id.
    """

    def __init__(self, run_id: str, after: str = "", reason: str = "") -> None:
        because = f": {reason}" if reason else ""
        super().__init__(f"the stream of run {run_id or '(unknown)'} ended before its terminal event{because}")
        self.run_id = run_id
        self.after = after


class Gone(Interrupted):
    """The service does not know the run, or this place in it, any more: it restarted, or it has forgotten the run."""

    def __init__(self, run_id: str, after: str) -> None:
        super().__init__(run_id, after, "the run is gone (the service restarted or has forgotten it); ask again")


class Refused(SluicegateError):
    """The service refused the request before the first byte; `status` is the HTTP status, `error` its JSON body.

    `retry_after` is how many seconds it asks to wait, 0 if it does not say.
    """

    def __init__(self, status: int, error: dict[str, Any], retry_after: float = 0.0) -> None:
        super().__init__(str(error.get("message", "")) or f"HTTP status {status}")
        self.status = status
        self.error = error
        self.retry_after = retry_after


class Lost(Exception):
    """A connection is of no more use, while the run may go on. Never leaves this package."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
