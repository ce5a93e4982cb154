"""Limits under load, over real sockets, in a real process: not one request and not one run more than is allowed, and
none refused that was; a budget ends a stream with the read of its provider that is beyond it.
"""

import math
import select
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final, NamedTuple, TypeAlias

import msgspec
import pytest
import trio

from sluicegate.machine.deltas import Started, TextDelta
from sluicegate.machine.errors import ErrorCode
from sluicegate.providers.connection import READ_SIZE
from sluicegate.runtime.ledger import Settlement
from sluicegate.runtime.spool_reader import read_spool
from sluicegate.service.access import Grants
from sluicegate.service.options import BudgetOptions, Rates
from sluicegate.service.window import WINDOW
from sluicegate.wire.downstream.openai_chat import ChatEncoder
from tests.load.process import PATIENCE, Process, ask, bearer, make_keys, running
from tests.load.provider import BASE, Last, Plan, Provider, running_provider
from tests.sockets.caller import Answer, Caller, calling
from tests.sockets.upstream import HEAD, chunk, next_request

pytestmark = [pytest.mark.sweep, pytest.mark.sockets]

CLIENTS = 40
SEED = 7
PRICE = (2.0, 8.0)  # dollars for a million tokens of input and output
USER = "X-End-User"
REFUSED = b"concurrent_runs"


def config(directory: Path, port: int, limits: str = "") -> Path:
    """Write settings with a provider on `port`, two models and keys."""
    file = directory / "sluicegate.toml"
    file.write_text(
        f"""
        [access]
        keys = "{directory / "keys.json"}"
        [spool]
        directory = "{directory / "usage"}"
        [log]
        format = "json"
        [run]
        max_lateness_seconds = inf
        [providers.main]
        base_url = "http://127.0.0.1:{port}/v1"
        prices.real = {{ input = {PRICE[0]}, output = {PRICE[1]} }}
        [models.small]
        use = ["main:real"]
        [models.large]
        use = ["main:real"]
        {limits}
        """
    )
    return file


# -- requests a minute and runs at once --------------------------------------------------------------------------------


class Combo(NamedTuple):
    """Whose a request is, "" for no user."""

    key: str
    model: str
    user: str

    def scopes(self) -> Iterator[tuple[str, str]]:
        """All that it counts for: kind and name."""
        yield "key", self.key
        yield "model", self.model
        if self.user:
            yield "user", f"{self.key} {self.user}"


KEYS: Final = ("usual", "own", "third")
COMBOS: Final = [Combo(key, model, user) for key in KEYS for model in ("small", "large") for user in ("", "u", "v")]


class Meters:
    """How many there are for each scope, and how many there may be."""

    def __init__(self, most: Mapping[str, int], own: int) -> None:
        self._most = most
        self._own = own
        self.now: Counter[tuple[str, str]] = Counter()
        self.peak: Counter[tuple[str, str]] = Counter()

    def most(self, scope: tuple[str, str]) -> int:
        return self._own if scope == ("key", "own") else self._most[scope[0]]

    def add(self, combo: Combo) -> None:
        for scope in combo.scopes():
            self.now[scope] += 1
            self.peak[scope] = max(self.peak[scope], self.now[scope])
            assert self.now[scope] <= self.most(scope), f"one more than is allowed for {scope}"

    def remove(self, combo: Combo) -> None:
        for scope in combo.scopes():
            self.now[scope] -= 1

    def full(self, combo: Combo) -> set[str]:
        """The kinds of the scopes of `combo` that have no room."""
        return {scope[0] for scope in combo.scopes() if self.now[scope] >= self.most(scope)}


