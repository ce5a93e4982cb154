"""Rates and numbers of runs: exact, whoever comes when; what is refused counts nowhere, what ended makes room."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import Mock

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.deltas import Usage
from sluicegate.machine.errors import ErrorCode
from sluicegate.providers.script import Cut, Fail, Reply, Say, Stall
from sluicegate.service.access import Caller, Grants
from sluicegate.service.key_file import KeyFile, KeyRing
from sluicegate.service.keys import make_key
from sluicegate.service.limits import Limits, Shares
from sluicegate.service.options import LimitOptions, Rates
from sluicegate.service.problems import Problem
from sluicegate.service.window import WINDOW, Window

if TYPE_CHECKING:
    from _typeshed import TraceFunction

from .harness import JSON, LINKS, Exchange, Stack, over, stack

BODY = b'{"messages": [{"role": "user", "content": "Hi"}]}'
AMOUNTS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=80)


@given(AMOUNTS, st.integers(0, 70), st.integers(1, 20))
def test_a_window_is_exact(uses: list[tuple[int, int]], later: int, wanted: int) -> None:
    """Against the plain sum; whole seconds, so that the edges are met."""
    window, entries, now = Window(), [], 0
    for wait, amount in uses:
        now += wait
        window.add(now, amount)
        entries.append((now, amount))
        assert window.used(now) == sum(each for at, each in entries if at > now - WINDOW)
    now += later

    def used(when: float) -> int:
        return sum(each for at, each in entries if at > when - WINDOW)

    assert window.used(now) == used(now)
    free = window.free_in(now, wanted)
    first = next((t for t in range(61) if used(now) - used(now + t) >= wanted), math.inf)
    assert free == first


def test_a_window_answers_in_as_many_steps_however_much_was_used() -> None:
    def steps(uses: int) -> int:
        window, lines = Window(), 0

        def count(frame: FrameType, event: str, _: object) -> "TraceFunction | None":
            nonlocal lines
            if frame.f_globals["__name__"] != "sluicegate.service.window":
                return None
            lines += event == "line"
            return count

        for number in range(uses):
            window.add(number / uses, 3)
        sys.settrace(count)
        try:
            assert window.used(1.0) == 3 * uses
            assert window.free_in(1.0, 3 * uses) == pytest.approx(WINDOW, abs=1)
            assert window.free_in(1.0, 3) == pytest.approx(WINDOW - 1)
        finally:
            sys.settrace(None)
        return lines

    assert steps(10) == steps(100_000)


class Asked(NamedTuple):
    """A run is asked for, or the `end`-th of those under way ends, having cost `tokens`."""

    wait: int
    key: str
    model: str
    user: str
    tokens: int
    end: int | None
    address: str


ASKED = st.builds(
    Asked, st.integers(0, 25), st.sampled_from("ab"), st.sampled_from("mn"), st.sampled_from(["", "u", "v"]),
    st.integers(0, 9), st.none() | st.integers(0, 5), st.sampled_from(["", "1.2.3.4"]),
)  # fmt: skip
RATES = st.builds(
    Rates, *[st.none() | st.integers(1, 4), st.none() | st.integers(1, 20), st.none() | st.integers(1, 3)]
)


class Oracle:
    """Counts everything anew from all that happened, for one rate of one key, model, user or address at a time."""

    def __init__(self, options: LimitOptions) -> None:
        self.options = options
        self.started: list[tuple[int, Asked]] = []
        self.live: list[tuple[str, Asked]] = []
        self.spent: list[tuple[int, Asked, int]] = []

    def allows(self, now: int, asked: Asked) -> bool:
        return all(self._allows(now, asked, *each) for each in self._scopes(asked))

    def _scopes(self, asked: Asked) -> list[tuple[Rates, Callable[[Asked], object]]]:
        scopes: list[tuple[Rates, Callable[[Asked], object]]] = [
            (self.options.key, lambda each: each.key),
            (self.options.model, lambda each: each.model),
            (self.options.address, lambda each: each.address),
        ]
        if asked.user:
            scopes.append((self.options.user, lambda each: (each.key, each.user)))
        return scopes

    def _allows(self, now: int, asked: Asked, rates: Rates, share: Callable[[Asked], object]) -> bool:
        mine = share(asked)
        started = sum(1 for at, each in self.started if share(each) == mine and at > now - WINDOW)
        live = [each for _, each in self.live if share(each) == mine]
        tokens = sum(cost for at, each, cost in self.spent if share(each) == mine and at > now - WINDOW)
        tokens += sum(each.tokens for each in live)
        return (
            (rates.requests_per_minute is None or started < rates.requests_per_minute)
            and (rates.concurrent_runs is None or len(live) < rates.concurrent_runs)
            and (
                rates.tokens_per_minute is None
                or tokens + min(asked.tokens, rates.tokens_per_minute) <= rates.tokens_per_minute
            )
        )


def over_with(run_id: str, tokens: int) -> Mock:
    driver = Mock()
    driver.run.run_id = run_id
    driver.run.terminal.usage = Usage(tokens, 1)
    return driver


@given(RATES, RATES, RATES, RATES, st.lists(ASKED, max_size=40))
def test_a_run_is_let_in_if_and_only_if_it_is_within_all_limits(
    key: Rates, model: Rates, user: Rates, address: Rates, asked: list[Asked]
) -> None:
    now = 0
    options = LimitOptions(key, model, user, address=address)
    limits, oracle = Limits(options, lambda: float(now)), Oracle(options)
    for number, each in enumerate(asked):
        now += each.wait
        if each.end is not None:
            if each.end < len(oracle.live):
                run_id, ended = oracle.live.pop(each.end)
                oracle.spent.append((now, ended, each.tokens + 1))
                limits.ended(over_with(run_id, each.tokens))
            continue
        shares = Shares(Caller(each.key, key=each.key), each.model, each.user, each.address)
        allowed = oracle.allows(now, each)
        if allowed:
            limits.admit(str(number), shares, each.tokens)
            oracle.started.append((now, each))
            oracle.live.append((str(number), each))
        else:
            with pytest.raises(Problem) as caught:
                limits.admit(str(number), shares, each.tokens)
            assert caught.value.status == 429
            assert (caught.value.info.retry_after_ms or 0) >= 1000


def test_who_was_not_here_for_a_minute_is_forgotten() -> None:
    now = 0.0
    limits = Limits(LimitOptions(user=Rates(1), user_header="x"), lambda: now)
    for number in range(1_000):
        limits.admit(str(number), Shares(Caller("me"), "m", f"u{number}"), 0)
        limits.ended(over_with(str(number), 1))
    now = 2 * WINDOW
    limits.admit("last", Shares(Caller("me"), "m", "u"), 0)
    assert len(limits._meters) == 1
    limits.ended(over_with("never started", 1))


async def ask(up: Stack, **headers: str) -> Exchange:
    return await (await up.open("POST", "/chat", BODY, {**JSON, **headers})).head()


@LINKS
def test_what_is_left_is_told_and_what_is_over_is_429(socket: bool) -> None:
    async def main() -> None:
        limits = Limits(LimitOptions(key=Rates(requests_per_minute=2, tokens_per_minute=1_000)))
        async with stack(lambda _: [Say("Hello.")], socket=socket, limits=limits) as up:
            first, second, third = [await (await ask(up)).answer() for _ in range(3)]
            assert (first.status, second.status, third.status) == (200, 200, 429)
            assert first.header("RateLimit-Policy") == '"key-requests";q=2;w=60, "key-tokens";q=1000;w=60'
            assert (first.header("RateLimit") or "").startswith('"key-requests";r=1;t=60, "key-tokens";r=999;t=0')
            assert (third.header("RateLimit") or "").startswith('"key-requests";r=0;t=60, ')
            assert int(third.header("Retry-After") or "") in (59, 60)
            assert third.error["code"] == "RATE_LIMITED"
            assert third.error["retryable"]
            assert third.error["message"].startswith("requests_per_minute: 2 are allowed for this key; try again in ")

    over(socket, main)


@LINKS
def test_not_one_run_more_at_once_however_many_come_together(socket: bool) -> None:
    async def main() -> None:
        limits = Limits(LimitOptions(key=Rates(concurrent_runs=3)))
        script: Reply = [Say("Well "), Stall()]
        async with stack(lambda _: script, socket=socket, limits=limits) as up:
            for _ in range(3):
                streams: list[Exchange] = []

                async def one(streams: list[Exchange] = streams) -> None:
                    streams.append(await ask(up))

                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(one)
                assert sorted(each.status for each in streams) == [200] * 3 + [429] * 17
                for stream in streams:
                    if stream.status == 200:
                        answer = await up.open("DELETE", f"/runs/{stream.run_id}", b"", {})
                        assert (await answer.answer()).status == 204
                    await stream.answer()

    over(socket, main)


@LINKS
@pytest.mark.parametrize("ending", ["finished", "failed at once", "failed later", "left"])
def test_every_ending_makes_room(ending: str, socket: bool) -> None:
    scripts: dict[str, Reply] = {
        "finished": [Say("Hello.")],
        "failed at once": [Fail(ErrorCode.INVALID_REQUEST)],
        "failed later": [Say("Well "), Cut()],
        "left": [Say("Well "), Stall()],
    }

    async def main() -> None:
        limits = Limits(LimitOptions(key=Rates(concurrent_runs=1)))
        async with stack(lambda _: scripts[ending], socket=socket, limits=limits) as up:
            for _ in range(5):
                stream = await ask(up)
                assert stream.status != 429
                if ending == "left":
                    await stream.until(b"Well")
                    await stream.leave()
                else:
                    await stream.answer()
                await up.service.runs.wait_none()
            assert not limits._runs

    over(socket, main)


@LINKS
def test_users_and_keys_have_limits_of_their_own(socket: bool, tmp_path: Path) -> None:
    async def main() -> None:
        file = KeyFile(tmp_path / "keys.json")
        more, usual = make_key("me", 0.0, Grants(rates=Rates(requests_per_minute=4))), make_key("me", 0.0, Grants())
        for made in (more, usual):
            file.add(made.key)
        limits = Limits(LimitOptions(key=Rates(3), user=Rates(1), user_header="X-End-User"))
        access = KeyRing(tmp_path / "keys.json")
        async with stack(lambda _: [Say("Hello.")], socket=socket, limits=limits, access=access) as up:

            async def status(text: str, user: str = "") -> int:
                named = {"X-End-User": user} if user else {}
                return (await (await ask(up, Authorization=f"Bearer {text}", **named)).answer()).status

            assert [await status(usual.text) for _ in range(4)] == [200, 200, 200, 429]
            assert [await status(more.text, user) for user in ("a", "a", "b", "", "", "")] == [
                200, 429, 200, 200, 200, 429,
            ]  # fmt: skip
            assert await status(more.text, "x" * 257) == 400

    over(socket, main)
