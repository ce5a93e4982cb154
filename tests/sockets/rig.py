"""The whole service on real sockets, within the test's own Trio run, and everything that it could leave behind."""

import math
import os
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio
import trio.testing

from sluicegate.providers.environment import provider_of
from sluicegate.providers.models import Models
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.transport import TrioTransport
from sluicegate.runtime.options import RunOptions
from sluicegate.server.serve import ServerOptions, serve
from sluicegate.service.app import Service
from sluicegate.service.options import ServiceOptions
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from tests.sockets.caller import calling
from tests.sockets.protocols import AnyCaller
from tests.sockets.upstream import Plan, Upstream, running_upstream

BOUND = 2.0  # seconds within which every trace of a run has to be gone


class Workshop:
    """The tools, and what became of their calls: by the number of the drop, how many began and how many ended."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()
        self.ended: Counter[int] = Counter()
        self.all_begun: dict[int, trio.Event] = defaultdict(trio.Event)
        self.wanted: dict[int, int] = {}

    def begin(self, drop: int) -> None:
        self.begun[drop] += 1
        if self.begun[drop] == self.wanted[drop]:
            self.all_begun[drop].set()

    def registry(self) -> Registry:
        """Return `hold`, which waits until it is cancelled, and `quick`, which does not."""

        @tool(timeout=3600)
        async def hold(drop: int, number: int) -> str:
            """Wait for ever; every second one needs a moment to tidy up."""
            self.begin(drop)
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(BOUND, shield=bool(number % 2)):
                    await trio.lowlevel.cancel_shielded_checkpoint()
                self.ended[drop] += 1

        @tool
        async def quick(drop: int, number: int) -> str:
            """Answer at once."""
            self.begin(drop)
            try:
                await trio.lowlevel.checkpoint()
            finally:
                self.ended[drop] += 1
            return f"{drop}.{number}"

        return Registry([hold, quick])


class Left(msgspec.Struct, frozen=True):
    """What there is in the process because of runs. `descriptors` are those that no idle connection accounts for."""

    runs: int
    tasks: dict[str, int]
    upstreams_in_use: int
    tools: int
    descriptors: int


class Rig:
    """A running service; `issued` are the ids of its runs, oldest first."""

    def __init__(self, service: Service, upstream: Upstream, transport: TrioTransport, workshop: Workshop) -> None:
        self.service = service
        self.upstream = upstream
        self.transport = transport
        self.workshop = workshop
        self.issued: list[str] = []
        self.port = 0
        self.nursery: trio.Nursery
        self.clean: Left

    def new_id(self) -> str:
        self.issued.append(secrets.token_hex(8))
        return self.issued[-1]

    async def ask(self, caller: AnyCaller, plan: Plan, sent: float = 1.0) -> None:
        """Send the question of `plan`, or only the part `sent` of its body."""
        self.workshop.wanted[plan.drop] = plan.tools
        await caller.chat(plan, sent)

    async def stop(self, run_id: str) -> int:
        """DELETE the run over a connection of its own; return the status."""
        async with calling(self.port) as caller:
            await caller.ask("DELETE", f"/runs/{run_id}")
            return (await caller.hear_all()).status

    def frames(self, run_id: str) -> list[bytes]:
        """Return the log of an ended run."""
        driver = self.service.runs.get(run_id)
        assert driver is not None
        return driver.feed.frames

    def left(self) -> Left:
        """Look at everything that a run may leave behind."""
        idle = self.transport.idle_connections
        return Left(
            len(self.service.runs),
            dict(Counter(_task_names(self.nursery))),
            self.transport.open_connections - idle,
            self.workshop.begun.total() - self.workshop.ended.total(),
            len(os.listdir("/proc/self/fd")) - idle - self.upstream.connections,
        )

    async def wait_clean(self) -> None:
        """Wait until nothing is left of any run. Fails, saying what is, if that takes longer than BOUND seconds."""
        left = self.left()
        with trio.move_on_after(BOUND):
            while left != self.clean:
                await trio.lowlevel.checkpoint()
                left = self.left()
        assert left == self.clean, f"left behind: {left}, when clean: {self.clean}"


def _task_names(nursery: trio.Nursery) -> list[str]:
    names: list[str] = []
    pending = [nursery]
    while pending:
        for task in pending.pop().child_tasks:
            names.append(task.name)
            pending += task.child_nurseries
    return names


@asynccontextmanager
async def running_rig(hold_seconds: float = 2.0) -> AsyncIterator[Rig]:
    """Run provider and service; on leaving, both are stopped in order and must not have been hurt."""
    async with running_upstream() as upstream:
        transport = TrioTransport()
        options = UpstreamOptions(max_retries=0)
        provider = provider_of("openai_chat", options, transport, "key", f"http://127.0.0.1:{upstream.port}/v1")
        workshop = Workshop()
        service = Service(
            Models({"openai": provider}, "openai", "real"),
            workshop.registry(),
            RunOptions(max_lateness_seconds=math.inf),  # clients and provider share the loop
            options=ServiceOptions(hold_seconds=hold_seconds),
            ids=lambda: rig.new_id(),
        )
        rig = Rig(service, upstream, transport, workshop)
        stopped = trio.Event()
        async with trio.open_nursery() as nursery:
            rig.nursery = nursery
            bound = await nursery.start(serve, service.app(), ServerOptions(port=0), service.drain, stopped.wait)
            rig.port = int(bound[0].rpartition(":")[2])
            await _warm_up(rig)
            yield rig
            stopped.set()


async def _warm_up(rig: Rig) -> None:
    """Do once whatever is done only once (imports, the SDK's look at the platform), then see how clean looks."""
    await trio.testing.wait_all_tasks_blocked()
    before = rig.left()
    async with calling(rig.port) as caller:
        await rig.ask(caller, Plan(0, "between"))
        await rig.upstream.asked[0, 2].wait()
        await caller.leave("fin")
    with trio.fail_after(BOUND):
        rig.clean = rig.left()
        while rig.upstream.connections or msgspec.structs.replace(rig.clean, descriptors=before.descriptors) != before:
            await trio.lowlevel.checkpoint()
            rig.clean = rig.left()