class Crowd:
    """Clients of one process. `requests` counts all that were made."""

    def __init__(self, process: Process, provider: Provider, keys: Mapping[str, str]) -> None:
        self.process = process
        self.provider = provider
        self.requests = 0
        self._keys = keys

    def ask_for(self, combo: Combo, last: Last) -> tuple[Plan, bytes, dict[str, str]]:
        """Return a new run's plan, and body and headers of the request for it."""
        plan = Plan(self.requests, last=last)
        self.requests += 1
        headers = bearer(self._keys[combo.key])
        return plan, plan.body(model=combo.model), {**headers, USER: combo.user} if combo.user else headers


def named(answer: Answer, limit: str) -> str:
    """What kind of scope a refusal names; it says when to come back."""
    assert answer.status == 429, answer
    assert 1 <= int(answer.headers["retry-after"]) <= WINDOW
    message: str = msgspec.json.decode(answer.body)["error"]["message"]
    assert message.startswith(f"{limit}: "), message
    return message.partition(";")[0].rpartition(" ")[2]


def limits(rate: str, most: Mapping[str, int]) -> str:
    tables = [f"[limits.{kind}]\n{rate} = {number}" for kind, number in most.items()]
    return "\n".join([f'[limits]\nuser_header = "{USER}"', *tables])


@asynccontextmanager
async def crowd(directory: Path, settings: str, own: Rates) -> AsyncIterator[Crowd]:
    """A process with `settings`, one of whose keys has rates of its own."""
    grants = {key: Grants(rates=own if key == "own" else None) for key in KEYS}
    keys = {owner: made.text for owner, made in make_keys(directory / "keys.json", grants).items()}
    async with running_provider() as provider, running(config(directory, provider.port, settings)) as process:
        yield Crowd(process, provider, keys)
        process.send(signal.SIGTERM)
        assert await process.wait() == 0


async def test_not_one_request_a_minute_more(tmp_path: Path, note: Callable[[str], None]) -> None:
    """All within one minute. Nothing makes room in it, so what is full in the end tells whether a refusal was right.

    One model is full long before the other: those whom it refuses must still have room there.
    """
    most, own, each = {"key": 90, "model": 80, "user": 12}, 31, 15
    meters, refused, draw = Meters(most, own), list[tuple[Combo, str]](), Random(SEED)
    weights = [8 if combo.model == "small" else 1 for combo in COMBOS]
    async with crowd(tmp_path, limits("requests_per_minute", most), Rates(requests_per_minute=own)) as up:

        async def request(combo: Combo) -> bool:
            _, body, headers = up.ask_for(combo, Last.WHOLE)
            answer = await ask(up.process.port, "POST", "/chat", body, more=headers)
            if answer.status == 200:
                meters.add(combo)
                return True
            refused.append((combo, named(answer, "requests_per_minute")))
            return False

        async def hammer(combos: list[Combo]) -> None:
            for combo in combos:
                await request(combo)

        async def exhaust(combo: Combo) -> None:
            while await request(combo):
                pass

        with trio.fail_after(WINDOW):
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(hammer, draw.choices(COMBOS, weights, k=each))
            async with trio.open_nursery() as nursery:
                for combo in COMBOS:
                    nursery.start_soon(exhaust, combo)
        assert {combo for combo, _ in refused} == set(COMBOS)
        for combo, kind in refused:
            assert kind in meters.full(combo), f"{combo} was refused for its {kind}, which has room"
        admitted = up.requests - len(refused)
        assert len(up.provider.books) == admitted == meters.now["model", "small"] + meters.now["model", "large"]
        await up.process.wait_ended(admitted)
    full = sorted(scope for scope in meters.now if meters.now[scope] == meters.most(scope))
    assert {kind for kind, _ in full} == {"key", "model", "user"}, "a kind of limit was never reached"
    assert ("key", "own") in full
    note(f"requests a minute: {up.requests} by {CLIENTS} clients at once, {admitted} let in, {len(full)} limits full")


