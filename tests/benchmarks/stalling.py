"""Readers that stop reading behind the head of their response, and what each of them may cost the service."""

from collections import Counter
from typing import Final

import trio

from sluicegate.runtime.feed import MAX_WRITE
from sluicegate.runtime.options import RunOptions
from sluicegate.server.options import ServerOptions
from tests.benchmarks.faulty_provider import Plan, Provider
from tests.benchmarks.links import Lost, linked
from tests.benchmarks.log import Broken, Log

JSON: Final = {"Content-Type": "application/json"}
RECEIVE_BUFFER: Final = 4096
READ: Final = 65_536  # bytes that one read of the upstream may bring
STREAM: Final = 64 * 1024  # bytes of an open stream that holds nothing
STEADY: Final = 0.5  # seconds without a byte of the provider's, then all readers are held up


def published(run: RunOptions, server: ServerOptions) -> int:
    """Return how many bytes of a run may be published for a reader that takes none: what the system holds on both
    ends (Linux doubles a buffer's size for its own book-keeping), what the connection keeps, the room of the log, and
    one read beyond it.
    """
    return 2 * server.send_buffer_bytes + 2 * RECEIVE_BUFFER + 2 * MAX_WRITE + run.log_room + READ


def bound(run: RunOptions, server: ServerOptions) -> int:
    """Return how many bytes of memory such a reader may cost: what is published is held twice, as frames and as the
    text of the reply.
    """
    return 2 * published(run, server) + STREAM


class Stalled:
    """Readers of one run each. `cut` counts those that the server cut off, `logs` what they read in the end, by run."""

    def __init__(self, port: int) -> None:
        self.logs: dict[str, Log] = {}
        self.run_ids: list[str] = []
        self.seen: Counter[str] = Counter()
        self._port = port
        self._go_on = trio.Event()

    def read_on(self) -> None:
        """Let all of them read."""
        self._go_on.set()

    async def leave(self, plan: Plan, task_status: trio.TaskStatus[None]) -> None:
        """Ask, stop reading, and leave when told to read on. Reports itself as started with the head."""
        async with linked(self._port, receive_buffer=RECEIVE_BUFFER) as link:
            await link.ask("POST", "/chat", JSON, plan.body())
            await link.head()
            task_status.started()
            await self._go_on.wait()

    async def come_back(self, plan: Plan, task_status: trio.TaskStatus[None]) -> None:
        """Ask, stop reading, find oneself cut off when told to read on, and come back for all the rest. Reports itself
        as started with the head. Raises Broken.
        """
        log = Log()
        async with linked(self._port, receive_buffer=RECEIVE_BUFFER) as link:
            await link.ask("POST", "/chat", JSON, plan.body(on_disconnect="detach"))
            if await link.head() != 200:
                raise Broken(f"a request is answered by {link.status}")
            run_id = link.headers["run-id"]
            self.run_ids.append(run_id)
            task_status.started()
            await self._go_on.wait()
            try:
                while data := await link.read():
                    log.feed(data)
            except Lost:
                self.seen["cut off"] += 1
        log.reconnect()
        async with linked(self._port) as link:
            after = {"Last-Event-ID": log.cursor} if log.cursor else {}
            await link.ask("GET", f"/runs/{run_id}/events", after, b"")
            if await link.head() != 200:
                raise Broken(f"coming back behind {log.cursor} is answered by {link.status}: {await link.read()!r}")
            while data := await link.read():
                log.feed(data)
        log.check_end()
        self.seen["complete"] += log.text == plan.text
        self.logs[run_id] = log


async def wait_steady(provider: Provider) -> None:
    """Wait until the provider cannot send any more for a while."""
    sent = -1
    while sent < provider.sent:
        sent = provider.sent
        await trio.sleep(STEADY)
