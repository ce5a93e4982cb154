"""10,000 runs that end in every way there is: nothing of them is left, what they cost is noted once, memory is flat.

8,000 in memory on a virtual clock and 2,000 over real sockets; of each, half note their usage in memory, half in files.
"""

import gc
import math
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from sluicegate.runtime.ledger import Intent, Ledger, MemoryLedger, Settlement
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.spool import Spool, SpoolOptions
from sluicegate.runtime.spool_reader import audit_spool
from sluicegate.service.options import ServiceOptions
from tests.load.endings import Player, brain, tools
from tests.service.harness import Stack, stack, virtually

pytestmark = pytest.mark.sweep

# Runs side by side. On a real clock, none may be late for lack of CPU.
AT_ONCE_IN_MEMORY, AT_ONCE_OVER_SOCKETS = 100, 50
PATIENCE = 300.0  # seconds for all that happens over sockets
# Blocks of memory that a run may leave behind, after the first wave of them. One object is one block or more; on a real
# clock, tables that may hold twice what they need (such as that of the alarms) look different at each moment.
FLAT_IN_MEMORY, FLAT_OVER_SOCKETS = 0.5, 3.0


class Audited:
    """Passes on to a ledger and counts, by run, what came."""

    def __init__(self, ledger: Ledger) -> None:
        self.intents: Counter[str] = Counter()
        self.settlements: Counter[str] = Counter()
        self._ledger = ledger

    @property
    def open_intents(self) -> frozenset[str]:
        return self._ledger.open_intents

    def intend(self, intent: Intent) -> None:
        self.intents[intent.run_id] += 1
        self._ledger.intend(intent)

    def settle(self, settlement: Settlement) -> None:
        self.settlements[settlement.run_id] += 1
        self._ledger.settle(settlement)


class Left:
    """What there is in the process: tasks, upstreams, descriptors, blocks of memory."""

    def __init__(self, found: Stack) -> None:
        gc.collect()
        self.tasks = Counter(task.name for task in _tasks())
        self.upstreams = found.transport.active
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.blocks = sys.getallocatedblocks()

    def __str__(self) -> str:
        return f"{self.upstreams} upstreams, {self.descriptors} descriptors, {self.blocks} blocks, {self.tasks}"


def _tasks() -> Iterator[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield task
        for nursery in task.child_nurseries:
            waiting += nursery.child_tasks


MEMORY = RunOptions(kept_runs=256, max_lateness_seconds=math.inf)
SOCKETS = RunOptions(
    max_lateness_seconds=math.inf,  # clients and service share one loop
    first_delta_seconds=6.0,
    stall_seconds=6.0,
    step_seconds=7.0,
    grace_seconds=4.0,
    kept_runs=256,
    kept_seconds=4.0,
)


@pytest.mark.parametrize("kind", ["memory", "spool"])
@pytest.mark.parametrize(
    ("socket", "waves"),
    [(False, (1000, 1000, 1000, 1000)), pytest.param(True, (300, 700), marks=pytest.mark.sockets)],
    ids=["in memory", "over sockets"],
)
def test_runs_that_end_in_every_way_leave_nothing(
    kind: str, socket: bool, waves: tuple[int, ...], tmp_path: Path, note: Callable[[str], None]
) -> None:
    options = SOCKETS if socket else MEMORY
    spool = Spool(SpoolOptions(tmp_path)) if kind == "spool" else None
    ledger = Audited(spool or MemoryLedger(kept=0))
    lefts: list[Left] = []
    total: Counter[str] = Counter()

    async def play() -> None:
        service = ServiceOptions(hold_seconds=0.2)
        async with stack(brain, socket=socket, tools=tools(), run=options, options=service, ledger=ledger) as found:
            await trio.testing.wait_all_tasks_blocked()
            lefts.append(Left(found))
            for wave, count in enumerate(waves):
                total.update(await _wave(found, options, count, wave))
                assert len(ledger.intents) >= count * 0.9
                await _settle(found, options, ledger)
                lefts.append(Left(found))

    if socket:
        trio.run(_in_time, play)
    else:
        virtually(play)
    runs = sum(waves)
    assert total.total() == runs
    assert min(total.values()) >= runs / len(total) / 3, total
    clean = lefts[0]
    for left in lefts[1:]:
        assert (left.tasks, left.upstreams, left.descriptors) == (clean.tasks, 0, clean.descriptors), f"{left}; {clean}"
    flat = FLAT_OVER_SOCKETS if socket else FLAT_IN_MEMORY
    assert lefts[-1].blocks - lefts[1].blocks <= flat * sum(waves[1:]), [left.blocks for left in lefts]
    if spool is not None:
        spool.close()
        audit = audit_spool(tmp_path)
        assert audit.intents == audit.settlements >= runs * 0.9
        assert (audit.orphans, audit.repeats, audit.damaged, audit.unknown) == (0, 0, 0, 0)
    note(f"{runs} runs, {len(total)} endings, {'sockets' if socket else 'in memory'}, {kind}")


async def _in_time(play: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(PATIENCE):
        await play()


async def _wave(found: Stack, options: RunOptions, count: int, seed: int) -> Counter[str]:
    """Play `count` endings, some side by side; return how often each of them was."""
    player = Player(found, options, seed)
    left = iter(range(count))

    async def play_on() -> None:
        for _ in left:
            await player.play()

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE_OVER_SOCKETS if options is SOCKETS else AT_ONCE_IN_MEMORY):
            nursery.start_soon(play_on)
    return player.seen


async def _settle(found: Stack, options: RunOptions, ledger: Audited) -> None:
    """Let all that ended be forgotten; what is noted is then one intent and one settlement of every run."""
    await found.service.runs.wait_none()
    await trio.sleep(options.kept_seconds + 1)
    await trio.testing.wait_all_tasks_blocked()
    assert not ledger.open_intents
    assert ledger.intents == ledger.settlements == Counter(dict.fromkeys(ledger.intents, 1))
    assert all(found.service.runs.get(run_id) is None for run_id in ledger.intents)
    ledger.intents.clear()
    ledger.settlements.clear()
    found.transport.requests.clear()
