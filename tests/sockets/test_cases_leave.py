"""Failures of others where clients leave, seen from the provider's side of a real socket. The number is the case's."""

from collections import Counter

import pytest
import trio

from tests.sockets.protocols import PROTOCOLS, WAYS, Protocol, calling_over, leave
from tests.sockets.rig import BOUND, Rig, running_rig
from tests.sockets.test_drops import AT_ONCE, DROPS, WAIT, drop_many
from tests.sockets.upstream import FLOOD, Ended, Phase, Plan

pytestmark = [pytest.mark.sockets, pytest.mark.alone]

CLOSED = 1.0  # seconds within which the provider has to see it
TIMES = 10  # for each way of leaving


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("phase", ["silent", "text"])
async def test_case_50_the_provider_sees_the_close_within_a_second(phase: Phase, protocol: Protocol) -> None:
    """Of each way of leaving, alone on the machine; also while the answer pours in and while it is awaited."""
    async with running_rig() as rig:
        for drop, how in enumerate(WAYS[protocol] * TIMES, 1):
            async with calling_over(protocol, rig.port) as caller:
                with trio.fail_after(WAIT):
                    await rig.ask(caller, Plan(drop, phase))
                    await rig.upstream.asked[drop, 1].wait()
                    if phase == "text":
                        await caller.hear(500)
                at = trio.current_time()
                await leave(caller, how)
                with trio.fail_after(BOUND):
                    (exchange,) = rig.upstream.exchanges[drop]
                    await exchange.over.wait()
                assert exchange.over_at - at < CLOSED, how
                assert exchange.ended is not Ended.COMPLETE
            await rig.wait_clean()


async def break_early(rig: Rig, protocol: Protocol, drop: int, seen: Counter[str]) -> None:
    """Leave, or stop, an endless answer behind its first words."""
    async with calling_over(protocol, rig.port) as caller:
        with trio.fail_after(WAIT):
            await rig.ask(caller, Plan(drop, "text"))
            await caller.hear(200)
        if drop % 2:
            await leave(caller, WAYS[protocol][drop // 2 % len(WAYS[protocol])])
        else:
            assert await rig.stop(caller.run_id) == 204
            await caller.hear_all()
        (exchange,) = rig.upstream.exchanges[drop]
        with trio.fail_after(BOUND):
            await exchange.over.wait()
        assert exchange.ended is not Ended.COMPLETE
        assert exchange.tokens < FLOOD, "what nobody reads is not read to its end"
        seen["open at most"] = max(seen["open at most"], rig.transport.open_connections)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_case_52_case_53_two_hundred_early_breaks_leave_the_pool_as_it_was(protocol: Protocol) -> None:
    seen: Counter[str] = Counter()
    async with running_rig() as rig:

        async def one(drop: int) -> None:
            await break_early(rig, protocol, drop, seen)

        ids = await drop_many(rig, DROPS, one)
        assert len(ids) == DROPS
        assert 0 < seen["open at most"] <= 2 * AT_ONCE
        assert rig.transport.open_connections == rig.transport.idle_connections
        tokens = rig.upstream.tokens
        async with calling_over(protocol, rig.port) as caller:  # and the next one is served
            await rig.ask(caller, Plan(DROPS + 1, "text", tokens=3))
            with trio.fail_after(BOUND):
                await caller.hear(0, b"tok2")
            await leave(caller, "fin")
        await rig.wait_clean()
        assert rig.upstream.tokens == tokens + 3
