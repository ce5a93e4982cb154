"""The shape of the cost: what the whole service does for a word and for a request, over real sockets. Never time.

A bound is what was counted when it was set, so one more call, task hop or system call breaks it. Who makes the path of
a word shorter has to lower its bound, or the next one would pass unseen; the counts are in the summary of a test run.
"""

import gc
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import pytest
import trio

from sluicegate.machine.events import Event
from sluicegate.providers.connection import Connection
from sluicegate.providers.dialects import DIALECTS
from sluicegate.runtime.feed import Feed
from sluicegate.server.writer import Writer
from tests.lockstep import Client, Counts, Player, in_step

pytestmark = pytest.mark.sockets

# Of a word that arrives alone while all have heard the last one. Python 3.12 and 3.13 do the same.
WORD = {
    "openai_chat": Counts(steps=1, calls=46, builtins=41, sends=1, receives=1, spawned=0, scopes=0),
    "openai_responses": Counts(steps=1, calls=54, builtins=47, sends=1, receives=1, spawned=0, scopes=0),
    "anthropic": Counts(steps=1, calls=46, builtins=41, sends=1, receives=1, spawned=0, scopes=0),
}
# Of a request with two words on kept connections, where tasks that become ready at once run in the best order. Another
# Quart on 3.13; 3.12 inlines comprehensions.
REQUEST = {
    (3, 11): Counts(steps=14, calls=2180, builtins=1610, sends=4, receives=4, spawned=3, scopes=7),
    (3, 12): Counts(steps=14, calls=2135, builtins=1580, sends=4, receives=4, spawned=3, scopes=7),
    (3, 13): Counts(steps=18, calls=2270, builtins=1600, sends=4, receives=4, spawned=3, scopes=7),
}
KEPT_BYTES = 155  # by a word: its frame, its text, and their places in the log and in the reply
HELD_BYTES = 2 * 65_536 + 1_024  # for a moment by a word: what a read asks for, ours and the client's
SLACK = 0.005  # for a garbage collection, which calls whoever asked to be told of it
REQUEST_SLACK = 0.01  # some of the packages on its way are not pinned; half a step or scope is none
FAR = 10_000
REQUESTS = 100  # Trio orders tasks by chance, and every fifth request met with the best order

Broken = Literal["call", "hop", "send", "memory"]


class Held(NamedTuple):
    """Bytes and objects that the collector knows."""

    bytes: int
    containers: int


def _words(player: Player, look: Callable[[], None], port: int, clients: int, places: Sequence[int]) -> None:
    """Let `clients` hear a reply each; look after so many words."""
    listeners = [Client(port) for _ in range(clients)]
    upstreams = player.begin(listeners)
    for word in range(2, places[-1] + 1):
        player.say(upstreams, listeners)
        if word in places:
            look()
    player.end(upstreams, listeners)
    for listener in listeners:
        listener.close()


def _requests(player: Player, look: Callable[[], None], port: int) -> None:
    """Ask REQUESTS times on one connection; look after each."""
    client = Client(port)
    for _ in range(REQUESTS):
        player.end(player.begin([client]), [client])
        look()
    client.close()


async def _cost_of_words(dialect: str, clients: int, places: Sequence[int]) -> list[list[float]]:
    """Return what one word costs between one of `places` and the next."""
    found: list[Counts] = []
    async with in_step(dialect) as (meter, player, port):
        with meter.counting():
            await trio.to_thread.run_sync(
                partial(_words, player, lambda: found.append(meter.now()), port, clients, places)
            )
    return [
        [count / (late - early) / clients for count in after.since(before)]
        for (before, after), (early, late) in zip(pairwise(found), pairwise(places), strict=True)
    ]


def _check(cost: Sequence[float], bound: Counts, slack: float) -> None:
    for name, count, most in zip(Counts._fields, cost, bound, strict=True):
        assert count <= most * (1 + slack), f"{name}: {count:.2f}, and {most} when the bound was set"


def _check_tight(cost: Sequence[float], bound: Counts) -> None:
    for name, count, most in zip(Counts._fields, cost, bound, strict=True):
        assert count >= most * (1 - SLACK), f"{name}: {count:.2f}, so lower the bound, which is {most}"


