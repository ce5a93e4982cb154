"""A run of two steps and two tools, ended before every single step of the scheduler, in six ways, on three wires.

The laws are checked on what the outside sees: the log's bytes, the provider's streams, the tools, the tasks.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from sluicegate.machine.events import Event
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.machine.run import Run
from sluicegate.machine.run_inputs import Output
from sluicegate.providers.dialects import DIALECTS
from sluicegate.providers.environment import provider_of
from sluicegate.providers.script import Say, Stall
from sluicegate.providers.scripted import ScriptedTransport
from sluicegate.providers.sdk import SdkProvider, UpstreamOptions
from sluicegate.runtime.alarms import Alarms
from sluicegate.runtime.batch import Batch
from sluicegate.runtime.driver import LEFT, Driver
from sluicegate.runtime.feed import Feed, FeedState
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.watch import Watch
from sluicegate.service.stream import Lease
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from tests.routes import route_to
from tests.runtime.sweep import HOWS, Stage, faults, play, repro
from tests.shared import CHECKOUT

pytestmark = pytest.mark.sweep

REQUEST = Request("m", (UserMessage((TextPart("hello"),)),))
SEEDS = (0, 1)
FLOOR = 120  # steps of one clean run, on any wire
ENOUGH = 10  # faults of one sweep
DEADLINES = 80  # distinct moments of one clean run


@pytest.fixture(params=DIALECTS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(request.param)
    yield stage
    stage.close()


def sweep(stage: Stage, how: str, seed: int, ks: Iterable[int]) -> tuple[list[str], Counter[str]]:
    """Play once for each of `ks`; return a line for each fault, and how often what had begun when the run was ended."""
    found: list[str] = []
    seen: Counter[str] = Counter()
    for k in ks:
        world, _ = play(stage, how, seed=seed, k=k)
        seen["runs"] += 1
        seen["tools"] += bool(world.begun)
        seen["second step"] += world.transport.opened == 2
        found += [f"{repro(stage, how, seed, k)}: {fault}" for fault in faults(world, how)]
        if len(found) >= ENOUGH:
            break
    return found, seen


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("seed", SEEDS)
def test_ended_before_every_step(stage: Stage, how: str, seed: int) -> None:
    clean, steps = play(stage, seed=seed)
    assert faults(clean, "stop") == []
    assert steps.count >= FLOOR
    found, seen = sweep(stage, how, seed, range(1, steps.count + 1))
    assert not found, "\n".join(found)
    assert seen["runs"] == steps.count
    assert seen["tools"] > steps.count / 4
    assert seen["second step"] > steps.count / 10


def test_a_deadline_at_every_moment_at_which_something_happens(stage: Stage) -> None:
    _, steps = play(stage)
    start = steps.times[0]
    moments = sorted({time - start for time in steps.times})
    assert len(moments) >= DEADLINES
    for seconds in moments:
        world, _ = play(stage, "deadline", run_seconds=seconds)
        assert faults(world, "deadline") == [], f"run_seconds={seconds}"
        assert world.over_at <= start + seconds + 1


def test_one_seed_is_one_schedule(stage: Stage) -> None:
    """Otherwise a REPRO line repeats nothing."""
    prints = [play(stage, seed=seed)[1].hash.hexdigest() for seed in range(4)]
    assert prints == [play(stage, seed=seed)[1].hash.hexdigest() for seed in range(4)]
    assert len(set(prints)) > 1


def test_one_seed_is_one_schedule_in_another_process() -> None:
    """Whatever the order of sets and hashes."""
    command = [sys.executable, "-m", "tests.runtime.sweep", "--seed", "3"]
    prints = {
        subprocess.run(
            command,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(prints) == 1


# --- mutants: bugs that the sweep must find, or its zeros mean nothing


def _release_without_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lease, "release", lambda self: self.reader.close())


def _upstream_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    @asynccontextmanager
    async def open_and_forget(
        self: SdkProvider, request: Request, trace: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        kept.append(opened(self, request, trace))
        yield await kept[-1].__aenter__()

    opened = SdkProvider.open
    monkeypatch.setattr(SdkProvider, "open", open_and_forget)


def _close_not_shielded(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    @asynccontextmanager
    async def open_and_wait(
        self: SdkProvider, request: Request, trace: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        kept.append(opened(self, request, trace))
        try:
            yield Unabortable(await kept[-1].__aenter__())
        finally:
            await trio.lowlevel.checkpoint()
            await kept[-1].__aexit__(None, None, None)

    opened = SdkProvider.open
    monkeypatch.setattr(SdkProvider, "open", open_and_wait)


class Unabortable:
    """Chunks as other transports have them: only their task can close the upstream."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> "Unabortable":
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)


