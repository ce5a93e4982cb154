"""Metrics say what the ledger and the records say, whatever became of runs; no label tells of anybody."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.openmetrics.exposition import generate_latest as encode_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from sluicegate.machine.deltas import UsageDelta
from sluicegate.machine.price import Price
from sluicegate.providers.gate import GateOptions
from sluicegate.providers.script import Call, Cut, Fail, Pause, Reply, Say, Stall, Status, Unreachable
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.admission import Gate
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.ledger import MemoryLedger, Settlement
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.record import PAUSES, CallOutcome
from sluicegate.runtime.spool import Spool, SpoolOptions
from sluicegate.server.options import ServerOptions
from sluicegate.service.families import OTHER, Histogram, Names, buckets
from sluicegate.service.families import Counter as Counted
from sluicegate.service.key_file import KeyRing
from sluicegate.service.limits import Limits
from sluicegate.service.metrics import OPEN_METRICS, TEXT, UNKNOWN, Metrics
from sluicegate.service.options import LimitOptions, MetricsAccess, Rates, ServiceOptions
from sluicegate.tools import ToolError
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry

from .harness import JSON, LINKS, SocketExchange, Stack, over, stack, virtually
from .test_access import added

CANARY = "canary-5d41402abc4b2a76"
# What Prometheus 2 and 3 ask for.
PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
MODELS = ("scripted-demo", "dear", "unpriced")
PRICES = {"scripted-demo": Price(1, 2, 0.5, 1.5), "dear": Price(1000, 2000, 500, 1500)}
TALK = Say("one two three four")
USAGE = UsageDelta(100, 20, 30, 10, 5)
SCRIPTS: Mapping[str, list[Reply]] = {
    "finished": [[TALK]],
    "cached": [[TALK, USAGE]],
    "tools": [[Call("quick"), Call("failing"), Call("missing" + CANARY)], [TALK]],
    "refused": [[Status(429, {"retry-after": "100"})]],
    "unreachable": [[Unreachable()]],
    "failed": [[TALK, Fail()]],
    "cut": [[TALK, Cut()]],
    "text": [[TALK, Pause(0.01), Say("five"), Stall()]],
    "held": [[Call("hold")]],
}
HELD = ("text", "held")


def brain(asked: ScriptedRequest) -> Reply:
    script = SCRIPTS[asked.question.partition(" ")[0]]
    return script[1 if asked.results else 0]


def tools() -> Registry:
    @tool
    async def quick() -> str:
        """Answer."""
        await trio.lowlevel.checkpoint()
        return "done"

    @tool
    async def failing() -> str:
        """Fail."""
        await trio.lowlevel.checkpoint()
        raise ToolError("no")

    @tool(timeout=3600)
    async def hold() -> str:
        """Wait for ever."""
        await trio.sleep_forever()
        return ""

    return Registry([quick, failing, hold])


class Kept:
    """Keeps every run."""

    def __init__(self) -> None:
        self.begun = 0
        self.drivers: list[Driver] = []

    def started(self, _driver: Driver) -> None:
        self.begun += 1

    def ended(self, driver: Driver) -> None:
        self.drivers.append(driver)


class Scraped(NamedTuple):
    """What one scrape says."""

    text: str
    families: list[Metric]

    def values(self, name: str, *labels: str) -> Counter[tuple[str, ...]]:
        """Return the samples of that name by the values of `labels`, those that are not 0."""
        found: Counter[tuple[str, ...]] = Counter()
        for family in self.families:
            for sample in family.samples:
                if sample.name == name and sample.value:
                    assert sorted(labels) == sorted(sample.labels)
                    found[tuple(sample.labels[label] for label in labels)] = sample.value  # type: ignore[assignment]
        return found

    def value(self, name: str) -> float:
        return self.values(name)[()]


async def scrape(up: Stack, accept: str = "", key: str = "") -> Scraped:
    headers = {"Accept": accept, **({"Authorization": f"Bearer {key}"} if key else {})}
    answer = await (await up.open("GET", "/metrics", headers=headers)).answer()
    assert answer.status == 200, answer.body
    is_open = answer.header("Content-Type") == OPEN_METRICS
    assert answer.header("Content-Type") == (OPEN_METRICS if "openmetrics" in accept else TEXT)
    parse = openmetrics.text_string_to_metric_families if is_open else text_string_to_metric_families
    text = answer.body.decode()
    return Scraped(text, list(parse(text)))


async def play(up: Stack, script: str, model: str, leaves: bool) -> None:
    """One run, to its end. Where the script holds it up, its client leaves or another one stops it."""
    exchange = await up.chat(f"{script} {CANARY}", model=model)
    if script not in HELD:
        await exchange.answer()
        return
    await exchange.until(b"five" if script == "text" else b"hold")
    run_id = exchange.run_id
    if leaves:
        await exchange.leave()
    else:
        await up.delete(run_id)
        await exchange.answer()


def told(settlements: Iterable[Settlement]) -> dict[str, Counter[tuple[str, ...]]]:
    """What the ledger says, by the names of metrics."""
    ended, tokens, unpriced = Counter[tuple[str, ...]](), Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for each in settlements:
        ended[each.outcome, each.model] += 1
        unpriced[(each.model,)] += each.cost is None
        for kind in ("input", "output", "cached", "cache_write", "reasoning"):
            tokens[kind, each.model] += getattr(each.usage, f"{kind}_tokens")
    return {"ended": ended, "tokens": +tokens, "unpriced": +unpriced}


@LINKS
@pytest.mark.parametrize("accept", ["", PROMETHEUS], ids=["text", "openmetrics"])
def test_metrics_are_what_ledger_and_records_say(socket: bool, accept: str) -> None:
    """Runs of every ending and three models, side by side."""

    async def main() -> None:
        ledger, kept, draw = MemoryLedger(), Kept(), Random(0)
        plays = [(script, model, draw.random() < 0.5) for script in SCRIPTS for model in MODELS for _ in range(2)]
        draw.shuffle(plays)
        options = RunOptions(max_lateness_seconds=math.inf)
        async with stack(
            brain, socket=socket, tools=tools(), run=options, ledger=ledger, observers=[kept], prices=PRICES, retries=1
        ) as up:
            for number in range(0, len(plays), 9):
                async with trio.open_nursery() as nursery:
                    for each in plays[number : number + 9]:
                        nursery.start_soon(play, up, *each)
                await up.service.runs.wait_none()
            found = await scrape(up, accept)
        assert kept.begun == len(kept.drivers) == len(ledger.settlements) == len(plays) == 54
        said = told(ledger.settlements)
        assert found.value("sluicegate_runs_started_total") == 54
        assert found.values("sluicegate_runs_ended_total", "outcome", "model") == said["ended"]
        codes = Counter((code,) for code, _ in said["ended"].elements() if code.isupper())
        assert found.values("sluicegate_run_errors_total", "code") == codes
        assert {code for (code,) in codes} == {"CANCELLED", "UPSTREAM_ERROR", "RATE_LIMITED"}
        assert found.values("sluicegate_tokens_total", "kind", "model") == said["tokens"]
        assert {kind for kind, _ in said["tokens"]} == {"input", "output", "cached", "cache_write", "reasoning"}
        assert found.values("sluicegate_unpriced_runs_total", "model") == said["unpriced"]
        for model in PRICES:
            cost = sum(each.cost or 0.0 for each in ledger.settlements if each.model == model)
            assert found.values("sluicegate_cost_dollars_total", "model")[(model,)] == pytest.approx(cost)
            assert cost > 0
        check_records(found, kept.drivers)
        assert CANARY not in found.text
        assert not any(driver.run.run_id in found.text for driver in kept.drivers)

    over(socket, main)


def check_records(found: Scraped, drivers: list[Driver]) -> None:
    """Times, tools and attempts are those of the records."""
    records = [driver.record for driver in drivers]
    for model in MODELS:
        mine = [driver.record for driver in drivers if driver.run.model == model]
        words = [record.first_word - record.began for record in mine if record.first_word is not None]
        assert found.values("sluicegate_first_word_seconds_count", "model")[(model,)] == len(words)
        assert found.values("sluicegate_first_word_seconds_sum", "model")[(model,)] == pytest.approx(sum(words))
    assert found.value("sluicegate_run_seconds_count") == len(records)
    whole = sum((record.ended or 0.0) - record.began for record in records)
    assert found.value("sluicegate_run_seconds_sum") == pytest.approx(whole)
    stopped = found.values("sluicegate_run_errors_total", "code")[("CANCELLED",)]
    assert found.value("sluicegate_cut_off_seconds_count") == stopped > 0
    pauses = [sum(record.pauses[at] for record in records) for at in range(len(PAUSES))]
    told_pauses = found.values("sluicegate_token_pause_seconds_bucket", "le")
    assert {float(bound): count for (bound,), count in told_pauses.items()} == {
        bound: sum(pauses[: at + 1]) for at, bound in enumerate(PAUSES) if sum(pauses[: at + 1])
    }
    assert sum(pauses) > 0
    calls = [
        (call.name if "missing" not in call.name else UNKNOWN, call) for record in records for call in record.tools
    ]
    outcomes = Counter((name, call.outcome) for name, call in calls)
    assert found.values("sluicegate_tool_calls_total", "tool", "outcome") == outcomes
    assert {outcome for _, outcome in outcomes} == set(CallOutcome)
    timed = Counter((name,) for name, call in calls if call.ended is not None)
    assert found.values("sluicegate_tool_seconds_count", "tool") == timed
    attempts = [attempt for record in records for step in record.steps for attempt in step.attempts]
    assert found.values("sluicegate_provider_attempts_total", "provider", "outcome") == Counter(
        ("scripted", "ok" if attempt.error is None else attempt.error.code) for attempt in attempts
    )
    steps = sum(len(record.steps) for record in records)
    assert found.values("sluicegate_provider_retries_total", "provider") == {("scripted",): len(attempts) - steps}
    assert len(attempts) > steps


def test_who_answers_for_another_and_who_is_set_aside() -> None:
    """Retries ask the same one again, fallbacks another; a run that ends first has cancelled its attempt."""
    down: Reply = [Unreachable()]

    async def main() -> None:
        silent = [[Stall()]]
        gate = GateOptions(set_aside_after=4)
        async with stack(
            [down, down, *silent], others=[[down, [TALK]]], retries=1, gate=gate, run=RunOptions(first_delta_seconds=5)
        ) as up:
            await up.ask()
            assert (await scrape(up)).values("sluicegate_provider_set_aside", "provider") == {}
            found = await scrape(up)
            assert found.values("sluicegate_provider_attempts_total", "provider", "outcome") == {
                ("scripted", "UPSTREAM_ERROR"): 2,
                ("other-1", "UPSTREAM_ERROR"): 1,
                ("other-1", "ok"): 1,
            }
            assert found.values("sluicegate_provider_retries_total", "provider") == {("scripted",): 1, ("other-1",): 1}
            assert found.values("sluicegate_provider_fallbacks_total", "provider") == {("other-1",): 1}
            await up.ask()
            found = await scrape(up)
            assert (
                found.values("sluicegate_provider_attempts_total", "provider", "outcome")["scripted", "cancelled"] == 1
            )
            for _ in range(4):
                up.service.models.gates[0].note_failure(trio.current_time())
            assert (await scrape(up)).values("sluicegate_provider_set_aside", "provider") == {("scripted",): 1}

    virtually(main)


@LINKS
def test_gauges_tell_what_there_is(socket: bool, tmp_path: Path) -> None:
    async def main() -> None:
        spool = Spool(SpoolOptions(tmp_path / "spool"))
        async with stack(brain, socket=socket, tools=tools(), ledger=spool) as up:
            text, held = await up.chat("text"), await up.chat("held")
            await text.until(b"five")
            await held.until(b"hold")
            other = await up.open("GET", f"/runs/{text.run_id}/events")
            await other.until(b"five")
            found = await scrape(up)
            assert found.values("sluicegate_runs_active", "phase") == {("streaming",): 1, ("tools",): 1}
            assert found.value("sluicegate_streams_active") == 3
            assert found.value("sluicegate_spool_open_runs") == 2
            assert found.value("sluicegate_cpu_seconds_total") > 0
            assert found.value("sluicegate_shedding") == 0
            spool.failures, spool.lost = 7, 3
            up.service.runs.admission.gate = Gate.SHEDDING
            up.service.stop_runs()
            for each in (text, held, other):
                await each.answer()
            await up.service.runs.wait_none()
            found = await scrape(up)
            assert not found.values("sluicegate_runs_active", "phase")
            assert up.service.metrics is not None
            assert up.service.metrics.live == set()
            assert found.value("sluicegate_shedding") == 1
            assert (found.value("sluicegate_streams_active"), found.value("sluicegate_spool_open_runs")) == (0, 0)
            assert found.value("sluicegate_spool_failures_total") == 7
            assert found.value("sluicegate_spool_lost_runs_total") == 3
            assert found.value("sluicegate_max_runs") == RunOptions().max_runs
        spool.close()

    over(socket, main)


@LINKS
def test_what_is_refused_is_counted_by_status_and_code(socket: bool, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = added(path, owner=CANARY)

    async def main() -> None:
        limits = Limits(LimitOptions(key=Rates(requests_per_minute=1)))
        run = RunOptions(max_runs=1)
        async with stack(brain, socket=socket, access=KeyRing(path), limits=limits, run=run) as up:

            async def ask(data: bytes, text: str) -> int:
                headers = {**JSON, "Authorization": f"Bearer {text}"}
                return (await (await up.open("POST", "/chat", data, headers)).answer()).status

            body = msgspec.json.encode({"messages": [{"role": "user", "content": "finished"}]})
            assert [await ask(body, CANARY) for _ in range(3)] == [401] * 3
            assert await ask(body, key.text) == 200
            assert [await ask(body, key.text) for _ in range(2)] == [429] * 2
            assert await ask(b"{", key.text) == 400
            assert (await (await up.open("GET", f"/{CANARY}")).answer()).status == 404
            up.service.stop_runs()
            assert await ask(body, key.text) == 503
            found = await scrape(up, key=key.text)
            assert found.values("sluicegate_refusals_total", "status", "code") == {
                ("401", "UNAUTHORIZED"): 3,
                ("429", "RATE_LIMITED"): 2,
                ("400", "INVALID_REQUEST"): 1,
                ("404", "INVALID_REQUEST"): 1,
                ("503", "SHUTTING_DOWN"): 1,
            }
            assert not any(secret in found.text for secret in (CANARY, key.text, key.key.id))

    over(socket, main)


@LINKS
def test_who_finds_no_room_is_counted(socket: bool) -> None:
    async def main() -> None:
        async with stack(brain, socket=socket, run=RunOptions(max_runs=0)) as up:
            assert (await up.ask("finished")).status == 503
            found = await scrape(up)
            assert found.values("sluicegate_refusals_total", "status", "code") == {("503", "OVERLOADED"): 1}
            assert found.value("sluicegate_runs_started_total") == 0

    over(socket, main)


@pytest.mark.sockets
async def test_who_takes_too_little_is_counted() -> None:
    long: Reply = [Say("x" * 2_000_000, words=0)]
    body = msgspec.json.encode({"messages": [{"role": "user", "content": "Hi"}]})
    options = ServerOptions(port=0, write_seconds=0.3)
    with trio.fail_after(30):
        async with stack(lambda _: long, socket=True, server=options) as up:
            host, _, port = up.url.removeprefix("http://").rpartition(":")
            plain = trio.socket.socket()
            plain.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
            await plain.connect((host, int(port)))
            async with trio.SocketStream(plain) as stream:
                await SocketExchange(stream).ask("POST", "/chat", JSON, body)
                while not (await scrape(up)).value("sluicegate_evictions_total"):
                    pass
                await up.service.runs.wait_none()
            assert (await scrape(up)).value("sluicegate_evictions_total") == 1


@pytest.mark.parametrize("is_guarded", [False, True])
@pytest.mark.parametrize("who", MetricsAccess)
def test_who_may_read_them(who: MetricsAccess, is_guarded: bool, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = added(path)

    async def main() -> None:
        access = KeyRing(path) if is_guarded else None
        async with stack(brain, access=access, options=ServiceOptions(metrics=who)) as up:
            statuses = []
            for text in ("", "x", key.text):
                headers = {"Authorization": f"Bearer {text}"} if text else {}
                statuses.append((await (await up.open("GET", "/metrics", headers=headers)).answer()).status)
            match who:
                case MetricsAccess.OFF:
                    assert statuses == [404] * 3
                    assert up.service.metrics is None
                case MetricsAccess.KEY if is_guarded:
                    assert statuses == [401, 401, 200]
                case _:
                    assert statuses == [200] * 3

    virtually(main)


@given(st.lists(st.text() | st.sampled_from("abc"), max_size=300), st.sets(st.text(max_size=5), max_size=150))
def test_names_are_bounded(names: list[str], known: set[str]) -> None:
    """A hundred of them, beside those that are known before; who had a label of their own keeps it."""
    bounded = Names(known)
    labels = [bounded.label(name) for name in names]
    for name, label in zip(names, labels, strict=True):
        assert label in (name, OTHER)
        assert label == name or name not in known
        assert bounded.label(name) == label
    assert len({*labels} - known - {OTHER}) <= max(0, 100 - len(known))


def test_a_hundred_models_and_no_more() -> None:
    """Models that the service has a name for always have a label; what clients make up has one up to a number."""

    async def main() -> None:
        async with stack(brain) as up:
            await up.ask("finished", model="x" * 129)
            for number in range(120):
                await up.ask("finished", model=f"made-up-{number}")
            await up.ask("finished")
            found = (await scrape(up)).values("sluicegate_runs_ended_total", "outcome", "model")
            assert found["stop", OTHER] == 22
            assert found["stop", "scripted-demo"] == 1
            assert len(found) == 101
            assert max(len(model) for _, model in found) <= 128

    virtually(main)


class Fixed:
    """A collector of families with no, some and many samples."""

    def collect(self) -> list[Metric]:
        families: list[Metric] = []
        for count in (0, 1, 199, 200, 201, 1000):
            family = GaugeMetricFamily(f"of_{count}", "One\n# of them.", labels=["number"])
            for number in range(count):
                family.add_metric([f"{number}\n# {number}"], number)
            families.append(family)
        return families


@pytest.mark.parametrize("accept", ["", PROMETHEUS], ids=["text", "openmetrics"])
async def test_what_is_encoded_in_parts_is_the_same(accept: str) -> None:
    metrics = Metrics(["a"], ["b"], ["c"])
    metrics.registry.register(Fixed())
    encode = encode_openmetrics if accept else generate_latest
    assert (await metrics.exposition(accept))[0] == encode(metrics.registry)


def test_no_model_name_breaks_the_exposition() -> None:
    names = ['"', "\\", "a\nb", "\r", "\x00", "\u2028", "😀", "a\\", 'x"} 1', "# EOF", "\ud83d"]

    async def main() -> None:
        async with stack(brain) as up:
            taken = [name for name in names if await took(up, name)]
            assert len(taken) >= len(names) - 1
            for accept in ("", PROMETHEUS):
                found = (await scrape(up, accept)).values("sluicegate_runs_ended_total", "outcome", "model")
                assert {model for _, model in found} == set(taken)

    async def took(up: Stack, name: str) -> bool:
        data = b'{"messages":[{"role":"user","content":"finished"}],"model":%b}' % _ascii(name)
        return (await (await up.open("POST", "/chat", data, JSON)).answer()).status == 200

    virtually(main)


def _ascii(text: str) -> bytes:
    """JSON in ASCII, halves of surrogate pairs as they are."""
    return b'"' + "".join(f"\\u{unit:04x}" for unit in _units(text)).encode() + b'"'


def _units(text: str) -> list[int]:
    data = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0.001, 50), max_size=10, unique=True).map(sorted))
def test_a_histogram_is_what_was_observed(values: list[float], bounds: list[float]) -> None:
    histogram = Histogram("x", "X.", [*bounds, math.inf], ["of"])
    for value in values:
        histogram.observe(value, "this")
    samples = {(each.name, each.labels.get("le", "")): each.value for each in histogram.family().samples}
    if not values:
        assert samples == {}
        return
    for bound in bounds:
        assert samples["x_bucket", repr(bound)] == sum(value <= bound for value in values)
    assert samples["x_bucket", "+Inf"] == samples["x_count", ""] == len(values)
    assert samples["x_sum", ""] == pytest.approx(sum(values))


def test_what_is_known_is_there_before_anything_happens() -> None:
    assert [each.value for each in Counted("x_total", "X.").family().samples] == [0]
    assert [each.labels for each in Counted("x_total", "X.", ["of"], [("a",)]).family().samples] == [{"of": "a"}]
    assert not Counted("x_total", "X.", ["of"]).family().samples
    assert buckets((1.0, math.inf), (2, 3)) == [("1.0", 2), ("+Inf", 5)]
