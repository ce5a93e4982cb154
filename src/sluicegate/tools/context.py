"""What passes between a run and one tool call: the context in, the outcome out, and the error meant for the model."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import trio

from .jsontext import encode_json

MAX_PROGRESS_BYTES = 8_192
MAX_THREADS = 16

_default_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("sluicegate_tool_threads")


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong: `message` is shown to it as it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a tool call ended. `content` is for the model; `fault`, if any, is for logs and never leaves the process."""

    content: str
    is_error: bool = False
    fault: BaseException | None = None


class ToolContext:
    """One tool call, as seen from inside the tool: who called, and a way to report progress.

    `publish` receives every progress as JSON, always in the thread of the run, until `close()`. `limiter` bounds the
    threads of sync tools, abandoned ones included; without one, all calls of a Trio run share MAX_THREADS.
    """

    __slots__ = ("_limiter", "_publish", "_thread", "_token", "call_id", "run_id")

    def __init__(
        self,
        call_id: str,
        run_id: str,
        publish: Callable[[msgspec.Raw], None] | None = None,
        limiter: trio.CapacityLimiter | None = None,
    ) -> None:
        self.call_id = call_id
        self.run_id = run_id
        self._publish = publish
        self._limiter = limiter
        self._thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None

    def progress(self, data: object) -> None:
        """Report progress, `data` being anything that has a JSON form of at most MAX_PROGRESS_BYTES.

        May be called from any task or thread of the tool; never a checkpoint. From a thread it blocks until the run
        has taken it. After the call has ended it does nothing. Raises ValueError for data that does not fit.
        """
        raw = encode_json(data)
        if len(raw) > MAX_PROGRESS_BYTES:
            raise ValueError(f"a progress of {len(raw)} bytes is larger than {MAX_PROGRESS_BYTES} bytes")
        if self._token is None or threading.get_ident() == self._thread:
            self._deliver(msgspec.Raw(raw))
            return
        # With an explicit token this neither needs nor meets the cancelled task of an abandoned thread.
        with contextlib.suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self._deliver, msgspec.Raw(raw), trio_token=self._token)

    def close(self) -> None:
        """End the call: what a late thread or task still reports is dropped."""
        self._publish = None

    def thread_limiter(self) -> trio.CapacityLimiter:
        """Return the limiter for threads of this call. Must be called within a Trio run."""
        if self._limiter is not None:
            return self._limiter
        try:
            return _default_limiter.get()
        except LookupError:
            limiter = trio.CapacityLimiter(MAX_THREADS)
            _default_limiter.set(limiter)
            return limiter

    def _deliver(self, raw: msgspec.Raw) -> None:
        if self._publish is not None:
            self._publish(raw)
