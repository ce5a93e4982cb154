"""1,000 runs that end in every way, in processes that are stopped and killed: spool, log, metrics, the provider's own
books and what clients were told agree, run for run and in all.
"""

import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import h11
import msgspec
import pytest
import trio

from sluicegate.machine.deltas import Usage
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.usage import add_usage
from sluicegate.runtime.ledger import Intent, Settlement, Source
from sluicegate.runtime.spool_files import read_segment, segment_numbers
from sluicegate.runtime.spool_reader import audit_spool, read_spool
from sluicegate.service.access import Grants
from sluicegate.service.budgets import DAY
from sluicegate.service.keys import NewKey
from sluicegate.service.options import BudgetOptions
from tests.load.journeys import ENDINGS, STOP, Ending, Player
from tests.load.process import PATIENCE, Process, ask, make_keys, running
from tests.load.provider import BASE, Last, Plan, Provider, running_provider
from tests.service.test_metrics import Scraped
from tests.sockets.caller import Caller, calling

pytestmark = [pytest.mark.sweep, pytest.mark.sockets]

SEED = 5
AT_ONCE = 100  # runs side by side
ROUNDS = 9  # of all endings, in each process that lives long
HELD = 8  # runs that are under way when a process ends
BUSY = 150  # runs in the process that is killed in the midst of them
FLOOR = 1_000
LEFT = 1_500  # tokens of a budget that are left when a process starts; less than what is capped anyway
# Dollars for a million tokens: input, output, cached, written to the cache; by the provider's name of the model.
PRICES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "plain-1": ("1.25", "10", "0.125", "1.5"),
    "spare-1": ("0.4", "1.6", "0.1", "0.4"),
    "claude-1": ("3", "15", "0.3", "3.75"),
}
FIRST: Final = {"plain": "plain-1", "pair": "plain-1", "claude": "claude-1", "free": "free-1"}
HOLDING: Final = Ending(STOP, Plan(0, last=Last.HELD))
OF_OTHERS: Final = Ending(STOP, Plan(0, last=Last.HELD), key="other")
NAMES: Final = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
LOST: Final = (trio.BrokenResourceError, h11.RemoteProtocolError, OSError)  # what clients of a killed process see

GRANTS: Final = {
    "usual": Grants(),
    "other": Grants(day_budget=BudgetOptions(tokens=1_000_000_000)),
    "poor": Grants(run_budget=BudgetOptions(tokens=3_000)),
    "broke": Grants(day_budget=BudgetOptions(tokens=1)),
}


class Rig(NamedTuple):
    """Where the processes of one test live, one after another."""

    directory: Path
    provider: Provider
    player: Player
    keys: Mapping[str, NewKey]

    @property
    def spool(self) -> Path:
        return self.directory / "usage"

    def config(self, limits: str = "") -> Path:
        """Write the settings of the next process."""
        file = self.directory / "sluicegate.toml"
        file.write_text(
            f"""
            [access]
            keys = "{self.directory / "keys.json"}"
            [spool]
            directory = "{self.spool}"
            [log]
            format = "json"
            [run]
            max_lateness_seconds = inf
            first_delta_seconds = 6
            stall_seconds = 6
            grace_seconds = 4
            [service]
            hold_seconds = 0.5
            drain_seconds = 60
            [upstream]
            max_retries = 1
            {_provider("main", "openai_chat", f"http://127.0.0.1:{self.provider.port}/v1", "plain-1")}
            {_provider("spare", "openai_chat", f"http://127.0.0.1:{self.provider.port}/v1", "spare-1")}
            {_provider("claude", "anthropic", f"http://127.0.0.1:{self.provider.port}", "claude-1")}
            {_provider("gratis", "openai_chat", f"http://127.0.0.1:{self.provider.port}/v1", None)}
            [models.plain]
            use = ["main:plain-1"]
            [models.pair]
            use = ["main:plain-1", "spare:spare-1"]
            [models.claude]
            use = ["claude:claude-1"]
            [models.free]
            use = ["gratis:free-1"]
            {limits}
            """
        )
        return file

    def settled(self) -> list[Settlement]:
        """All settlements so far, in order."""
        return list(read_spool(self.spool)) if self.spool.exists() else []

    def intents(self) -> dict[str, Intent]:
        """All intents so far, by run id."""
        lines = [line for number in segment_numbers(self.spool) for line in read_segment(self.spool, number)]
        return {line.run_id: line for line in lines if isinstance(line, Intent)}


def _provider(name: str, dialect: str, url: str, model: str | None) -> str:
    table = f"""
            [providers.{name}]
            dialect = "{dialect}"
            base_url = "{url}"
            gate.set_aside_after = 1_000_000
            """
    if model is None:
        return table
    price = zip(("input", "output", "cached", "cache_write"), PRICES[model], strict=True)
    return table + f'prices."{model}" = {{ {", ".join(f"{kind} = {rate}" for kind, rate in price)} }}'


