"""The patience with a client, on a virtual clock: whom it cuts off, and when."""

import pytest
import trio
import trio.testing

from sluicegate.server.writer import Patience

SECONDS = 30.0
RATE = 1000


async def until_cut(share: float, idle: float = 0.0, limit: float = 100_000.0) -> float | None:
    """How long a client lasts that takes `share` of the least rate, second by second, and is owed nothing for `idle`
    seconds after each.
    """
    patience = Patience(SECONDS, RATE)
    began = trio.current_time()
    while trio.current_time() < began + limit:
        patience.wait()
        with trio.move_on_at(patience.deadline) as scope:
            await trio.sleep(1.0)
        if scope.cancelled_caught:
            return trio.current_time() - began
        if share:
            patience.took(int(share * RATE))
        if idle:
            patience.rest()
            await trio.sleep(idle)
    return None


async def test_who_takes_nothing_is_cut_off_in_time(autojump_clock: trio.testing.MockClock) -> None:
    assert await until_cut(0) == pytest.approx(SECONDS)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_who_takes_too_little_is_cut_off_later(share: float, autojump_clock: trio.testing.MockClock) -> None:
    """Each second costs one, and brings `share` of one."""
    lasted = await until_cut(share)
    assert lasted is not None
    assert SECONDS < lasted <= SECONDS / (1 - share) + 1


@pytest.mark.parametrize("share", [1.0, 1.5, 10.0])
async def test_who_takes_enough_is_never_cut_off(share: float, autojump_clock: trio.testing.MockClock) -> None:
    assert await until_cut(share, limit=1000.0) is None


async def test_time_in_which_nothing_is_owed_counts_for_the_client(autojump_clock: trio.testing.MockClock) -> None:
    assert await until_cut(0.1, idle=0.9, limit=1000.0) is None
    assert await until_cut(0.1, idle=0.5) is not None


async def test_no_past_merit_buys_more_than_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    """Who took megabytes, or idled for an hour, has to take something within the same time as anybody."""
    patience = Patience(SECONDS, RATE)
    patience.took(10**9)
    await trio.sleep(3600)
    patience.wait()
    assert patience.deadline == trio.current_time() + SECONDS


async def test_it_has_no_end_while_nothing_is_owed(autojump_clock: trio.testing.MockClock) -> None:
    patience = Patience(SECONDS, RATE)
    assert patience.deadline == float("inf")
    patience.wait()
    patience.wait()  # a second time changes nothing
    await trio.sleep(1)
    patience.wait()
    assert patience.deadline == trio.current_time() + SECONDS - 1
    patience.took(1)
    assert patience.deadline == float("inf")