def _shown(cost: Sequence[float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in zip(Counts._fields, cost, strict=True))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_word_costs_the_same_wherever_it_is(dialect: str, note: Callable[[str], None]) -> None:
    places = [50, 100, 900, 1_000, FAR - 100, FAR] if dialect == "openai_chat" else [50, 100, 900, 1_000]
    costs = await _cost_of_words(dialect, 1, places)
    for cost in costs:
        _check(cost, WORD[dialect], SLACK)
    _check_tight(costs[0], WORD[dialect])
    note(f"shape: a word of {dialect}: {_shown(costs[-1])}")


@pytest.mark.parametrize("clients", [16, 64])
async def test_a_word_costs_the_same_beside_others(clients: int) -> None:
    for cost in await _cost_of_words("openai_chat", clients, [10, 20, 40]):
        _check(cost, WORD["openai_chat"], SLACK)


async def _memory_of_words(places: Sequence[int]) -> tuple[list[Held], list[int]]:
    """Return what a word keeps between one of `places` and the next, and how much more is held for a moment."""
    found: list[Held] = []
    moments: list[int] = []

    def look() -> None:
        now, peak = tracemalloc.get_traced_memory()
        found.append(Held(now, gc.get_count()[0]))
        moments.append(peak - now)
        tracemalloc.reset_peak()

    async with in_step("openai_chat") as (_, player, port):
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            await trio.to_thread.run_sync(partial(_words, player, look, port, 1, places))
        finally:
            tracemalloc.stop()
            gc.enable()
    kept = [
        Held(*(round((now - before) / (late - early)) for now, before in zip(here, there, strict=True)))
        for (there, here), (early, late) in zip(pairwise(found), pairwise(places), strict=True)
    ]
    return kept, moments[1:]


def _check_memory(kept: list[Held], moments: list[int]) -> None:
    assert all(held.bytes <= KEPT_BYTES for held in kept), kept
    assert all(held.containers == 0 for held in kept), kept  # so a steady stream never wakes the collector
    assert all(held <= HELD_BYTES for held in moments), moments


async def test_a_word_keeps_the_same_wherever_it_is(note: Callable[[str], None]) -> None:
    kept, moments = await _memory_of_words([500, 1_500, FAR - 1_000, FAR])
    _check_memory(kept, moments)
    assert kept[-1].bytes > len("word ")  # it counts
    note(f"shape: a word keeps {kept[-1].bytes} bytes, and holds {moments[-1]} for a moment")


async def test_a_request_costs_no_more(note: Callable[[str], None]) -> None:
    found: list[Counts] = []
    async with in_step("openai_chat") as (meter, player, port):
        with meter.counting():
            await trio.to_thread.run_sync(partial(_requests, player, lambda: found.append(meter.now()), port))
    costs = [after.since(before) for before, after in pairwise(found)]
    least = [min(counts) for counts in zip(*costs, strict=True)]
    _check(least, REQUEST[sys.version_info[:2]], REQUEST_SLACK)
    note(f"shape: a request: {_shown(least)}")


@pytest.mark.parametrize("how", ["call", "hop", "send", "memory"])
async def test_the_bounds_break(how: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    publish, receive, write = Feed.publish, Connection.receive, Writer.write
    hoard: list[list[Event]] = []

    def another_call(self: Feed, events: list[Event]) -> None:
        publish(self, events)

    async def another_hop(self: Connection) -> bytes:
        await trio.lowlevel.checkpoint()
        return await receive(self)

    def another_send(self: Writer, data: bytes) -> Literal["accepted", "full"]:
        write(self, data[:1])
        return write(self, data[1:])

    def a_hoard(self: Feed, events: list[Event]) -> None:
        hoard.append(list(events))
        publish(self, events)

    (bound,) = await _cost_of_words("openai_chat", 1, [10, 50])
    match how:
        case "call":
            monkeypatch.setattr(Feed, "publish", another_call)
        case "hop":
            monkeypatch.setattr(Connection, "receive", another_hop)
        case "send":
            monkeypatch.setattr(Writer, "write", another_send)
        case "memory":
            monkeypatch.setattr(Feed, "publish", a_hoard)
            memory = await _memory_of_words([10, 50, 100])
            with pytest.raises(AssertionError):
                _check_memory(*memory)
            return
    (cost,) = await _cost_of_words("openai_chat", 1, [10, 50])
    with pytest.raises(AssertionError, match={"call": "calls", "hop": "steps", "send": "calls"}[how]):
        _check(cost, Counts(*map(round, bound)), SLACK)