# -- the books, made anew ----------------------------------------------------------------------------------------------


def cost_of(usage: Usage, model: str) -> Decimal:
    """What the tokens cost by the price list, exactly. OpenAI's `input_tokens` hold those of the cache."""
    full, output, cached, written = (Decimal(rate) for rate in PRICES[model])
    plain = usage.input_tokens
    if not model.startswith("claude"):
        plain -= usage.cached_tokens + usage.cache_write_tokens
    dollars = plain * full + usage.cached_tokens * cached + usage.cache_write_tokens * written
    return (dollars + usage.output_tokens * output) / 1_000_000


def check_cost(settlement: Settlement, asked: list[str]) -> None:
    """Its cost is its usage by the price list of the model that was asked last, None where there is none."""
    if settlement.usage == Usage():
        assert settlement.cost == 0.0, settlement
    elif asked[-1] in PRICES:
        assert settlement.cost is not None, settlement
        assert math.isclose(settlement.cost, cost_of(settlement.usage, asked[-1]), rel_tol=1e-12), settlement
    else:
        assert settlement.cost is None, settlement


def check_line(line: Mapping[str, Any], settlement: Settlement) -> None:
    """The log says of a run what the spool says."""
    usage = settlement.usage
    expected = {
        "run_id": settlement.run_id,
        "model": settlement.model,
        "outcome": settlement.outcome,
        "steps": settlement.steps,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "cost": settlement.cost,
        "estimated": usage.estimated,
        "owner": settlement.owner,
        "key": settlement.key,
    }
    absent = {"cached_tokens": 0, "cost": None, "estimated": False}
    assert {name: line.get(name, absent.get(name)) for name in expected} == expected
    assert line["seconds"] == pytest.approx(settlement.seconds, abs=1e-3)


def check_metrics(found: Scraped, settlements: Iterable[Settlement], begun: int) -> None:
    """The counters are the sums over the spool: counts and tokens exactly, dollars but for the order of summing."""
    ended, tokens, unpriced = Counter[tuple[str, ...]](), Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    errors, costs = Counter[tuple[str, ...]](), dict[str, list[float]]()
    for each in settlements:
        ended[each.outcome, each.model] += 1
        errors[(each.outcome,)] += each.outcome.isupper()
        for name in NAMES:
            tokens[name.removesuffix("_tokens"), each.model] += getattr(each.usage, name)
        if each.cost is None:
            unpriced[(each.model,)] += 1
        else:
            costs.setdefault(each.model, []).append(each.cost)
    assert found.value("sluicegate_runs_started_total") == begun
    assert found.values("sluicegate_runs_ended_total", "outcome", "model") == ended
    assert found.values("sluicegate_run_errors_total", "code") == +errors
    assert found.values("sluicegate_tokens_total", "kind", "model") == +tokens
    assert found.values("sluicegate_unpriced_runs_total", "model") == unpriced
    dollars = found.values("sluicegate_cost_dollars_total", "model")
    assert dollars.keys() == {(model,) for model, each in costs.items() if any(each)}
    for (model,), sum_ in dollars.items():
        assert math.isclose(sum_, math.fsum(costs[model]), rel_tol=1e-9)


# -- the life of a process ---------------------------------------------------------------------------------------------


class Chapter:
    """One process and what is known of its runs: `before` settlements are those of others, `begun` its runs so far."""

    def __init__(self, rig: Rig, process: Process) -> None:
        self.rig = rig
        self.process = process
        self.before = len(rig.settled())
        self.begun = 0
        rig.player.port = process.port

    def own(self) -> list[Settlement]:
        """What it has settled itself so far."""
        return self.rig.settled()[self.before :]

    async def play_all(self, draw: Random) -> None:
        """Play all endings, ROUNDS times, many side by side, and wait until all have ended."""
        names = [*ENDINGS] * ROUNDS
        draw.shuffle(names)
        await _side_by_side([(self.rig.player.play, name) for name in names])
        self.begun += len(names)
        await self.process.wait_ended(len(names))

    async def hold(self, kept: AsyncExitStack) -> list[tuple[Caller, Plan]]:
        """Start runs that do not end by themselves."""
        self.begun += HELD
        callers = [await kept.enter_async_context(calling(self.process.port)) for _ in range(HELD)]
        return [(caller, await self.rig.player.hold(caller, HOLDING)) for caller in callers]

    def expect(self, plan: Plan, outcome: str) -> None:
        """Note how a run that was held is to end."""
        played = self.rig.player.played[plan.number]
        self.rig.player.played[plan.number] = played._replace(ending=played.ending._replace(outcome=outcome))

    async def reconcile(self) -> None:
        """At a moment in which no run ends: spool, log and metrics agree."""
        own = self.own()
        self.check_lines(own)
        check_metrics(await self.process.scrape(self.rig.keys["usual"].text), own, self.begun)

    def check_lines(self, own: list[Settlement]) -> None:
        """The log has a line for each of these, and no other."""
        assert self.process.ended.keys() == {each.run_id for each in own}
        for each in own:
            check_line(self.process.ended[each.run_id], each)
        assert not any("Traceback" in line or '"exception"' in line for line in self.process.others)


