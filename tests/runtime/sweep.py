"""One run under a deterministic scheduler, ended from outside at a chosen step: what is then left of it?

`python -m tests.runtime.sweep --dialect D --how H --seed S --k K` repeats one line that a failing sweep printed.
"""

import argparse
import hashlib
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import hypothesis  # importing it is what makes Trio's scheduler deterministic  # noqa: F401
import trio
from trio._core import _run as trio_run  # private: pinned with Trio's version, and a test holds the fingerprint
from trio.testing import MockClock

from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.machine.run import Run
from sluicegate.providers.environment import provider_of
from sluicegate.providers.script import Call, Pause, Reply, Say
from sluicegate.providers.scripted import ScriptedTransport
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.providers.sdk import SdkProvider, UpstreamOptions
from sluicegate.runtime.driver import Driver, OnDisconnect
from sluicegate.runtime.feed import Feed, FeedState
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.runs import Runs
from sluicegate.service.stream import Lease
from sluicegate.tools.context import ToolContext
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from tests.routes import route_to

if not trio_run._ALLOW_DETERMINISTIC_SCHEDULING:
    trio_run._hypothesis_plugin_setup()

HOWS = ("stop", "lease", "abandon", "return", "nursery")
CODES = {
    "stop": "CANCELLED",
    "lease": "CANCELLED",
    "abandon": "CANCELLED",
    "return": "DONE",
    "nursery": "SHUTTING_DOWN",
    "deadline": "TIMEOUT",
}
DETACHED = ("abandon", "return")  # "lease" under the other policy: nobody comes back, or somebody does
GRACE = 0.5  # virtual seconds
STOP = RunError(ErrorCode.CANCELLED, "The run was stopped.")
BOUND = 1.0  # virtual seconds until all is gone: the slowest tool's clean-up is a tenth of one
ROOM = 100  # bytes, so that now and then the run has to wait for its reader
READER_PAUSE = 0.25  # virtual seconds
LONGEST = 60.0  # virtual seconds until we give up


def brain(asked: ScriptedRequest) -> Reply:
    """Two steps; the first one talks, then calls two tools, the second one thinks long before it talks."""
    if asked.results:
        return [Pause(3), Say("It is 18 degrees.", rate=10)]
    return [Say("Let me look.", rate=10), Call("look", {"city": "Oslo"}), Pause(0.2), Call("fetch", {"page": 7})]


class Swap(httpx2.AsyncBaseTransport):
    """Lets one SDK client, which is slow to make, serve many runs: each with a transport of its own."""

    def __init__(self) -> None:
        self.inner = ScriptedTransport(brain)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self.inner.handle_async_request(request)


class World:
    """What the outside saw of one run. `act` ends it; `acted_at` is when it did, `was_over` what the log was then."""

    def __init__(self) -> None:
        self.transport = ScriptedTransport(brain)
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.effects: list[FeedState] = []
        self.got = b""
        self.acted_at: float | None = None
        self.was_over = False
        self.over_at = 0.0
        self.open_upstreams = 0
        self.left: list[str] = []
        self.escaped: list[str] = []
        self.feed: Feed
        self.act: Callable[[], None]