async def test_not_one_run_at_once_more(tmp_path: Path, note: Callable[[str], None]) -> None:
    """A run counts here from its first word until its end is let come: that is less than it counts in the service."""
    most, own, each, behind = {"key": 6, "model": 9, "user": 3}, 4, 15, 4
    meters, draw = Meters(most, own), Random(SEED)
    refused = 0
    async with crowd(tmp_path, limits("concurrent_runs", most), Rates(concurrent_runs=own)) as up:
        hammering = CLIENTS

        # Waves: nothing ends in one, so whoever is refused must find a limit that is full when all have their answers.
        for wave in range(10):
            combos = draw.choices(COMBOS, k=CLIENTS)
            answers = await _wave(up, combos, meters, ("release", "stop", "leave")[wave % 3])
            refused += sum(answer is not None for answer in answers)
            await up.process.wait_ended(up.requests - refused)
            assert not +meters.now

        # Churn: runs end while others come.
        answered = 0
        more = trio.Event()

        async def churn(combos: list[Combo]) -> None:
            nonlocal answered, more, hammering, refused
            for combo in combos:
                plan, body, headers = up.ask_for(combo, Last.HELD)
                async with calling(up.process.port) as caller:
                    await caller.ask("POST", "/chat", body, more=headers)
                    await caller.hear(0, b"}")
                    answered += 1
                    more.set()
                    more = trio.Event()
                    if REFUSED in caller.heard:
                        refused += 1
                        continue
                    await caller.hear(0, b"word")
                    meters.add(combo)
                    hammering -= 1
                    until = answered + behind
                    while answered < until and hammering:
                        await more.wait()
                    hammering += 1
                    meters.remove(combo)
                    up.provider.books[plan.number].is_released.set()
                    await caller.hear_all()
            hammering -= 1
            more.set()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for _ in range(CLIENTS):
                    nursery.start_soon(churn, draw.choices(COMBOS, k=each))
        admitted = up.requests - refused
        assert len(up.provider.books) == admitted
        await up.process.wait_ended(admitted)
    reached = sorted(scope for scope in meters.peak if meters.peak[scope] == meters.most(scope))
    assert {kind for kind, _ in reached} == {"key", "model", "user"}, "a kind of limit was never reached"
    note(f"runs at once: {up.requests} requests by {CLIENTS} clients, {admitted} let in, {len(reached)} limits reached")


async def _wave(up: Crowd, combos: list[Combo], meters: Meters, ending: str) -> list[Answer | None]:
    """All ask at once, and who is let in goes on until all have an answer; return the refusals, None for a run."""
    asked = [(combo, *up.ask_for(combo, Last.HELD)) for combo in combos]
    answers: list[Answer | None] = [None] * len(combos)

    async def begin(index: int, caller: Caller) -> None:
        combo, _, body, headers = asked[index]
        await caller.ask("POST", "/chat", body, more=headers)
        await caller.hear(0, b"}")
        if REFUSED in caller.heard:
            answers[index] = await caller.hear_all()
        else:
            await caller.hear(0, b"word")
            meters.add(combo)

    async def end(index: int, caller: Caller) -> None:
        combo, plan, _, headers = asked[index]
        meters.remove(combo)
        if ending == "leave":
            await caller.leave("rst")
            return
        if ending == "stop":
            assert (await ask(up.process.port, "DELETE", f"/runs/{caller.run_id}", more=headers)).status == 204
        up.provider.books[plan.number].is_released.set()
        await caller.hear_all()

    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as kept:
            callers = [await kept.enter_async_context(calling(up.process.port)) for _ in combos]
            async with trio.open_nursery() as nursery:
                for index, caller in enumerate(callers):
                    nursery.start_soon(begin, index, caller)
            for combo, answer in zip(combos, answers, strict=True):
                if answer is not None:
                    assert named(answer, "concurrent_runs") in meters.full(combo), f"{combo} was refused with room"
            async with trio.open_nursery() as nursery:
                for index, caller in enumerate(callers):
                    if answers[index] is None:
                        nursery.start_soon(end, index, caller)
    return answers


# -- budgets -----------------------------------------------------------------------------------------------------------

