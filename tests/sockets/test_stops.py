"""DELETE from another connection, in every phase of a run: its readers get CANCELLED and `[DONE]`, and nothing is left.

The same outside checks as for drops.
"""

import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import get_args

import msgspec
import pytest
import trio

from tests.sockets.log import STOPPED, check_log, data_of
from tests.sockets.protocols import PROTOCOLS, AnyCaller, Protocol, calling_over
from tests.sockets.rig import BOUND, Rig, running_rig
from tests.sockets.test_drops import WAIT, Moment, drop_many
from tests.sockets.upstream import Phase, Plan

pytestmark = [pytest.mark.sockets, pytest.mark.alone]

STOPS = 200  # in each phase
HELD = 40  # stops while the response's status still waits for the provider
PHASES: tuple[Phase, ...] = get_args(Phase)


async def stop_one(rig: Rig, moment: Moment, seen: Counter[str]) -> None:
    """Ask, stop the run by its id, read to the end; sometimes with a second reader, and sometimes stop it twice."""
    drop = moment.plan.drop
    draw = random.Random(f"stop/{drop}")
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(calling_over(moment.protocol, rig.port))
        readers: list[AnyCaller] = [caller]
        with trio.fail_after(WAIT):
            await rig.ask(caller, moment.plan)
            await caller.hear_head()
            if draw.random() < 0.5:
                other = await stack.enter_async_context(calling_over(moment.protocol, rig.port))
                await other.ask("GET", f"/runs/{caller.run_id}/events")
                await other.hear(1)
                readers.append(other)
            await moment.wait(rig, caller)
        with trio.fail_after(BOUND):
            for _ in range(draw.randint(1, 2)):
                assert await rig.stop(caller.run_id) == 204
            for reader in readers:
                await check_reader(rig, reader, caller.run_id)
            for exchange in rig.upstream.exchanges[drop]:
                await exchange.over.wait()
    seen["readers"] += len(readers)


async def check_reader(rig: Rig, reader: AnyCaller, run_id: str) -> None:
    """The response ends properly, with the whole log of the run."""
    answer = await reader.hear_all()
    assert answer.status == 200
    assert answer.body == b"".join(rig.frames(run_id))
    check_log(answer.data, STOPPED)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("phase", PHASES)
async def test_a_stop_ends_the_run_and_tells_its_readers(
    phase: Phase, protocol: Protocol, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen: Counter[str] = Counter()
    async with running_rig(hold_seconds=0) as rig:

        async def one(drop: int) -> None:
            await stop_one(rig, Moment(drop, phase, protocol), seen)

        ids = await drop_many(rig, STOPS, one)
        assert len(ids) == STOPS
        tokens = rig.upstream.tokens
        for run_id in ids:
            check_log(data_of(rig.frames(run_id)), STOPPED)
    assert rig.upstream.tokens == tokens
    assert seen["readers"] >= STOPS * 1.3
    assert capfd.readouterr().err == ""
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_stop_before_the_response_has_begun_is_a_status(protocol: Protocol) -> None:
    """Before the first byte an error is a true HTTP status, so a stop is one too."""
    async with running_rig() as rig:

        async def one(drop: int) -> None:
            async with calling_over(protocol, rig.port) as caller:
                with trio.fail_after(WAIT):
                    await rig.ask(caller, Plan(drop, "silent"))
                    await rig.upstream.asked[drop, 1].wait()
                    if drop % 10 == 1:  # all of the wave are waiting or about to
                        while len(rig.issued) < 10:
                            await trio.lowlevel.checkpoint()
                        for run_id in rig.issued:
                            assert await rig.stop(run_id) == 204
                answer = await caller.hear_all()
            error = msgspec.json.decode(answer.body)["error"]
            assert (answer.status, error["code"], error["message"]) == (499, "CANCELLED", STOPPED)

        ids = await drop_many(rig, HELD, one, at_once=10)
        assert len(ids) == HELD
        for run_id in ids:
            check_log(data_of(rig.frames(run_id)), STOPPED)
