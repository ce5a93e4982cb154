"""The client goes away at a random moment, in every phase of a run: nothing of the run is left, anywhere, in time.

Checked from outside: the provider's sockets, the tools, the task tree, the pool, the descriptors, the log's bytes.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import get_args

import pytest
import trio

from tests.sockets.log import LEFT, check_log, data_of
from tests.sockets.protocols import PROTOCOLS, WAYS, AnyCaller, Protocol, calling_over, leave
from tests.sockets.rig import BOUND, Rig, running_rig
from tests.sockets.upstream import HEAD, Ended, Phase, Plan

pytestmark = [pytest.mark.sockets, pytest.mark.alone]

DROPS = 200  # in each phase
AT_ONCE = 20  # side by side
WAIT = 20.0  # seconds until a phase must have been reached
EARLY = 100  # drops while the request itself is on its way
PHASES: tuple[Phase, ...] = get_args(Phase)


class Moment:
    """One drop: the plan for the provider, when the client leaves and how. All drawn from the seed."""

    def __init__(self, drop: int, phase: Phase, protocol: Protocol) -> None:
        draw = random.Random(f"{phase}/{drop}")
        self.protocol = protocol
        self.how = draw.choice(WAYS[protocol])
        self.bytes = draw.randint(1, 150)
        self.when = draw.randrange(3)
        match phase:
            case "silent":
                self.plan = Plan(drop, phase, head=draw.choice((0, draw.randrange(len(HEAD)), len(HEAD))))
            case "text" if draw.random() < 0.5:  # while tokens pour in
                self.plan = Plan(drop, phase)
                self.bytes = draw.randint(1, 3000)
            case "text":  # in the silence behind a few tokens, which may all come as one
                self.plan = Plan(drop, phase, tokens=draw.randint(1, 40))
            case "tool":
                self.plan = Plan(drop, phase, tools=draw.randint(1, 3), open_end=draw.random() < 0.5)
            case "between":
                self.plan = Plan(drop, phase, tools=draw.randint(1, 2), head=draw.choice((0, 20, len(HEAD))))

    async def wait(self, rig: Rig, caller: AnyCaller) -> None:
        """Wait until the client shall leave."""
        drop = self.plan.drop
        match self.plan.phase:
            case "silent":
                await rig.upstream.asked[drop, 1].wait()
            case "text":
                await caller.hear(self.bytes, b'{"content":')
            case "tool":
                await rig.workshop.all_begun[drop].wait()
                await caller.hear(self.bytes)
            case "between" if self.when == 0:
                await rig.workshop.all_begun[drop].wait()
            case "between" if self.when == 1:
                await caller.hear(0, b'"tool_result"')
            case "between":
                await rig.upstream.asked[drop, 2].wait()


async def drop_one(rig: Rig, moment: Moment, seen: Counter[str]) -> None:
    """Ask, leave, and check what this run had open: its requests at the provider and its tools."""
    drop = moment.plan.drop
    async with calling_over(moment.protocol, rig.port) as caller:
        await rig.ask(caller, moment.plan)
        with trio.fail_after(WAIT):
            await moment.wait(rig, caller)
        left_at = trio.current_time()
        with trio.fail_after(BOUND):
            await leave(caller, moment.how)
    with trio.fail_after(BOUND):
        for exchange in rig.upstream.exchanges[drop]:
            await exchange.over.wait()
    exchanges = rig.upstream.exchanges[drop]
    assert all(max(exchange.over_at, exchange.last_token_at) <= left_at + BOUND for exchange in exchanges)
    seen[moment.how] += 1
    seen["provider saw the close"] += exchanges[-1].ended is not Ended.COMPLETE
    seen["tools cut"] += rig.workshop.begun[drop]


async def drop_many(rig: Rig, count: int, one: Callable[[int], Awaitable[None]], at_once: int = AT_ONCE) -> list[str]:
    """Run drops 1 to `count`, `at_once` side by side, and be clean after each wave. Returns the ids of the runs."""
    ids: list[str] = []
    for first in range(1, count + 1, at_once):
        del rig.issued[:]
        async with trio.open_nursery() as nursery:
            for drop in range(first, min(first + at_once, count + 1)):
                nursery.start_soon(one, drop)
        await rig.wait_clean()
        ids += rig.issued
    return ids


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_leaves_takes_its_run_with_it(
    phase: Phase, protocol: Protocol, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen: Counter[str] = Counter()
    async with running_rig() as rig:

        async def one(drop: int) -> None:
            await drop_one(rig, Moment(drop, phase, protocol), seen)

        ids = await drop_many(rig, DROPS, one)
        assert len(ids) == DROPS
        tokens = rig.upstream.tokens
        for run_id in ids:
            check_log(data_of(rig.frames(run_id)), LEFT)
    assert rig.upstream.tokens == tokens
    ways = WAYS[protocol]
    assert min(seen[how] for how in ways) >= DROPS / len(ways) / 2
    floors = {"silent": DROPS, "text": DROPS, "tool": DROPS / 4, "between": DROPS / 4}
    assert seen["provider saw the close"] >= floors[phase]
    if phase == "tool":
        assert seen["tools cut"] >= DROPS
    assert capfd.readouterr().err == ""
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_leaves_while_it_asks(
    protocol: Protocol, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of the request's body, or some steps of the scheduler behind it, wherever the run is by then."""
    async with running_rig() as rig:

        async def one(drop: int) -> None:
            draw = random.Random(f"early/{drop}")
            plan = Plan(drop, draw.choice(PHASES))
            async with calling_over(protocol, rig.port) as caller:
                await rig.ask(caller, plan, sent=draw.choice((draw.random(), 1, 1, 1)))
                for _ in range(draw.randrange(40)):
                    await trio.lowlevel.checkpoint()
                with trio.fail_after(BOUND):
                    await leave(caller, draw.choice(WAYS[protocol]))

        ids = await drop_many(rig, EARLY, one)
        for run_id in ids:
            check_log(data_of(rig.frames(run_id)), LEFT)
        exchanges = [exchange for found in rig.upstream.exchanges.values() for exchange in found]
        assert all(exchange.over.is_set() for exchange in exchanges)
        assert EARLY / 2 <= len(ids) <= EARLY * 0.9
    assert capfd.readouterr().err == ""
    assert "Traceback" not in caplog.text