ALONE, TOGETHER, FLOODED = 40, 20, 20  # streams with budgets of their own, with one of a day for all, in a flood
WORDS = 3  # of each of those together, until the budget of the day is used up
FLOOD_TOKENS = 3_000
Pace: TypeAlias = Callable[["Stream", trio.SocketStream], Awaitable[None]]


class Stream:
    """One reply. `sent` counts words, `size` bytes; each `turn` is a word that was sent, or the connection found
    closed, which `over` tells as well.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.size = 0
        self.permit = trio.Semaphore(0)
        self.turn = trio.Semaphore(0)
        self.over = trio.Event()

    @property
    def word(self) -> str:
        """The last one: one token."""
        return f"w{self.sent:03}"


class Pacer:
    """A provider that answers each request at its `pace`; `streams` by the numbers of runs."""

    def __init__(self, port: int, pace: Pace) -> None:
        self.port = port
        self.streams: defaultdict[int, Stream] = defaultdict(Stream)
        self._pace = pace

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the request of one connection."""
        async with stream:
            body = await next_request(stream, bytearray())
            if body is not None:
                question = msgspec.json.decode(body)["messages"][0]["content"]
                here = self.streams[msgspec.json.decode(question, type=Plan).number]
                await self._pace(here, stream)
                here.over.set()
                here.turn.release()


async def word_by_word(here: Stream, stream: trio.SocketStream) -> None:
    """A word for each permit, unless the other side has closed by then."""
    encoder = ChatEncoder("real", reply_id="r")
    await stream.send_all(HEAD + chunk(encoder.encode(Started())))
    while not select.select([stream.socket], [], [], 0)[0]:  # nothing comes to a provider but the end
        here.sent += 1
        await stream.send_all(chunk(encoder.encode(TextDelta(here.word))))
        here.turn.release()
        await here.permit.acquire()


async def flood(here: Stream, stream: trio.SocketStream) -> None:
    """Words for as long as anybody takes them."""
    encoder = ChatEncoder("real", reply_id="r")
    await stream.send_all(HEAD + chunk(encoder.encode(Started())))
    word = chunk(encoder.encode(TextDelta(here.word)))
    with suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(word)
            here.sent += 1
            here.size += len(word)


class Paced(NamedTuple):
    """What `paced` gives."""

    process: Process
    pacer: Pacer
    keys: Mapping[str, str]

    async def read(
        self, key: str, number: int, first: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    ) -> None:
        """Read a stream, and let its provider go on when all is done that a word brought about; `first` is awaited
        behind the first word. It ends by its budget.
        """
        here = self.pacer.streams[number]
        async with calling(self.process.port) as caller:
            await caller.ask("POST", "/chat", Plan(number).body(model="small"), more=bearer(self.keys[key]))
            await here.turn.acquire()
            while not here.over.is_set():
                await caller.hear(0, here.word.encode())
                if here.sent == 1:
                    await first()
                # The service has one thread: what the read of this word led to is done before another answer.
                assert (await ask(self.process.port, "GET", "/healthz")).status == 200
                here.permit.release()
                await here.turn.acquire()
            assert ErrorCode.BUDGET_EXCEEDED.encode() in (await caller.hear_all()).body


@asynccontextmanager
async def paced(directory: Path, pace: Pace, grants: Mapping[str, Grants]) -> AsyncIterator[Paced]:
    """A process with a provider of that pace, and keys."""
    keys = {owner: made.text for owner, made in make_keys(directory / "keys.json", grants).items()}
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    pacer = Pacer(listener.socket.getsockname()[1], pace)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, pacer.serve, [listener])
        async with running(config(directory, pacer.port)) as process:
            yield Paced(process, pacer, keys)
            process.send(signal.SIGTERM)
            assert await process.wait() == 0
        nursery.cancel_scope.cancel()