def _terminal_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Feed.publish

    def again(self: Feed, events: Iterable[Event]) -> None:
        publish(self, events)
        if self.state is FeedState.ENDED:
            self.frames.append(self.frames[-1])

    monkeypatch.setattr(Feed, "publish", again)


def _event_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Feed.publish

    def on(self: Feed, events: Iterable[Event]) -> None:
        self.state = FeedState.OPEN
        publish(self, events)

    cancel = Driver.cancel

    def cancel_and_talk(self: Driver, error: Any) -> None:
        events = [self.first] if self.first is not None else []
        cancel(self, error)
        self.feed.publish(events)

    monkeypatch.setattr(Feed, "publish", on)
    monkeypatch.setattr(Driver, "cancel", cancel_and_talk)


def _scope_not_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    perform = Driver._perform

    def told_only(self: Driver, outputs: list[Output]) -> None:
        scope, self._scope = self._scope, trio.CancelScope()
        perform(self, outputs)
        self._scope = scope

    monkeypatch.setattr(Driver, "_perform", told_only)


def _tools_outlive_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Batch._run

    async def shielded(self: Batch, call: Any) -> None:
        with trio.CancelScope(shield=True):
            await run(self, call)

    monkeypatch.setattr(Batch, "_run", shielded)


def _a_checkpoint_before_the_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Driver.drive

    async def late(self: Driver, alarms: Alarms) -> None:
        await trio.lowlevel.checkpoint()
        await drive(self, alarms)

    monkeypatch.setattr(Driver, "drive", late)


def _grace_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "be_left", lambda self: None)


def _grace_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "be_joined", lambda self: None)


def _attach_one_further(monkeypatch: pytest.MonkeyPatch) -> None:
    attach = Driver.attach
    monkeypatch.setattr(Driver, "attach", lambda self, after=0, sink=None: attach(self, after + (after > 0), sink))


@pytest.mark.parametrize(
    ("mutate", "how"),
    [
        (_release_without_cancel, "lease"),
        (_grace_never_ends, "abandon"),
        (_grace_goes_on, "return"),
        (_attach_one_further, "return"),
        (_upstream_left_open, "stop"),
        (_close_not_shielded, "stop"),
        (_terminal_twice, "stop"),
        (_event_after_the_end, "stop"),
        (_scope_not_cancelled, "stop"),
        (_tools_outlive_the_run, "stop"),
        (_a_checkpoint_before_the_first_word, "nursery"),
    ],
)
def test_the_sweep_finds(mutate: Callable[[pytest.MonkeyPatch], None], how: str) -> None:
    stage = Stage("openai_chat")
    count = play(stage)[1].count
    with pytest.MonkeyPatch.context() as monkeypatch:
        mutate(monkeypatch)
        found, _ = sweep(stage, how, 0, range(1, count + 1))
    stage.close()
    assert found


def test_chunks_that_cannot_be_aborted_are_closed_by_their_task(stage: Stage) -> None:
    """The same sweep, without the short way."""
    opened = SdkProvider.open

    @asynccontextmanager
    async def open_plainly(
        self: SdkProvider, request: Request, trace: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with opened(self, request, trace) as chunks:
            yield Unabortable(chunks)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(SdkProvider, "open", open_plainly)
        clean, steps = play(stage)
        assert faults(clean, "stop") == []
        found, seen = sweep(stage, "stop", 0, range(1, steps.count + 1))
    assert not found, "\n".join(found)
    assert seen["runs"] == steps.count


async def test_the_provider_is_cut_off_in_the_tick_that_cancels() -> None:
    """Before any other task runs: where many clients leave at once, their upstreams do not wait for each other."""
    transport = ScriptedTransport([[Say("Half"), Stall()]])
    provider = provider_of("openai_chat", UpstreamOptions(max_retries=0), transport, "k", "http://scripted.invalid/v1")
    feed = Feed(NativeEncoder("e"), 1_000)
    driver = Driver(Run("r", REQUEST), route_to(provider, "m"), Registry(()), feed, RunOptions())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.drive, Alarms(nursery))
        await driver.answered.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert transport.active == 1
        driver.cancel(LEFT)
        assert transport.active == 0
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await provider.aclose()
