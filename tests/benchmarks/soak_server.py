"""The service under the soak, in a process of its own: `python -m tests.benchmarks.soak_server PROVIDER_PORT`.

Composed as `sluicegate serve` does it, but with short deadlines, tools of its own, and a count of everything in the
process: each line on standard input is answered by one. Ends by SIGTERM.
"""

import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import trio

from sluicegate.providers.environment import provider_of
from sluicegate.providers.models import Models
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.transport import TrioTransport
from sluicegate.runtime.ledger import Intent, MemoryLedger, Settlement
from sluicegate.runtime.options import RunOptions
from sluicegate.server.options import ServerOptions
from sluicegate.server.serve import serve
from sluicegate.service.app import Service
from sluicegate.service.options import ServiceOptions
from sluicegate.tools import Registry, ToolError, tool
from tests.benchmarks.processes import resident

RUN = RunOptions(
    max_lateness_seconds=math.inf,  # every client is to get its run
    first_delta_seconds=15.0,
    stall_seconds=15.0,
    step_seconds=80.0,
    run_seconds=90.0,
    grace_seconds=15.0,
    heartbeat_seconds=1.0,
    kept_runs=500,
    kept_bytes=16 * 1024 * 1024,
)
SERVER = ServerOptions(port=0, write_seconds=2.0)
SERVICE = ServiceOptions(drain_seconds=2.0)


class Counts(msgspec.Struct, frozen=True):
    """What there is in the process. `descriptors` are those that no idle upstream connection accounts for; `memory` is
    in bytes, `cpu` in seconds since the start.
    """

    memory: int
    tasks: int
    threads: int
    descriptors: int
    runs: int
    upstreams: int
    intended: int
    settled: int
    cpu: float


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    trio.run(_serve, int(sys.argv[1]))


async def _serve(provider_port: int) -> None:
    transport = TrioTransport()
    options = UpstreamOptions(max_retries=1)
    provider = provider_of("openai_chat", options, transport, "key", f"http://127.0.0.1:{provider_port}/v1")
    ledger = _CountingLedger()
    service = Service(Models({"openai": provider}, "openai", "soak"), _tools(), RUN, SERVICE, ledger=ledger)
    async with trio.open_nursery() as nursery:
        count = partial(_count, service, transport, ledger)
        await serve(service.app(), SERVER, service.drain, task_status=_Started(nursery, count))
        nursery.cancel_scope.cancel()


class _Started:
    """What `serve` reports its address to: prints the port, and answers questions from then on."""

    def __init__(self, nursery: trio.Nursery, count: Callable[[], Counts]) -> None:
        self._nursery = nursery
        self._count = count

    def started(self, value: list[str] | None = None) -> None:
        assert value is not None
        print(value[0].rpartition(":")[2], flush=True)
        self._nursery.start_soon(self._answer)

    async def _answer(self) -> None:
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as questions:
            async for asked in questions:
                for _ in range(asked.count(b"\n")):
                    print(msgspec.json.encode(self._count()).decode(), flush=True)


def _count(service: Service, transport: TrioTransport, ledger: "_CountingLedger") -> Counts:
    idle = transport.idle_connections
    return Counts(
        memory=resident(os.getpid()),
        tasks=sum(1 for _ in _tasks()),
        threads=threading.active_count(),
        descriptors=len(os.listdir("/proc/self/fd")) - idle,
        runs=len(service.runs),
        upstreams=transport.open_connections - idle,
        intended=ledger.intended,
        settled=ledger.settled,
        cpu=sum(os.times()[:2]),
    )


def _tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield task
        for nursery in task.child_nurseries:
            waiting += nursery.child_tasks


def _tools() -> Registry:
    @tool
    async def quick(number: int) -> str:
        """Answer at once."""
        await trio.lowlevel.checkpoint()
        return str(number)

    @tool
    async def slow(number: int) -> str:
        """Answer after a while."""
        await trio.sleep(0.5)
        return str(number)

    @tool
    def threaded(number: int) -> str:
        """Answer from a thread."""
        return str(number)

    @tool
    async def failing(number: int) -> str:
        """Fail."""
        await trio.lowlevel.checkpoint()
        raise ToolError(f"no {number}")

    @tool(timeout=0.2)
    async def late(number: int) -> str:
        """Take longer than allowed."""
        await trio.sleep(60)
        return str(number)

    return Registry([quick, slow, threaded, failing, late])


class _CountingLedger(MemoryLedger):
    """Counts settlements instead of keeping them."""

    def __init__(self) -> None:
        super().__init__()
        self.intended = 0
        self.settled = 0

    def intend(self, intent: Intent) -> None:
        super().intend(intent)
        self.intended += 1

    def settle(self, settlement: Settlement) -> None:
        super().settle(settlement)
        self.settled += len(self.settlements)
        self.settlements.clear()


if __name__ == "__main__":
    main()