def settled(directory: Path) -> dict[str, list[Settlement]]:
    """All settlements by owner; each ended by its budget."""
    found: dict[str, list[Settlement]] = {}
    for each in read_spool(directory / "usage"):
        assert (each.outcome, each.usage.estimated) == (ErrorCode.BUDGET_EXCEEDED, True)
        found.setdefault(each.owner, []).append(each)
    return found


async def test_a_budget_ends_a_stream_with_the_read_that_is_beyond_it(
    tmp_path: Path, note: Callable[[str], None]
) -> None:
    """A word is a read and a token. Many at once: some with a budget of their own, in tokens or dollars, others with
    one of a day that they share.
    """
    alone, together = range(ALONE), range(ALONE, ALONE + TOGETHER)
    day = sum(BASE + number for number in together) + TOGETHER * WORDS
    grants = {f"own {number}": Grants(run_budget=_budget(number)) for number in alone}
    grants["shared"] = Grants(day_budget=BudgetOptions(day))
    begun, all_begun = 0, trio.Event()
    when_over: dict[int, int] = {}

    async def wait_for_others() -> None:
        nonlocal begun
        begun += 1
        if begun == TOGETHER:
            all_begun.set()
        await all_begun.wait()

    async def read_shared(number: int) -> None:
        await up.read("shared", number, wait_for_others)
        if not when_over:
            when_over.update({each: up.pacer.streams[each].sent for each in together})

    async with paced(tmp_path, word_by_word, grants) as up:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in alone:
                    nursery.start_soon(up.read, f"own {number}", number)
                for number in together:
                    nursery.start_soon(read_shared, number)
    found = settled(tmp_path)
    for number in alone:
        sent = up.pacer.streams[number].sent
        assert sent == _fitting(number) + 1, f"run {number}: the read beyond its budget is the last"
        assert [each.usage.output_tokens for each in found[f"own {number}"]] == [sent]
    spent = sum(each.usage.input_tokens + each.usage.output_tokens for each in found["shared"])
    assert day < spent <= day + TOGETHER, "a read of each, at most"
    for number in together:
        assert up.pacer.streams[number].sent - when_over[number] <= 1
    note(f"budgets: {ALONE} streams ended with the read beyond; {TOGETHER} together {spent - day} tokens beyond {day}")


def _fitting(number: int) -> int:
    """So many tokens of a reply fit into the budget of that run."""
    return number // 2 % 7


def _budget(number: int) -> BudgetOptions:
    prompt, most = BASE + number, _fitting(number)
    if number % 2:
        return BudgetOptions(tokens=prompt + most)
    return BudgetOptions(dollars=(prompt * PRICE[0] + (most + 0.5) * PRICE[1]) / 1e6)


async def test_a_flood_is_over_its_budget_by_one_read_at_most(tmp_path: Path, note: Callable[[str], None]) -> None:
    grants = {
        f"own {number}": Grants(run_budget=BudgetOptions(BASE + number + FLOOD_TOKENS)) for number in range(FLOODED)
    }
    async with paced(tmp_path, flood, grants) as up:

        async def read(number: int) -> None:
            body = Plan(number).body(model="small")
            answer = await ask(up.process.port, "POST", "/chat", body, up.keys[f"own {number}"])
            assert ErrorCode.BUDGET_EXCEEDED.encode() in answer.body
            await up.pacer.streams[number].over.wait()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(FLOODED):
                    nursery.start_soon(read, number)
    beyond = []
    for number in range(FLOODED):
        (settlement,) = settled(tmp_path)[f"own {number}"]
        stream = up.pacer.streams[number]
        beyond.append(settlement.usage.output_tokens - FLOOD_TOKENS)
        assert 0 < beyond[-1] <= math.ceil(READ_SIZE * stream.sent / stream.size)
        assert settlement.usage.output_tokens <= stream.sent + 1
    most = max(each.size for each in up.pacer.streams.values())
    note(f"a flood: {FLOODED} streams at most {max(beyond)} tokens beyond {FLOOD_TOKENS}; at most {most} bytes sent")
