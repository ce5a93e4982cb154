"""Whoever asks for a run that there is no room for is told so at once; whoever has one is let in."""

import time

import msgspec
import pytest
import trio

from sluicegate.machine.errors import ErrorCode
from sluicegate.providers.script import Pause, Reply, Say
from sluicegate.runtime.admission import Admission, Gate
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.runs import TOO_MANY
from sluicegate.service.app import Service
from sluicegate.service.problems import refusal_of, respond_run_error
from tests.service.harness import JSON, LINKS, Answer, Stack, over, stack, virtually

BODY = msgspec.json.encode({"messages": [{"role": "user", "content": "Hi"}], "on_disconnect": "detach"})
FULL = RunOptions(max_runs=1)
LONG: Reply = [Say("First."), Pause(3), Say("Last.")]


async def keyed(up: Stack, key: str) -> Answer:
    return await (await up.open("POST", "/chat", BODY, {**JSON, "Idempotency-Key": key})).answer()


@LINKS
def test_a_run_without_room_is_refused_and_all_that_is_under_way_goes_on(socket: bool) -> None:
    async def test() -> None:
        async with stack([LONG], socket=socket, run=FULL) as up:
            live = await up.open("POST", "/chat", BODY, {**JSON, "Idempotency-Key": "mine"})
            await live.until(b"First.")
            for refused in (await up.ask(), await keyed(up, "another"), await keyed(up, "not a key")):
                assert refused.status == 503
                assert refused.error["code"] == "OVERLOADED"
                assert refused.header("Retry-After") == "1"
            for other in ("/healthz", "/readyz"):
                assert (await (await up.open("GET", other)).answer()).status == 200
            async with trio.open_nursery() as nursery:
                same: list[Answer] = []

                async def read(exchange_key: str | None) -> None:
                    same.append(await (keyed(up, exchange_key) if exchange_key else up.get(live.run_id)))

                nursery.start_soon(read, "mine")
                nursery.start_soon(read, None)
                whole = await live.answer()
            assert [answer.body for answer in same] == [whole.body] * 2
            assert (await up.delete(live.run_id)).status == 204

    over(socket, test)


def test_a_refusal_is_byte_for_byte_what_the_application_says_elsewhere() -> None:
    async def test() -> None:
        async with stack([LONG], run=FULL) as up:
            live = await up.chat()
            await live.until(b"First.")
            early = await up.ask()
            late = respond_run_error(TOO_MANY)
            assert late is not None
            assert early.status == late.status_code
            assert early.body == await late.get_data(as_text=False)
            assert sorted((name.decode().title(), value.decode()) for name, value in refusal_of(TOO_MANY).headers) == (
                sorted((name.title(), value) for name, value in late.headers.items())
            )
            await live.leave()

    virtually(test)


def shed(admission: Admission) -> None:
    """Let `admission` see a queue that stands."""
    now = trio.current_time()
    admission.refusal(now)
    while admission.gate is Gate.OPEN:
        now = admission.due + 1
        admission.probe(now)
    admission.due = trio.current_time()


def test_while_the_loop_is_late_the_state_says_so_and_then_no_longer() -> None:
    async def test() -> None:
        async with stack([LONG, LONG]) as up:
            live = await up.chat()
            await live.until(b"First.")
            shed(up.service.runs.admission)
            refused = await up.ask()
            assert refused.error["code"] == ErrorCode.OVERLOADED
            assert "max_lateness_seconds" in refused.error["message"]
            assert int(refused.header("Retry-After") or 0) * 1000 >= refused.error["retry_after_ms"] >= 1000
            ready = await (await up.open("GET", "/readyz")).answer()
            assert (ready.status, ready.body) == (200, b'{"status":"shedding"}')
            assert (await live.answer()).frames[-1]["done"]
            await trio.sleep(5)
            assert (await (await up.open("GET", "/readyz")).answer()).body == b'{"status":"ok"}'
            assert (await up.ask()).frames[-1]["done"]

    virtually(test)


def test_one_long_pause_refuses_nobody() -> None:
    """Not even of those that came during the pause."""

    async def test() -> None:
        async with stack([[Say("Hi.")] for _ in range(40)]) as up:
            clock = trio.lowlevel.current_clock()
            assert isinstance(clock, trio.testing.MockClock)
            for _ in range(4):
                asked = [await up.chat() for _ in range(10)]
                clock.jump(2.0)
                assert [(await exchange.answer()).status for exchange in asked] == [200] * 10

    virtually(test)


@pytest.mark.sockets
async def test_a_loop_that_is_late_refuses_and_takes_again_when_it_is_in_time() -> None:
    """For real: every turn of the loop takes longer than it may, and later none does."""
    brain: list[Reply] = [[Say("First."), Pause(0.5), Say("Last.")] for _ in range(1_000)]
    with trio.fail_after(60):
        async with stack(brain, socket=True, run=RunOptions(max_lateness_seconds=0.02)) as up:
            live = await up.chat()
            await live.until(b"First.")
            with trio.CancelScope() as busy:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_dawdle)
                    while (answer := await up.ask()).status == 200:
                        pass
                    assert answer.error["code"] == "OVERLOADED"
                    assert (await live.answer()).frames[-1]["done"]
                    busy.cancel()
            while up.service.runs.admission.gate is Gate.SHEDDING:
                await up.ask()
            assert (await up.ask()).status == 200


async def _dawdle() -> None:
    while True:
        time.sleep(0.03)  # noqa: ASYNC251  # that is what the test is about
        await trio.lowlevel.checkpoint()


def test_a_server_that_stops_refuses_as_before() -> None:
    async def test() -> None:
        async with stack([LONG]) as up:
            service: Service = up.service
            service.stop_runs()
            assert (await up.ask()).error["code"] == "SHUTTING_DOWN"

    virtually(test)
