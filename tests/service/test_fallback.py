"""A model that can be had from several providers: who answers when one does not, and what clients see of it."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from sluicegate.machine.deltas import Usage
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.events import RunFailed
from sluicegate.machine.price import Price
from sluicegate.machine.run_inputs import ToolDone
from sluicegate.providers.gate import GateOptions
from sluicegate.providers.script import Call, Cut, Fail, Pause, Reply, Reset, Say, Status, Think, Unreachable
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.driver import LEFT, Driver
from sluicegate.runtime.ledger import MemoryLedger
from tests.service.harness import DIALECTS, LINKS, over, stack, text_of, virtually

EARLY: dict[str, Reply] = {
    "unreachable": [Unreachable()],
    "status 500": [Status(500)],
    "status 529": [Status(529)],
    "status 429": [Status(429)],
    "status 401": [Status(401)],
    "cut before a word": [Cut()],
    "reset before a word": [Reset()],
    "error before a word": [Fail(retryable=True)],
}
LATE: dict[str, Reply] = {
    "cut": [Say("Half"), Cut()],
    "reset": [Say("Half"), Reset()],
    "error": [Say("Half"), Fail(retryable=True)],
    "error while it thinks": [Think("Hm"), Fail(retryable=True)],
}
ANSWER: Reply = [Say("Here I am.")]
PRICE = Price(1.0, 4.0, 0.5, 1.0)


class Counting:
    """A brain that counts how often it is asked."""

    def __init__(self, *replies: Reply) -> None:
        self.asked = 0
        self.models: list[str] = []
        self._replies = replies

    def __call__(self, request: ScriptedRequest) -> Reply:
        self.models.append(request.model)
        self.asked += 1
        return self._replies[min(self.asked, len(self._replies)) - 1]


class Watching:
    """An observer that keeps the runs."""

    def __init__(self) -> None:
        self.runs: list[Driver] = []
        self.ended_runs: list[Driver] = []

    def started(self, driver: Driver) -> None:
        self.runs.append(driver)

    def ended(self, driver: Driver) -> None:
        self.ended_runs.append(driver)


@LINKS
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("failure", EARLY)
def test_another_provider_answers_where_one_fails_before_its_first_word(
    failure: str, dialect: str, socket: bool
) -> None:
    async def test() -> None:
        first, second = Counting(EARLY[failure]), Counting(ANSWER)
        watching = Watching()
        async with stack(
            first, others=[second], dialect=dialect, socket=socket, observers=[watching], retries=3
        ) as served:
            answer = await served.ask()
            assert text_of(answer.frames) == "Here I am."
            assert answer.frames[0]["run"]["model"] == "scripted-demo", "clients see the name that they asked for"
        assert (first.models, second.models) == (["model-of-scripted"], ["model-of-other-1"])
        record = watching.ended_runs[0].record
        attempts = record.steps[0].attempts
        assert [attempt.candidate.gate.name for attempt in attempts] == ["scripted", "other-1"]
        assert attempts[0].error is not None
        assert attempts[1].error is None

    over(socket, test)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("failure", LATE)
def test_nobody_else_is_asked_after_the_first_word(failure: str, dialect: str) -> None:
    async def test() -> None:
        first, second = Counting(LATE[failure]), Counting(ANSWER)
        async with stack(first, others=[second], dialect=dialect, retries=3) as served:
            frames = (await served.ask()).frames
            assert frames[-1]["error"]["code"] == "UPSTREAM_ERROR"
        assert (first.asked, second.asked) == (1, 0)

    virtually(test)


@pytest.mark.parametrize("failure", EARLY)
def test_when_all_fail_the_last_one_tells_how(failure: str) -> None:
    async def test() -> None:
        brains = [Counting(EARLY[failure]) for _ in range(3)]
        ledger = MemoryLedger()
        async with stack(brains[0], others=brains[1:], ledger=ledger) as served:
            answer = await served.ask()
            assert answer.status in (429, 502, 503)
        assert [brain.asked for brain in brains] == [1, 1, 1]
        assert len(ledger.settlements) == 1
        assert not ledger.open_intents

    virtually(test)


def test_what_one_provider_filters_no_other_is_asked() -> None:
    async def test() -> None:
        filtered = Status(400, body=b'{"error": {"message": "no", "code": "content_filter"}}')
        first, second = Counting([filtered]), Counting(ANSWER)
        async with stack(first, others=[second], retries=3) as served:
            assert (await served.ask()).frames[-1]["error"]["code"] == "CONTENT_FILTER"
        assert second.asked == 0

    virtually(test)


@pytest.mark.parametrize(("told", "least", "most"), [(None, 0.375 + 0.75, 0.5 + 1.0), (7.0, 14.0, 14.0)])
def test_one_provider_is_asked_again_when_it_says_or_later_each_time(
    told: float | None, least: float, most: float
) -> None:
    async def test() -> None:
        headers = {} if told is None else {"retry-after": str(told)}
        brain = Counting([Status(503, headers=headers)], [Status(503, headers=headers)], ANSWER)
        async with stack(brain, retries=2) as served:
            began = trio.current_time()
            assert text_of((await served.ask()).frames) == "Here I am."
            assert least <= trio.current_time() - began <= most + 0.01
        assert brain.asked == 3

    virtually(test)


def test_the_log_says_who_failed_and_how(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        failing = Status(401, body=b'{"error": {"type": "invalid_request_error", "code": "invalid_api_key"}}')
        async with stack([[failing]], others=[[ANSWER]]) as served:
            run_id = (await served.ask()).header("Run-Id")
        [line] = [record for record in caplog.records if "another attempt" in record.message]
        fields: Any = line.__dict__["fields"]
        assert (fields.run_id, fields.provider, fields.model) == (run_id, "scripted", "model-of-scripted")
        assert (fields.outcome, fields.reason, line.levelname) == ("UPSTREAM_ERROR", "invalid_api_key", "WARNING")

    virtually(test)


def test_a_stop_ends_the_wait_for_another_attempt() -> None:
    async def test() -> None:
        brain = Counting([Status(503, headers={"retry-after": "50"})])
        async with stack(brain, retries=2) as served:
            exchange = await (await served.chat()).head()
            began = trio.current_time()
            assert (await served.delete(exchange.run_id)).status == 204
            frames = (await exchange.answer()).frames
            assert frames[-1]["error"]["code"] == "CANCELLED"
            assert trio.current_time() == began
        assert brain.asked == 1

    virtually(test)


UNASKED: dict[str, Reply] = {
    "for its time": [Status(503, headers={"retry-after": "50"})],
    "for its time, behind a reply that said what it costs": [Fail(retryable=True)],
    "for a place": [],
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("wait", UNASKED)
def test_a_request_that_was_never_sent_costs_nothing(wait: str, dialect: str) -> None:
    async def test() -> None:
        ledger, watching = MemoryLedger(), Watching()
        gate = GateOptions(concurrent_requests=1)
        waits: Reply = UNASKED[wait] or [Pause(100)]
        async with stack(
            Counting(waits), dialect=dialect, retries=2, gate=gate, ledger=ledger, observers=[watching]
        ) as served:
            if wait == "for a place":
                await served.chat("first")
                await trio.sleep(0.2)
            exchange = await served.chat("word " * 400)
            await trio.sleep(0.2)
            watching.runs[-1].cancel(LEFT)
            assert (await exchange.answer()).error["code"] == "CANCELLED"
            settled = ledger.settlements[0]
            assert (settled.outcome, settled.usage, settled.cost) == (ErrorCode.CANCELLED, Usage(), 0.0)
            assert watching.ended_runs[0].record.cost == 0.0

    virtually(test)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_step_that_begins_as_its_run_ends_costs_nothing(dialect: str) -> None:
    """The last tool and the stop come in the same moment."""

    async def test() -> None:
        ledger = MemoryLedger()
        brain = Counting([Say("Let me see."), Call("get_weather", {"city": "Oslo"})], ANSWER)
        async with stack(brain, dialect=dialect, ledger=ledger, prices={"model-of-scripted": PRICE}) as served:
            exchange = await (await served.chat("word " * 400)).head()
            driver = served.driver(exchange)
            while not (calls := driver.run._started):
                await trio.lowlevel.checkpoint()
            told = driver.run.usage
            driver.tell(ToolDone(next(iter(calls)), "Rain."))
            driver.cancel(LEFT)
            await exchange.answer()
            step = driver.record.steps[0]
            assert step.usage == told == ledger.settlements[0].usage
            assert ledger.settlements[0].cost == step.cost
            assert told.output_tokens > 0
        assert brain.asked == 1

    virtually(test)


def test_a_failing_provider_is_set_aside_and_tried_again() -> None:
    """Five failures in a row; then nobody waits for it until 30 s have passed, and its first answer brings it back."""

    async def test() -> None:
        first = Counting(*[[Status(500)]] * 6, ANSWER)
        second = Counting(ANSWER)
        async with stack(first, others=[second], gate=GateOptions(set_aside_after=5, set_aside_seconds=30)) as served:
            for _ in range(8):
                await served.ask()
            assert (first.asked, second.asked) == (5, 8)
            await trio.sleep(30)
            for _ in range(3):
                await served.ask()
            assert (first.asked, second.asked) == (6, 11), "one try, which failed"
            await trio.sleep(30)
            for _ in range(3):
                await served.ask()
            assert (first.asked, second.asked) == (9, 11)

    virtually(test)


def test_who_has_no_place_is_passed_over_and_waited_for_when_all_are_full() -> None:
    async def test() -> None:
        slow: Reply = [Pause(10), Say("Late.")]
        first, second = Counting(slow), Counting(slow)
        async with stack(first, others=[second], gate=GateOptions(concurrent_requests=1)) as served:
            began = trio.current_time()
            exchanges = [await served.chat(str(number)) for number in range(3)]
            for exchange in exchanges:
                assert text_of((await exchange.answer()).frames) == "Late."
            assert trio.current_time() - began == pytest.approx(20, abs=0.1)
        assert (first.asked, second.asked) == (2, 1)

    virtually(test)


def test_the_steps_of_a_run_stay_with_who_answered_the_first() -> None:
    async def test() -> None:
        first = Counting([Status(500)], ANSWER)
        second = Counting([Call("calculate", {"expression": "6*7"})], ANSWER)
        async with stack(first, others=[second]) as served:
            frames = (await served.ask()).frames
            assert text_of(frames) == "Here I am."
        assert (first.asked, second.asked) == (1, 2)

    virtually(test)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_reads_of_any_size_fall_back_alike(dialect: str) -> None:
    """What comes before the first word may come in any pieces."""

    async def ask(pieces: int) -> tuple[list[dict[str, Any]], int, int]:
        first, second = Counting([Fail(retryable=True)]), Counting(ANSWER)
        async with stack(first, others=[second], dialect=dialect, pieces=pieces) as served:
            frames = (await served.ask()).frames
        return [frame for frame in frames if "run" not in frame], first.asked, second.asked

    async def test() -> None:
        whole = await ask(0)
        assert whole[1:] == (1, 1)
        for pieces in (1, 2, 3, 7, 50):
            _, first, second = await ask(pieces)
            assert (first, second) == (1, 1)

    virtually(test)


def test_what_a_cut_opening_cost_is_counted_when_the_client_leaves() -> None:
    """Anthropic tells of the prompt before the first word."""

    async def test() -> None:
        ledger = MemoryLedger()
        brain: Callable[[ScriptedRequest], Reply] = lambda _: [Pause(50), Say("Late.")]  # noqa: E731
        async with stack(brain, dialect="anthropic", ledger=ledger) as served:
            exchange = await (await served.chat("word " * 400)).head()
            driver = served.driver(exchange)
            await served.delete(exchange.run_id)
            await exchange.answer()
            assert isinstance(driver.run.terminal, RunFailed)
        assert ledger.settlements[0].usage.input_tokens > 0

    virtually(test)