class Stage:
    """What is slow to make, and serves run after run: a provider over its official SDK, and the tools."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.swap = Swap()
        base_url = "http://scripted.invalid" + ("" if dialect == "anthropic" else "/v1")
        self.provider: SdkProvider = provider_of(dialect, UpstreamOptions(max_retries=0), self.swap, "key", base_url)
        self.world = World()
        self.registry = self._tools()
        play(self)  # the SDK's first request asks a thread for the platform

    def close(self) -> None:
        trio.run(self.provider.aclose)

    def enter(self, world: World) -> None:
        """The next run is for `world` to see."""
        self.world = world
        self.swap.inner = world.transport

    def _tools(self) -> Registry:
        @tool(eager=True)
        async def look(city: str) -> str:
            """Take a second."""
            self.world.begun.append("look")
            try:
                await trio.sleep(1)
                self.world.effects.append(self.world.feed.state)
            finally:
                self.world.ended.append("look")
            return city

        @tool
        async def fetch(page: int, context: ToolContext) -> int:
            """Take two, report, and need a tenth for the clean-up, whatever happens."""
            self.world.begun.append("fetch")
            try:
                await trio.sleep(1)
                context.progress({"page": page})
                await trio.sleep(1)
                self.world.effects.append(self.world.feed.state)
            finally:
                with trio.move_on_after(0.5, shield=True):
                    await trio.sleep(0.1)
                self.world.ended.append("fetch")
            return page

        return Registry([look, fetch])


class Steps(trio.abc.Instrument):
    """Counts the scheduler's steps while `on`; calls `act` before step `k`. The hash is the schedule's fingerprint."""

    def __init__(self, world: World, k: int) -> None:
        self.on = False
        self.count = 0
        self.times: list[float] = []
        self.hash = hashlib.blake2b(digest_size=8)
        self.live: set[trio.lowlevel.Task] = set()
        self._world = world
        self._k = k

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.live.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.live.discard(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.on:
            return
        self.count += 1
        self.times.append(trio.current_time())
        self.hash.update(b"%b %d;" % (task.name.rpartition(".")[2].encode(), task._schedule_points))
        if self.count == self._k:
            self._world.acted_at = trio.current_time()
            self._world.was_over = self._world.feed.state is not FeedState.OPEN
            self._world.act()


async def _play(stage: Stage, world: World, steps: Steps, how: str, run_seconds: float) -> None:
    options = RunOptions(run_seconds=run_seconds, log_room=ROOM, grace_seconds=GRACE)
    registry = stage.registry
    feed = world.feed = Feed(NativeEncoder("e"), options.log_room)
    run = Run("r1", Request("m", (UserMessage((TextPart("hello"),)),), registry.specs()), None, registry.eager)
    policy = OnDisconnect.DETACH if how in DETACHED else OnDisconnect.CANCEL
    driver = Driver(run, route_to(stage.provider, "m"), registry, feed, options, on_disconnect=policy)
    lease = Lease(driver)
    reading = trio.CancelScope()

    async def application(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started(nursery)
            await trio.sleep_forever()

    async def read() -> None:
        nonlocal lease
        try:
            with reading:
                await read_all()
        finally:
            lease.release()
        if how == "return":
            lease = Lease(driver, lease.reader.at)
            await read_all()
            lease.release()

    async def read_all() -> None:
        while (data := await lease.reader.next()) is not None:
            world.got += data
            await trio.sleep(READER_PAUSE)

    async with trio.open_nursery() as outer:
        app: trio.Nursery = await outer.start(application)
        runs = Runs(app, options)
        world.act = {"nursery": app.cancel_scope.cancel, "lease": reading.cancel}.get(
            "lease" if how in DETACHED else how, lambda: driver.cancel(STOP)
        )
        before = set(steps.live)
        steps.on = True
        runs.start(driver)
        outer.start_soon(read)
        with trio.fail_after(LONGEST):
            while len(runs) or feed.readers:  # noqa: ASYNC110  (neither tells, and no time passes)
                await trio.sleep(0.1)
        steps.on = False
        world.over_at = trio.current_time()
        world.open_upstreams = world.transport.active  # now: at its very end Trio closes forgotten generators itself
        world.left = [task.name for task in steps.live - before]
        outer.cancel_scope.cancel()


@contextmanager
def _nothing_unraisable(escaped: list[str]) -> Iterator[None]:
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: escaped.append(f"unraisable {args.exc_value!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        sys.unraisablehook = hook


def play(
    stage: Stage, how: str = "stop", *, seed: int = 0, k: int = 0, run_seconds: float = 600
) -> tuple[World, Steps]:
    """Run the scenario; before step `k` (0: never) `how` happens. `how` "deadline" means that of `run_seconds`."""
    world = World()
    steps = Steps(world, k)
    stage.enter(world)
    trio_run._r.seed(seed)
    with _nothing_unraisable(world.escaped):
        try:
            clock = MockClock(autojump_threshold=0)
            trio.run(_play, stage, world, steps, how, run_seconds, clock=clock, instruments=[steps])
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            world.escaped.append(repr(error))
    return world, steps


def faults(world: World, how: str) -> list[str]:
    """Return what is wrong with `world`: [] if every law holds."""
    found = list(world.escaped)
    data = [line[6:] for frame in world.feed.frames for line in frame.split(b"\n") if line.startswith(b"data: ")]
    frames: list[dict[str, Any]] = [json.loads(line) for line in data if line != b"[DONE]"]
    terminals = [frame for frame in frames if "error" in frame or "done" in frame]
    last = frames[-1] if frames else {}
    code = "DONE" if "done" in last else last.get("error", {}).get("code")
    if terminals != [last] or data.count(b"[DONE]") != 1 or data[-1] != b"[DONE]":
        found.append(f"terminals {terminals}, last {data[-2:]}")
    expected = {"DONE", CODES[how]}
    if how == "stop":  # the only way that works at once; all others take a step or two
        expected = {"DONE" if world.acted_at is None or world.was_over else CODES[how]}
    if code not in expected:
        found.append(f"ended with {code}")
    if world.open_upstreams:
        found.append(f"{world.open_upstreams} upstreams open")
    if sorted(world.begun) != sorted(world.ended):
        found.append(f"tools began {world.begun}, ended {world.ended}")
    if world.left:
        found.append(f"tasks left: {world.left}")
    log = b"".join(world.feed.frames)
    if not log.startswith(world.got) or (how not in ("lease", "abandon") and world.got != log):
        found.append(f"the reader got {len(world.got)} of {len(log)} bytes")
    bound = math.inf if how == "return" else BOUND + GRACE * (how == "abandon")
    if world.acted_at is not None and world.over_at > world.acted_at + bound and not world.was_over:
        found.append(f"over only {world.over_at - world.acted_at:g} s later")
    if set(world.effects) - {FeedState.OPEN}:
        found.append(f"effects after the end: {world.effects}")
    return found


def repro(stage: Stage, how: str, seed: int, k: int) -> str:
    """Return the line that repeats a failure."""
    return f"REPRO python -m tests.runtime.sweep --dialect {stage.dialect} --how {how} --seed {seed} --k {k}"


def main() -> int:
    """Play once and print steps, fingerprint and faults; 1 if there are any."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialect", default="openai_chat")
    parser.add_argument("--how", default="stop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=int, default=0)
    arguments = parser.parse_args()
    stage = Stage(arguments.dialect)
    world, steps = play(stage, arguments.how, seed=arguments.seed, k=arguments.k)
    stage.close()
    found = faults(world, arguments.how)
    print(steps.count, steps.hash.hexdigest(), *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
