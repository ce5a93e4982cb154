"""The points at which a process with a usage spool is killed, and what meets them.

Everything is hooked from here: system calls, the provider's transport, the tools and the publishing. The code under
test knows nothing of it.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from sluicegate.machine.events import Event, PartDelta, PartKind
from sluicegate.runtime.feed import Feed
from sluicegate.runtime.spool import SpoolOptions

LOST = "REPLICA_LOST"
SMALL = 1  # bytes of a segment: each entry has one of its own
KEPT = 8  # segments
FILLERS = 8  # runs of long ago, so that there are segments to delete


class Point(NamedTuple):
    """A moment: the `nth` time that `event` is met. `outcome` is what the one run's settlement says after the next
    recovery, "" where it has none, None where there are several runs. `stopped`: a tool stops the run. `segment_bytes`:
    0 for the default.
    """

    name: str
    event: str
    nth: int = 1
    outcome: str | None = LOST
    runs: int = 1
    stopped: bool = False
    segment_bytes: int = 0

    def options(self, directory: Path) -> SpoolOptions:
        if self.segment_bytes:
            return SpoolOptions(directory, self.segment_bytes, KEPT)
        return SpoolOptions(directory)


IN_RUNS = (
    Point("before the intent", "before intent", outcome=""),
    Point("in the middle of the intent", "half of intent", outcome=""),
    Point("after the intent", "after intent"),
    Point("the request is sent", "request"),
    Point("the head of the response is there", "head"),
    Point("the first word is published", "word"),
    Point("in the middle of the text", "word", 2),
    Point("a call is complete", "CallReady"),
    Point("the tools are announced", "ToolsStarted"),
    Point("a tool begins", "tool begins"),
    Point("a tool is running", "tool runs", 2),
    Point("a tool is done", "ToolResult"),
    Point("all tools are done", "ToolResult", 2),
    Point("before the second request", "request", 2),
    Point("the second head is there", "head", 2),
    Point("in the text of the second step", "word", 5),
    Point("before the settlement", "before settlement"),
    Point("in the middle of the settlement", "half of settlement"),
    Point("after the settlement", "after settlement", outcome="stop"),
    Point("the end is published", "RunDone", outcome="stop"),
    Point("stopped, before the settlement", "before settlement", stopped=True),
    Point("stopped, after the settlement", "after settlement", outcome="CANCELLED", stopped=True),
    Point("before a new segment", "before open", 2, segment_bytes=SMALL),
    Point("after a new segment", "after open", 2, segment_bytes=SMALL),
    Point("before an old segment is deleted", "before unlink", 2, segment_bytes=SMALL),
    Point("after an old segment is deleted", "after unlink", 2, segment_bytes=SMALL),
    Point("three runs, in the middle of the second intent", "half of intent", 2, None, runs=3),
    Point("three runs, in the middle of the text of the third", "word", 8, None, runs=3),
    Point("three runs, in the middle of the second settlement", "half of settlement", 2, None, runs=3),
    Point("three runs, after the second settlement", "after settlement", 2, None, runs=3),
    Point("three runs, before a segment is deleted", "before unlink", 5, None, runs=3, segment_bytes=SMALL),
)
LEFT = Point("three runs to recover", "word", 6, None, runs=3)
IN_RECOVERY = (
    Point("before the first recovered settlement", "before settlement", outcome=None, runs=0),
    Point("in the middle of the first recovered settlement", "half of settlement", outcome=None, runs=0),
    Point("after the first recovered settlement", "after settlement", outcome=None, runs=0),
    Point("in the middle of the last recovered settlement", "half of settlement", 3, None, runs=0),
    Point("after the last recovered settlement", "after settlement", 3, None, runs=0),
    Point("recovery, before a new segment", "before open", 2, None, runs=0, segment_bytes=SMALL),
    Point("recovery, after a new segment", "after open", 3, None, runs=0, segment_bytes=SMALL),
)
POINTS = {point.name: point for point in (*IN_RUNS, LEFT, *IN_RECOVERY)}


class Crash:
    """Kills this process at `point`, once `armed`."""

    def __init__(self, point: Point) -> None:
        self.armed = False
        self._point = point
        self._met: Counter[str] = Counter()

    def meet(self, event: str) -> None:
        """Die here, if this is the point."""
        if self.armed:
            self._met[event] += 1
            if self._is_now(event, 0):
                os.kill(os.getpid(), signal.SIGKILL)

    def hook(self) -> None:
        """Meet what the spool asks of the system and what the feeds publish, in all of this process."""
        os_open, os_write, os_unlink, publish = os.open, os.write, os.unlink, Feed.publish

        def open_(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if not str(path).endswith(".usage"):
                return os_open(path, flags, *more, **named)
            self.meet("before open")
            descriptor = os_open(path, flags, *more, **named)
            self.meet("after open")
            return descriptor

        def write(descriptor: int, data: Any) -> int:
            if b'"entry":' not in bytes(data):
                return os_write(descriptor, data)
            kind = "intent" if b'"entry":"intent"' in bytes(data) else "settlement"
            self.meet(f"before {kind}")
            if self._is_now(f"half of {kind}", 1):
                os_write(descriptor, data[: len(data) // 2])
            self.meet(f"half of {kind}")
            written = os_write(descriptor, data)
            self.meet(f"after {kind}")
            return written

        def unlink(path: Any, *more: Any, **named: Any) -> None:
            self.meet("before unlink")
            os_unlink(path, *more, **named)
            self.meet("after unlink")

        def publish_(feed: Feed, events: Iterable[Event]) -> None:
            publish(feed, events)
            for event in events:
                is_word = isinstance(event, PartDelta) and event.kind is PartKind.TEXT
                self.meet("word" if is_word else type(event).__name__)

        hooks = [(os, "open", open_), (os, "write", write), (os, "unlink", unlink), (Feed, "publish", publish_)]
        for owner, name, hook in hooks:
            setattr(owner, name, hook)

    def _is_now(self, event: str, coming: int) -> bool:
        return self.armed and event == self._point.event and self._met[event] + coming == self._point.nth
