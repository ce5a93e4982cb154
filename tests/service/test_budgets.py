"""Budgets: nobody spends more than one read of a reply beyond them, and what is refused costs nothing."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.machine.deltas import Usage
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.price import Price
from sluicegate.providers.base import Provider
from sluicegate.providers.gate import Gate
from sluicegate.providers.route import Candidate, Route
from sluicegate.providers.script import Call, Pause, Reply, Say, Stall
from sluicegate.runtime.ledger import Intent, MemoryLedger, Settlement, Source
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.spool import Spool, SpoolOptions
from sluicegate.service.access import Caller, Grants
from sluicegate.service.budgets import DAY, Budgets, RunBudget
from sluicegate.service.key_file import KeyFile, KeyRing
from sluicegate.service.keys import make_key
from sluicegate.service.options import BudgetOptions, LimitOptions
from sluicegate.service.problems import Problem
from sluicegate.tools.builtin import demo

from .harness import DIALECTS, JSON, LINKS, over, read_frames, record_bodies, stack, text_of, virtually

NOON = 20_000 * DAY + DAY / 2
WORDS = 20
PRICES = {"scripted-demo": Price(1.0, 4.0, 0.5, 1.0)}


def route(price: Price | None = None) -> Route:
    nobody: Any = None
    provider: Provider = nobody
    return Route("m", (Candidate(provider, Gate("p"), "m", price),))


# -- the accounts, against a plain list of all that happened ---------------------------------------------------------


class Act(NamedTuple):
    """`wait` seconds later, run number `run` (of key `key`, if it has not begun) has spent that much more, or ends."""

    wait: float
    run: int
    key: str
    tokens: int
    cents: int
    ends: bool


ACTS = st.lists(
    st.builds(
        Act,
        st.sampled_from([0.0, 1.0, 7.0, 3_600.0, 30_000.0, DAY]),
        st.integers(0, 4),
        st.sampled_from("ab"),
        st.integers(0, 9),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=40,
)
LIMITS = st.builds(
    BudgetOptions,
    st.none() | st.integers(1, 60),
    st.none() | st.integers(1, 60).map(float),
    st.none() | st.sampled_from([5.0, 100.0, 40_000.0]),
)


class Oracle:
    """All charges with their time; sums are made anew whenever somebody asks."""

    def __init__(self) -> None:
        self.charges: list[tuple[float, int, str, int, float]] = []
        self.times: list[tuple[int, str, float, float | None]] = []

    def spent(self, now: float, run: int | None, key: str | None, since: float) -> tuple[int, float, float]:
        chosen = [each for each in self.charges if run in (None, each[1]) and key in (None, each[2])]
        lasted = [
            (now if end is None else end) - max(begin, since)
            for number, name, begin, end in self.times
            if run in (None, number) and key in (None, name) and (end is None or end > since)
        ]
        return (
            sum(tokens for at, _, _, tokens, _ in chosen if at >= since),
            sum(dollars for at, _, _, _, dollars in chosen if at >= since),
            sum(lasted),
        )

    def is_over(self, spent: tuple[int, float, float], limits: BudgetOptions) -> bool:
        tokens, dollars, seconds = spent
        return (
            (limits.tokens is not None and tokens > limits.tokens)
            or (limits.dollars is not None and dollars > limits.dollars)
            or (limits.seconds is not None and seconds >= limits.seconds)
        )


@pytest.mark.once
@given(ACTS, LIMITS, LIMITS, LIMITS)
@settings(max_examples=1_000, deadline=None)
def test_a_run_is_over_budget_if_and_only_if_the_sums_are(
    acts: list[Act], per_run: BudgetOptions, per_key: BudgetOptions, per_day: BudgetOptions
) -> None:
    now = NOON
    budgets = Budgets(LimitOptions(run_budget=per_run, key_budget=per_key, day_budget=per_day), lambda: now)
    oracle = Oracle()
    live: dict[int, tuple[RunBudget, str, int, float, int]] = {}
    for number, act in enumerate(acts):
        now += act.wait
        today = now - now % DAY
        if act.run not in live:
            made = budgets.for_run(Caller(act.key, key=act.key), route(PRICES["scripted-demo"]))
            if made is None:
                assert per_run == per_key == per_day == BudgetOptions()
                return
            made.begin()
            oracle.times.append((number, act.key, now, None))
            live[act.run] = (made, act.key, 0, 0.0, number)
        budget, key, tokens, dollars, run = live[act.run]
        tokens, dollars = tokens + act.tokens, dollars + act.cents
        live[act.run] = (budget, key, tokens, dollars, run)
        oracle.charges.append((now, run, key, act.tokens, act.cents))
        error = budget.charge(tokens, dollars)
        expected = (
            oracle.is_over(oracle.spent(now, run, None, 0), per_run)
            or oracle.is_over(oracle.spent(now, None, key, today), per_key)
            or oracle.is_over(oracle.spent(now, None, None, today), per_day)
        )
        assert (error is not None) == expected
        assert error is None or error.code is ErrorCode.BUDGET_EXCEEDED
        if act.ends:
            budget.end(tokens, dollars)
            budget.end(tokens, dollars)
            del live[act.run]
            oracle.times = [(n, k, b, now if n == run else e) for n, k, b, e in oracle.times]


def test_a_key_that_has_budgets_of_its_own_has_those() -> None:
    budgets = Budgets(LimitOptions(run_budget=BudgetOptions(10), key_budget=BudgetOptions(10)), lambda: NOON)
    own = Grants(run_budget=BudgetOptions(100), day_budget=BudgetOptions(50))
    budget = budgets.for_run(Caller("a", own, "a"), route())
    assert budget is not None
    assert budget.charge(50, 0) is None
    assert budget.charge(51, 0) is not None


def test_a_run_that_is_larger_than_a_day_is_not_told_to_come_back() -> None:
    budgets = Budgets(LimitOptions(day_budget=BudgetOptions(10)), lambda: NOON)
    large, small, late = (budgets.for_run(Caller("a"), route()) for _ in range(3))
    assert large is not None
    assert small is not None
    assert late is not None
    first = large.charge(11, 0)
    large.end(0, 0)
    assert first is not None
    assert (first.retryable, first.retry_after_ms) == (False, None)
    large.charge(0, 0)
    assert small.charge(10, 0) is None
    second = late.charge(1, 0)
    assert second is not None
    assert second.retryable
    assert second.retry_after_ms == DAY / 2 * 1000


def test_a_budget_in_dollars_wants_a_price() -> None:
    budgets = Budgets(LimitOptions(day_budget=BudgetOptions(dollars=1)), lambda: NOON)
    with pytest.raises(Problem, match=r"model: the price of 'm' is not known") as caught:
        budgets.for_run(Caller("a"), route())
    assert (caught.value.status, caught.value.info.code) == (402, ErrorCode.BUDGET_EXCEEDED)
    assert budgets.for_run(Caller("a"), route(PRICES["scripted-demo"])) is not None


def test_accounts_of_yesterday_are_forgotten() -> None:
    now = NOON
    budgets = Budgets(LimitOptions(key_budget=BudgetOptions(5)), lambda: now)
    for number in range(1_000):
        budgets.for_run(Caller(f"k{number}", key=f"k{number}"), route())
    now += DAY
    budgets.for_run(Caller("a", key="a"), route())
    assert len(budgets._keys) == 1


# -- runs ------------------------------------------------------------------------------------------------------------


def words(count: int = WORDS, rate: float = 10) -> Reply:
    """Words of one estimated token each, each in a read of its own."""
    return [Say("abc " * count, rate=rate)]


def budgets_of(run: BudgetOptions) -> Budgets:
    return Budgets(LimitOptions(run_budget=run))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_reply_ends_within_one_read_of_its_budget(dialect: str) -> None:
    async def test() -> None:
        for most in (*range(1, WORDS + 6), 1_000):
            ledger = MemoryLedger()
            async with stack(
                lambda _: words(), dialect=dialect, ledger=ledger, budgets=budgets_of(BudgetOptions(most))
            ) as served:
                answer = await served.ask("abc")  # a prompt of one token
            said = len(text_of(answer.frames)) // 4 if answer.status == 200 else 0
            spent = 1 + said
            if most >= 1 + WORDS:
                assert (said, answer.frames[-1]["done"]) == (WORDS, True)
                continue
            assert spent == most + 1, "the read that went beyond it is told, and no further one"
            error = answer.frames[-1]["error"]
            assert error["code"] == "BUDGET_EXCEEDED"
            assert f"run_budget.tokens: {most}" in error["message"]
            settled = ledger.settlements[0]
            assert (settled.outcome, settled.usage.estimated) == ("BUDGET_EXCEEDED", True)
            assert settled.usage.output_tokens == said

    virtually(test)


def test_dollars_are_counted_as_tokens_are() -> None:
    async def test() -> None:
        for tokens in (3, 9, 17):
            budget = BudgetOptions(dollars=(1.0 + tokens * 4.0) / 1e6 + 1e-12)  # a prompt of one, and so many
            ledger = MemoryLedger()
            async with stack(lambda _: words(), ledger=ledger, budgets=budgets_of(budget), prices=PRICES) as served:
                answer = await served.ask("abc")
            assert len(text_of(answer.frames)) // 4 == tokens + 1
            assert answer.frames[-1]["error"]["code"] == "BUDGET_EXCEEDED"
            assert ledger.settlements[0].cost == pytest.approx((1.0 + (tokens + 1) * 4.0) / 1e6)

    virtually(test)


def test_seconds_end_even_a_silent_run_in_time() -> None:
    async def test() -> None:
        budget = budgets_of(BudgetOptions(seconds=7))
        async with stack(lambda _: [Say("Half"), Stall()], budgets=budget) as served:
            began = trio.current_time()
            frames = (await served.ask()).frames
            assert trio.current_time() - began == pytest.approx(7, abs=0.01)
            assert frames[-1]["error"]["code"] == "BUDGET_EXCEEDED"
            assert "run_budget.seconds: 7" in frames[-1]["error"]["message"]

    virtually(test)


def test_a_prompt_that_is_over_budget_is_never_sent() -> None:
    async def test() -> None:
        ledger = MemoryLedger()
        async with stack(lambda _: words(), ledger=ledger, budgets=budgets_of(BudgetOptions(10))) as served:
            answer = await served.ask("abc " * 11)
            assert (answer.status, answer.error["code"]) == (402, "BUDGET_EXCEEDED")
            assert served.transport.opened == 0
        assert ledger.settlements[0].usage == Usage()

    virtually(test)


def test_a_step_that_is_over_budget_is_never_asked_for() -> None:
    async def test() -> None:
        calling: Reply = [Call("calculate", {"expression": "6*7"})]
        for most in range(1, 60):
            async with stack(
                lambda asked: words(1) if asked.results else calling, budgets=budgets_of(BudgetOptions(most))
            ) as served:
                answer = await served.ask("abc")
                opened = served.transport.opened
            if answer.status == 200 and "done" in answer.frames[-1]:
                assert opened == 2
                break
            code = answer.error["code"] if answer.status != 200 else answer.frames[-1]["error"]["code"]
            assert code == "BUDGET_EXCEEDED"
        else:
            pytest.fail("no budget was enough")
        assert opened == 2

    virtually(test)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_provider_is_told_how_much_is_left(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = record_bodies(monkeypatch)
    name = {"openai_chat": "max_tokens", "openai_responses": "max_output_tokens", "anthropic": "max_tokens"}[dialect]

    async def test() -> None:
        async with stack(lambda _: words(2), dialect=dialect, budgets=budgets_of(BudgetOptions(100))) as served:
            await served.ask("abc")
            await served.ask("abc", max_output_tokens=5)
            await served.ask("abc", max_output_tokens=5_000)
        async with stack(lambda _: words(2), dialect=dialect, budgets=budgets_of(BudgetOptions(1_000_000))) as served:
            await served.ask("abc")

    virtually(test)
    untold = 4096 if dialect == "anthropic" else None
    assert [body.get(name) for body in bodies] == [99, 5, 99, untold]


@LINKS
def test_many_at_once_spend_no_more_than_a_read_each_beyond_the_budget_of_their_key(socket: bool) -> None:
    clients, most = 20, 250

    async def test() -> None:
        ledger = MemoryLedger()
        budgets = Budgets(LimitOptions(key_budget=BudgetOptions(most)))
        async with stack(lambda _: words(), ledger=ledger, socket=socket, budgets=budgets) as served:
            async with trio.open_nursery() as nursery:
                for _ in range(clients):
                    nursery.start_soon(served.ask, "abc")
            late = await served.ask("abc")
            opened = served.transport.opened
        spent = sum(each.usage.input_tokens + each.usage.output_tokens for each in ledger.settlements)
        assert most < spent <= most + clients
        assert (late.status, late.error["code"], late.error["retryable"]) == (402, "BUDGET_EXCEEDED", True)
        assert int(late.header("Retry-After") or 0) <= DAY
        assert opened == clients

    over(socket, test)


@LINKS
def test_keys_have_their_own_budgets(socket: bool, tmp_path: Path) -> None:
    async def test() -> None:
        file = KeyFile(tmp_path / f"keys-{socket}.json")
        poor, poor_text = make_key("poor", 0.0, Grants(day_budget=BudgetOptions(5)))
        rich, rich_text = make_key("rich", 0.0, Grants(day_budget=BudgetOptions(500)))
        for key in (poor, rich):
            file.add(key)
        ledger = MemoryLedger()
        access = KeyRing(tmp_path / f"keys-{socket}.json")
        async with stack(lambda _: words(), ledger=ledger, socket=socket, access=access) as served:

            async def ask(text: str) -> str:
                body = b'{"messages": [{"role": "user", "content": "abc"}]}'
                headers = {**JSON, "Authorization": f"Bearer {text}"}
                answer = await (await served.open("POST", "/chat", body, headers)).answer()
                return "402" if answer.status == 402 else next(iter(answer.frames[-1]))

            assert [await ask(poor_text), await ask(poor_text)] == ["error", "402"]
            assert [await ask(rich_text), await ask(rich_text)] == ["done", "done"]
        assert {each.key for each in ledger.settlements} == {poor.id, rich.id}

    over(socket, test)


def test_a_service_that_starts_again_knows_what_today_has_cost(tmp_path: Path) -> None:
    options, limits = SpoolOptions(tmp_path), LimitOptions(key_budget=BudgetOptions(100), day_budget=BudgetOptions(500))

    def spend(spool: Spool, key: str, tokens: int, number: int) -> None:
        spool.intend(Intent(f"r{number}", key, "m", 1, key))
        spool.settle(Settlement(f"r{number}", key, "m", 1, Usage(tokens), Source.PROVIDER, "stop", 0.5, key, 2.0))

    for at in (NOON - DAY, NOON):
        spool = Spool(options, lambda at=at: at)  # type: ignore[misc]  # mypy sees no default in a lambda
        spend(spool, "a", 99, int(at))
        spend(spool, "b", 40, int(at) + 1)
        spool.close()
    budgets = Budgets(limits, lambda: NOON + 60)
    Spool(options, lambda: NOON + 60, budgets.restore).close()

    def left(key: str) -> float:
        budget = budgets.for_run(Caller(key, key=key), route())
        assert budget is not None
        return budget.room().tokens

    assert [left("a"), left("b"), left("c")] == [1, 60, 100]
    assert budgets._today.room(NOON + 60).tokens == 500 - 139


def test_no_time_is_charged_while_nobody_runs() -> None:
    now = NOON
    budgets = Budgets(LimitOptions(day_budget=BudgetOptions(seconds=10)), lambda: now)
    for _ in range(3):
        budget = budgets.for_run(Caller("a"), route())
        assert budget is not None
        budget.begin()
        now += 3
        assert budget.charge(0, 0) is None
        budget.end(0, 0)
        now += 1_000
    budget = budgets.for_run(Caller("a"), route())
    assert budget is not None
    assert budget.room().seconds == pytest.approx(1)


def test_a_slow_reader_is_not_charged_twice() -> None:
    """What is charged depends on what the provider said, not on how often somebody looked."""

    async def test() -> None:
        run = RunOptions(log_room=64)
        budgets = Budgets(LimitOptions(key_budget=BudgetOptions(1_000)))
        async with stack(lambda _: [*words(), Pause(1), *words(1)], tools=demo, run=run, budgets=budgets) as served:
            exchange = await served.chat("abc", buffer=0)
            while await exchange.next() is not None:  # noqa: ASYNC110 - it is slow
                await trio.sleep(0.5)
            key = budgets._keys[""]
        assert key.room(budgets._now()).tokens == 1_000 - served_tokens(exchange.writes)

    virtually(test)


def served_tokens(writes: list[bytes]) -> int:
    usage = read_frames(b"".join(writes))[-1]["usage"]
    return int(usage["input_tokens"] + usage["output_tokens"])
