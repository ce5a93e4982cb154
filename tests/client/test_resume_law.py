"""The law of resuming: wherever and however connections are cut, a reader gets every frame once, in order."""

import functools
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.client import Client, Interrupted, Transcript

from ..service.harness import virtually
from .rig import (
    HI,
    PATIENT,
    TALK,
    Cut,
    Fake,
    How,
    Memory,
    client_of,
    decoded,
    detached,
    frames_of,
    read_all,
    served,
    streamed,
)

FRAMES = frames_of(TALK)
RAW = streamed(FRAMES)
WHOLE = decoded(FRAMES)
SEEN_END = RAW.index(b"data: [DONE]")  # with this many bytes the terminal frame is complete
HEAD_END = RAW.index(b"\r\n\r\n") + 4
BREAKS = [How.CLOSED, How.RESET, How.SILENT]


def check_requests(service: Fake, *, head: bool, terminal: bool) -> None:
    """Hold what was asked, for one cut of the first response, against the promise never to start a run twice."""
    assert len({request.key for request in service.posts}) == 1
    assert len({request.body for request in service.posts}) == 1
    assert len(service.posts) == (1 if head else 2)
    assert len(service.gets) == (1 if head and not terminal else 0)


@pytest.mark.sweep
@pytest.mark.parametrize("how", BREAKS)
def test_a_cut_after_any_byte_changes_nothing(how: How, note: Callable[[str], None]) -> None:
    async def every_cut() -> None:
        for at in range(len(RAW) + 1):
            service = Fake(FRAMES)
            memory = Memory(service, [Cut(at, how)])
            async with client_of(memory) as client:
                assert await detached(client) == WHOLE, at
            assert memory.open == 0
            check_requests(service, head=at >= HEAD_END, terminal=at >= SEEN_END)

    virtually(every_cut)
    assert len(RAW) > 1_000
    note(f"resume: {len(RAW) + 1} positions of a cut ({how})")


@pytest.mark.sweep
def test_two_cuts_after_any_bytes_change_nothing(note: Callable[[str], None]) -> None:
    """The first within the response to POST, the second within what comes then; steps of a prime, so no rhythm."""
    count = 0

    async def every_pair() -> None:
        nonlocal count
        for first in range(0, SEEN_END, 23):
            for second in range(0, SEEN_END, 19):
                service = Fake(FRAMES)
                memory = Memory(service, [Cut(first), Cut(second, How.RESET)])
                async with client_of(memory) as client:
                    assert await detached(client) == WHOLE, (first, second)
                assert memory.open == 0
                count += 1

    virtually(every_pair)
    assert count > 1_500
    note(f"resume: {count} pairs of cuts")


@given(
    cuts=st.lists(st.builds(Cut, st.integers(0, len(RAW)), st.sampled_from(BREAKS)), max_size=30),
    size=st.integers(1, 600),
    jitter=st.floats(0, 1),
)
def test_cuts_at_many_places_change_nothing(cuts: list[Cut], size: int, jitter: float) -> None:
    async def one() -> None:
        service = Fake(FRAMES)
        memory = Memory(service, cuts, size=size)
        async with client_of(memory, jitter=jitter) as client:
            assert await detached(client, resume=PATIENT) == WHOLE
        assert memory.open == 0
        assert len({(request.key, request.body) for request in service.posts}) == 1

    virtually(one)


@pytest.mark.sweep
@pytest.mark.sockets
@pytest.mark.parametrize(("how", "step"), [(How.CLOSED, 2), (How.RESET, 3)])
async def test_a_cut_over_a_real_socket_changes_nothing(how: How, step: int, note: Callable[[str], None]) -> None:
    places = range(0, len(RAW) + 1, step)
    for at in places:
        service = Fake(FRAMES)
        with trio.fail_after(10):
            async with served(service, [Cut(at, how)]) as url, Client(url, timeout=5, jitter=lambda: 0.0) as client:
                assert await detached(client) == WHOLE, at
        assert len({(request.key, request.body) for request in service.posts}) == 1
    assert len(places) > 300
    note(f"resume: {len(places)} positions of a cut over a socket ({how})")


@pytest.mark.sweep
def test_under_cancel_a_cut_after_any_byte_is_interrupted_or_complete() -> None:
    """Never a quiet success, never a second request."""

    async def every_cut() -> None:
        for at in range(HEAD_END, len(RAW) + 1):
            service = Fake(FRAMES)
            memory = Memory(service, [Cut(at)])
            transcript = Transcript()
            async with client_of(memory) as client, client.chat(HI) as stream:
                with nullcontext() if at >= SEEN_END else pytest.raises(Interrupted) as caught:
                    async for frame in stream:
                        transcript.add(frame)
                assert transcript.ended is (at >= SEEN_END)
                assert caught is None or caught.value.after == transcript.after == stream.after
            assert [request.key for request in service.requests] == [None]
            assert memory.open == 0

    virtually(every_cut)


@pytest.mark.parametrize("place", range(len(FRAMES) + 1))
def test_a_reader_comes_in_at_any_frame(place: int) -> None:
    """By `Client.events`, at once and after a cut; behind the terminal there is nothing, and that is no failure."""

    async def one() -> None:
        service = Fake(FRAMES)
        memory = Memory(service, [None, Cut(HEAD_END + 150), None])
        after = WHOLE[place - 1].id if place else ""
        async with client_of(memory) as client:
            for _ in range(2):
                async with client.events("r-1", after) as stream:
                    assert await read_all(stream) == WHOLE[place:]
                    assert await read_all(stream) == [], "it is over"
        assert memory.open == 0
        assert service.posts == []

    virtually(one)


def test_case_57_a_finished_run_read_again_ends() -> None:
    """Tail and terminal, then an end: no waiting for heartbeats, whether the service closes the connection or not."""

    async def one(cut: Cut | None) -> None:
        memory = Memory(Fake(FRAMES), [cut])
        async with client_of(memory) as client, client.events("r-1", WHOLE[4].id) as stream:
            began = trio.current_time()
            assert await read_all(stream) == WHOLE[5:]
            assert trio.current_time() == began
        assert memory.open == 0

    for cut in (None, Cut(len(RAW), How.SILENT)):
        virtually(functools.partial(one, cut))


def test_case_61_an_unsolicited_abort_is_a_reconnect_not_a_stop() -> None:
    async def one(how: How) -> None:
        service = Fake(FRAMES)
        memory = Memory(service, [Cut(HEAD_END + 300, how)])
        async with client_of(memory) as client:
            assert await detached(client) == WHOLE
        assert [request.method for request in service.requests] == ["POST", "GET"], "nobody asked for an end"

    for how in BREAKS:
        virtually(functools.partial(one, how))
