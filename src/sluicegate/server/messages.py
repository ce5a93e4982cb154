"""The messages of a request on their way to the application.

Hypercorn's channel yields for each message, on both sides: a short request, which is two of them, was four turns of the
loop under way before the application knew that it is complete. Here nobody yields who need not wait.

It also parks the connection's reader for good when an application ends that has left more messages than there is room
for, and then the application's own end, which is told by one message more. Here that one always has room, and what
nobody will take is dropped.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from enum import StrEnum

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

_LAST = ("http.disconnect", "websocket.disconnect")


class QueueState(StrEnum):
    """CLOSED: the application has ended, nobody takes messages any more."""

    OPEN = "open"
    CLOSED = "closed"


class MessageQueue:
    """At most `size` messages, and the last one. Neither side is a checkpoint unless it has to wait."""

    def __init__(self, size: int) -> None:
        self.state = QueueState.OPEN
        self._size = size
        self._messages: deque[ASGIReceiveEvent] = deque()
        self._givers = trio.lowlevel.ParkingLot()
        self._takers = trio.lowlevel.ParkingLot()

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Add `message` behind all others; wait while there is no room, but not with the last one. Closed: drop it."""
        while len(self._messages) >= self._size and self.state is QueueState.OPEN and message["type"] not in _LAST:
            await self._givers.park()
        if self.state is QueueState.OPEN:
            self._messages.append(message)
            self._takers.unpark()

    async def get(self) -> ASGIReceiveEvent:
        """Take the oldest message; wait while there is none."""
        while not self._messages:
            await self._takers.park()
        self._givers.unpark()
        return self._messages.popleft()

    def close(self) -> None:
        """Drop all messages, those that will be put as well. Synchronous."""
        self.state = QueueState.CLOSED
        self._messages.clear()
        self._givers.unpark_all()


class SafeTaskGroup(TaskGroup):
    """Spawns applications with such a queue."""

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start `app`; return how it is given its messages."""
        queue = MessageQueue(config.max_app_queue_size)

        async def run() -> None:
            try:
                await _handle(app, config, scope, queue.get, send, trio.to_thread.run_sync, trio.from_thread.run)
            finally:
                queue.close()

        nursery: trio.Nursery = self._nursery  # type: ignore[assignment]  # its connection has entered it
        nursery.start_soon(run)
        return queue.put