async def _side_by_side(calls: list[tuple[Callable[..., Any], Any]]) -> None:
    places = trio.CapacityLimiter(AT_ONCE)

    async def one(function: Callable[..., Any], argument: Any) -> None:
        async with places:
            await function(argument)

    async with trio.open_nursery() as nursery:
        for function, argument in calls:
            nursery.start_soon(one, function, argument)


async def live_and_drain(rig: Rig, draw: Random) -> None:
    """A process that is told to stop: half of what is under way ends by itself, the rest with a second signal."""
    async with running(rig.config()) as process, AsyncExitStack() as kept:
        chapter = Chapter(rig, process)
        await chapter.play_all(draw)
        held = await chapter.hold(kept)
        await chapter.reconcile()
        process.send(signal.SIGTERM)
        await process.wait_draining()
        refused = await ask(process.port, "POST", "/chat", Plan(0).body(), rig.keys["usual"].text)
        assert (refused.status, ErrorCode.SHUTTING_DOWN in refused.body.decode()) == (503, True)
        for caller, plan in held[::2]:
            rig.provider.books[plan.number].is_released.set()
            assert b'"done":true' in (await caller.hear_all()).body
        await process.wait_ended(chapter.begun - len(held[1::2]))
        await chapter.reconcile()
        process.send(signal.SIGTERM)
        for caller, plan in held[1::2]:
            chapter.expect(plan, ErrorCode.SHUTTING_DOWN)
            assert ErrorCode.SHUTTING_DOWN.encode() in (await caller.hear_all()).body
        assert await process.wait() == 0
        assert len(chapter.own()) == chapter.begun
        chapter.check_lines(chapter.own())


