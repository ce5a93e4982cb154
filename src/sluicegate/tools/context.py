"""What passes between a run and one tool call: the context in, the outcome out."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import trio

from .jsontext import encode_json, is_json
from .threads import Threads, default_threads

MAX_PROGRESS_BYTES = 8_192


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a tool call ended. `content` is for the model; `fault`, if any, is for logs and never leaves the process."""

    content: str
    is_error: bool = False
    fault: BaseException | None = None


class ToolContext:
    """One tool call, as seen from inside the tool: who called, and a way to report progress.

    `publish` receives every progress as JSON, always in the thread of the run, until `close()`. `threads` are for sync
    tools; without them, all calls of a Trio run share threads.MAX_THREADS.
    """

    __slots__ = ("_publish", "_thread", "_threads", "_token", "call_id", "run_id")

    def __init__(
        self,
        call_id: str,
        run_id: str,
        publish: Callable[[msgspec.Raw], None] | None = None,
        threads: Threads | None = None,
    ) -> None:
        self.call_id = call_id
        self.run_id = run_id
        self._publish = publish
        self._threads = threads
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

    def relay(self, raw: bytes) -> None:
        """Report progress that is JSON already; must be called in the thread of the run. Never a checkpoint.

        Raises ValueError for what is not JSON or is larger than MAX_PROGRESS_BYTES.
        """
        if len(raw) > MAX_PROGRESS_BYTES or not is_json(raw):
            raise ValueError(f"the progress is not JSON, or larger than {MAX_PROGRESS_BYTES} bytes")
        self._deliver(msgspec.Raw(raw))

    def close(self) -> None:
        """End the call: what a late thread or task still reports is dropped."""
        self._publish = None

    def threads(self) -> Threads:
        """Return the threads for this call. Must be called within a Trio run."""
        return self._threads if self._threads is not None else default_threads()

    def _deliver(self, raw: msgspec.Raw) -> None:
        if self._publish is not None:
            self._publish(raw)