async def live_and_be_killed(rig: Rig, draw: Random) -> None:
    """A process that is killed while runs are under way, and nothing else."""
    async with running(rig.config()) as process, AsyncExitStack() as kept:
        chapter = Chapter(rig, process)
        await chapter.play_all(draw)
        held = await chapter.hold(kept)
        await chapter.reconcile()
        process.send(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        for _, plan in held:
            chapter.expect(plan, ErrorCode.REPLICA_LOST)
        chapter.check_lines(chapter.own())


async def be_killed_in_the_midst(rig: Rig, draw: Random) -> set[int]:
    """A process that is killed while runs begin, go on and end; return their numbers."""
    first = len(rig.player.played)
    names = draw.choices(
        ("finished", "finished behind tools", "finished, another dialect", "finished, no price"), k=BUSY
    )
    async with running(rig.config()) as process, trio.open_nursery() as nursery:
        chapter = Chapter(rig, process)

        async def play(name: str) -> None:
            with suppress(*LOST):
                await rig.player.play(name)

        nursery.start_soon(_side_by_side, [(play, name) for name in names])
        await process.wait_ended(BUSY // 4)
        process.send(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        own = {each.run_id: each for each in chapter.own()}
        assert process.ended.keys() <= own.keys(), "the log has the end of a run that the spool has not"
        for run_id, line in process.ended.items():
            check_line(line, own[run_id])
    return set(range(first, len(rig.player.played)))


# -- budgets of a day, in a process that starts ------------------------------------------------------------------------


class Spent(NamedTuple):
    """What a run counts for, in the day that it ended in."""

    key: str
    tokens: int
    dollars: float


def spent_today(rig: Rig) -> list[Spent]:
    """What the spool says that today has cost, with what a killed process left to be settled by its estimates."""
    now = time.time()
    settled = rig.settled()
    spent = [
        Spent(each.key, each.usage.input_tokens + each.usage.output_tokens, each.cost or 0.0)
        for each in settled
        if each.at >= now - now % DAY
    ]
    left = rig.intents()
    for each in settled:
        del left[each.run_id]
    return spent + [Spent(intent.key, intent.prompt_tokens, intent.cost or 0.0) for intent in left.values()]


async def check_restored(rig: Rig, name: str, unit: str, ending: Ending) -> None:
    """A process whose budget `name` in `unit` is what is spent today and some more has just that: its first run may
    have as many tokens as are left.
    """
    key = rig.keys[ending.key].key.id
    spent = [each for each in spent_today(rig) if name == "day_budget" or each.key == key]
    prompt = Usage(BASE + len(rig.player.played))
    if unit == "tokens":
        limit = str(sum(each.tokens for each in spent) + prompt.input_tokens + LEFT)
    else:
        half = Decimal(PRICES["plain-1"][1]) / 2_000_000  # of a token, since nobody rounds dollars
        more = cost_of(msgspec.structs.replace(prompt, output_tokens=LEFT), "plain-1") + half
        limit = repr(math.fsum(each.dollars for each in spent) + float(more))
    async with running(rig.config(f"[limits.{name}]\n{unit} = {limit}")) as process, calling(process.port) as caller:
        chapter = Chapter(rig, process)
        plan = await rig.player.hold(caller, ending)
        chapter.begun += 1
        assert rig.provider.books[plan.number].max_tokens == LEFT, (name, unit)
        rig.provider.books[plan.number].is_released.set()
        await caller.hear_all()
        await process.wait_ended(1)
        await chapter.reconcile()
        process.send(signal.SIGTERM)
        assert await process.wait() == 0


# -- all of it ---------------------------------------------------------------------------------------------------------


def check_run(settlement: Settlement, intent: Intent, rig: Rig, busy: set[int]) -> None:
    """One run: what the spool has of it is what was asked for, what the provider told and what its client saw."""
    number = intent.prompt_tokens - BASE
    plan, ending = rig.player.played[number]
    books = rig.provider.books[number]
    if number in busy:
        assert settlement.outcome in (STOP, ErrorCode.REPLICA_LOST)
    else:
        assert settlement.outcome == ending.outcome, (plan, settlement)
    key = rig.keys[ending.key].key
    assert (settlement.model, settlement.owner, settlement.key) == (ending.model, key.owner, key.id)
    assert (intent.model, intent.owner, intent.key) == (ending.model, key.owner, key.id)
    assert settlement.source is Source.of(settlement.usage)
    usage = settlement.usage
    if settlement.outcome == ErrorCode.REPLICA_LOST:
        assert usage == Usage(plan.prompt_tokens, estimated=True)
    elif settlement.outcome == STOP and plan.last is not Last.UNTOLD:
        told = Usage()
        for each in books.told:
            told = add_usage(told, each)
        assert usage == told, (plan, settlement)
    elif plan.last is Last.UNTOLD:
        assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (plan.prompt_tokens, plan.words, True)
    is_lost = settlement.outcome == ErrorCode.REPLICA_LOST  # then who was to be asked first is all that is known
    check_cost(settlement, [FIRST[ending.model]] if is_lost else books.models)


async def live(directory: Path, draw: Random, keys: Mapping[str, NewKey]) -> tuple[Rig, set[int]]:
    """Let processes live, one after another; return the numbers of those runs in whose midst one was killed."""
    async with running_provider() as provider:
        player = Player(provider, {owner: made.text for owner, made in keys.items()})
        rig = Rig(directory, provider, player, keys)
        await live_and_drain(rig, draw)
        await check_restored(rig, "day_budget", "dollars", OF_OTHERS)
        await live_and_be_killed(rig, draw)
        await check_restored(rig, "key_budget", "tokens", HOLDING)
        busy = await be_killed_in_the_midst(rig, draw)
        await check_restored(rig, "key_budget", "dollars", HOLDING)
        await live_and_drain(rig, draw)
        await check_restored(rig, "day_budget", "tokens", OF_OTHERS)
    return rig, busy


async def test_spool_log_metrics_provider_and_clients_agree(tmp_path: Path, note: Callable[[str], None]) -> None:
    draw = Random(SEED)
    keys = make_keys(tmp_path / "keys.json", GRANTS)
    with trio.fail_after(5 * PATIENCE):
        rig, busy = await live(tmp_path, draw, keys)

    audit = audit_spool(rig.spool)
    assert audit.intents == audit.settlements >= FLOOR
    assert (audit.orphans, audit.repeats, audit.damaged, audit.unknown) == (0, 0, 0, 0)
    intents, settlements, player = rig.intents(), rig.settled(), rig.player
    for each in settlements:
        check_run(each, intents[each.run_id], rig, busy)

    numbers = {run_id: intent.prompt_tokens - BASE for run_id, intent in intents.items()}
    assert len(set(numbers.values())) == len(numbers), "a run has two ids"
    assert player.played.keys() - busy <= set(numbers.values()) <= player.played.keys()
    assert {number for number, books in rig.provider.books.items() if books.models} <= set(numbers.values())
    assert all(numbers[run_id] == number for number, run_id in player.ids.items()), "an id that nobody settles"
    assert all(player.seen[name] >= 3 * ROUNDS for name in ENDINGS)
    outcomes = Counter(each.outcome for each in settlements)
    assert outcomes[ErrorCode.REPLICA_LOST] >= HELD
    note(f"reconciled: {len(settlements)} runs, {len(player.ids)} ids seen, {dict(outcomes)}")
