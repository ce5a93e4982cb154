"""How long the client goes on asking, what ends it, and what it says then."""

from collections.abc import Callable, Coroutine
from itertools import chain, repeat
from typing import Any

import httpx2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.client import Client, Gone, Interrupted, Refused, Resume, Stream

from ..service.harness import virtually
from .rig import (
    HEARTBEAT,
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
from .rig import status as answer

FRAMES = frames_of(TALK)
WHOLE = decoded(FRAMES)
RAW = streamed(FRAMES)
HEAD_END = RAW.index(b"\r\n\r\n") + 4
HALF = Cut(HEAD_END + 400)
REFUSED = Cut(0, How.REFUSED)
WORDS = b'{"error":{"code":"UPSTREAM_ERROR","message":"The provider failed.","retryable":true}}'


def during(test: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """Run `test` on a virtual clock; return how long it took there."""
    took = 0.0

    async def timed() -> None:
        nonlocal took
        began = trio.current_time()
        await test()
        took = trio.current_time() - began

    virtually(timed)
    return took


def test_delays_double_up_to_the_longest_and_attempts_are_counted() -> None:
    lost: list[tuple[str, float]] = []

    async def one() -> None:
        memory = Memory(Fake(FRAMES), chain([HALF], repeat(REFUSED)))
        options = Resume(attempts=8, seconds=1e6)
        async with client_of(memory, jitter=1.0, on_lost=lambda *told: lost.append(told)) as client:
            with pytest.raises(Interrupted, match=r"^the stream of run r-1 ended .*\(refused\)$") as caught:
                await detached(client, resume=options)
            assert caught.value.run_id == "r-1"
            assert caught.value.after in {frame.id for frame in WHOLE}
        assert memory.open == 0

    delays = [0.5, 1, 2, 4, 8, 15, 15, 15]
    assert during(one) == sum(delays)
    assert [seconds for _, seconds in lost] == delays
    assert lost[0][0] == "the peer closed the connection before the end of the response body"
    assert {reason for reason, _ in lost[1:]} == {"refused"}


@given(
    jitter=st.floats(0, 1),
    how=st.sampled_from([How.REFUSED, How.SILENT]),
    seconds=st.floats(0, 500),
    attempts=st.integers(0, 12),
)
def test_an_outage_is_bounded_in_time_and_in_attempts(jitter: float, how: How, seconds: float, attempts: int) -> None:
    """The service never comes back, fast or slowly."""
    memory = Memory(Fake(FRAMES), chain([HALF], repeat(Cut(0, how))))
    lost: list[float] = []

    async def one() -> None:
        async with client_of(memory, jitter=jitter, on_lost=lambda _, delay: lost.append(delay)) as client:
            with pytest.raises(Interrupted):
                await detached(client, resume=Resume(attempts=attempts, seconds=seconds))
        assert memory.open == 0

    assert during(one) <= seconds
    assert len(lost) <= attempts
    assert all(delay <= min(15, 0.5 * 2**number) * jitter for number, delay in enumerate(lost))


def test_a_new_frame_makes_the_next_outage_a_first_one() -> None:
    """One frame a connection: many more connections than attempts."""
    ends = [RAW.index(frame) + len(frame) for frame in FRAMES]
    lost: list[float] = []

    async def one() -> None:
        service = Fake(FRAMES)
        cuts = [Cut(streamed(FRAMES[at:]).index(FRAMES[at]) + len(FRAMES[at])) for at in range(len(FRAMES) - 1)]
        memory = Memory(service, cuts)
        async with client_of(memory, jitter=1.0, on_lost=lambda _, delay: lost.append(delay)) as client:
            assert await detached(client, resume=Resume(attempts=1, seconds=1)) == WHOLE
        assert [request.after for request in service.gets] == [frame.id for frame in WHOLE[:-1]]

    assert during(one) == 0.5 * (len(ends) - 1)
    assert set(lost) == {0.5}


def test_heartbeats_alone_keep_the_time_from_running_but_not_the_attempts() -> None:
    """A connection that only ever brings heartbeats is no progress, though the service is alive."""
    alive = streamed([b""])
    heard = Cut(alive.index(HEARTBEAT) + len(HEARTBEAT), How.SILENT)

    async def one() -> None:
        service = Fake(FRAMES, [None, *[alive] * 20])
        memory = Memory(service, chain([HALF], repeat(heard)))
        async with client_of(memory, jitter=1.0, timeout=45) as client:
            with pytest.raises(Interrupted):
                await detached(client, resume=Resume(attempts=5, seconds=50))
        assert len(service.gets) == 5

    assert during(one) == 0.5 + 1 + 2 + 4 + 8 + 5 * 45


def test_case_65_silence_longer_than_heartbeats_allow_is_a_loss() -> None:
    async def one() -> None:
        service = Fake(FRAMES)
        memory = Memory(service, [Cut(HALF.at, How.SILENT)])
        async with client_of(memory, jitter=1.0) as client:
            assert await detached(client) == WHOLE
        assert service.gets[0].time - service.posts[0].time == 45.5

    assert during(one) == 45.5


# --- what the service answers to a reader that comes back


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_service_that_is_busy_is_asked_again_when_it_says(code: int) -> None:
    async def one() -> None:
        service = Fake(FRAMES, [None, answer(code, Retry_After=7), answer(code)])
        async with client_of(Memory(service, [HALF]), jitter=1.0) as client:
            assert await detached(client) == WHOLE
        first, second, third = (request.time for request in service.gets)
        assert (second - first, third - second) == (7, 2), "as it says, else as usual"

    during(one)


def test_a_service_that_wants_too_much_patience_is_not_asked_again() -> None:
    async def one() -> None:
        service = Fake(FRAMES, [None, answer(503, WORDS, Retry_After=120)])
        async with client_of(Memory(service, [HALF]), jitter=0.0) as client:
            with pytest.raises(Interrupted, match="The provider failed"):
                await detached(client)
        assert len(service.gets) == 1

    assert during(one) == 0


@pytest.mark.parametrize("told", ["soon", "-1", "1e9", "Wed, 21 Oct 2026 07:28:00 GMT", "٣"])
def test_a_wait_that_is_no_number_of_seconds_is_ignored(told: str) -> None:
    async def one() -> None:
        raw = b"HTTP/1.1 503 Busy\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % told.encode()
        async with client_of(Memory(Fake(FRAMES, [None, raw]), [HALF]), jitter=1.0) as client:
            assert await detached(client) == WHOLE

    assert during(one) == 1.5


def test_a_run_that_is_gone_is_said_at_once() -> None:
    """A service that restarted knows neither the run nor the epoch; asking on would be of no use."""

    async def one() -> None:
        service = Fake(FRAMES, [None, answer(404, WORDS)])
        async with client_of(Memory(service, [HALF]), jitter=0.0) as client:
            with pytest.raises(Gone, match="the run is gone") as caught:
                await detached(client)
            assert (caught.value.run_id, caught.value.after) == ("r-1", service.gets[0].after)
            with pytest.raises(Gone):
                async with client.events("nobody"):
                    pass
        assert len(service.gets) == 2

    assert during(one) == 0


def test_an_end_without_a_terminal_is_no_success() -> None:
    async def one() -> None:
        service = Fake(FRAMES, [None, answer(204)])
        async with client_of(Memory(service, [HALF])) as client:
            with pytest.raises(Interrupted, match=r"says that frame e0-\d+ was the last, but it was no terminal"):
                await detached(client)
        assert len(service.gets) == 1

    during(one)


@pytest.mark.parametrize("code", [301, 400, 401, 403, 409])
def test_a_refusal_to_read_on_is_raised(code: int) -> None:
    async def one() -> None:
        service = Fake(FRAMES, [None, answer(code, WORDS)])
        memory = Memory(service, [HALF])
        async with client_of(memory) as client:
            with pytest.raises(Refused, match="The provider failed") as caught:
                await detached(client)
            assert caught.value.status == code
        assert memory.open == 0
        assert len(service.gets) == 1

    during(one)


# --- before the response head


@pytest.mark.parametrize("how", [How.CLOSED, How.RESET, How.SILENT])
def test_without_a_key_nothing_is_sent_twice(how: How) -> None:
    async def one() -> None:
        for at in range(HEAD_END):
            service = Fake(FRAMES)
            memory = Memory(service, [Cut(at, how)])
            async with client_of(memory) as client:
                with pytest.raises(httpx2.TransportError):
                    async with client.chat(HI):
                        pass
            assert len(service.requests) == 1
            assert memory.open == 0

    during(one)


def test_a_key_of_the_caller_is_used_and_makes_posting_again_safe() -> None:
    async def one() -> None:
        for policy in ("cancel", "detach"):
            service = Fake(FRAMES)
            async with client_of(Memory(service, [Cut(9)])) as client:
                async with client.chat(HI, on_disconnect=policy, idempotency_key="mine") as stream:
                    assert [frame async for frame in stream] == WHOLE
                assert [request.key for request in service.requests] == ["mine", "mine"]
                with pytest.raises(Refused) as caught:
                    async with client.chat([*HI, *HI], idempotency_key="mine"):
                        pass
                assert caught.value.status == 409

    during(one)


def test_keys_are_128_random_bits_of_each_chat() -> None:
    async def one() -> None:
        service = Fake(FRAMES)
        async with Client("http://fake", transport=Memory(service)) as client:
            for _ in range(50):
                await detached(client)
        keys = [request.key or "" for request in service.posts]
        assert len(set(keys)) == 50
        assert all(len(bytes.fromhex(key)) == 16 for key in keys)

    during(one)


@pytest.mark.parametrize("policy", ["cancel", "detach"])
def test_a_service_that_is_not_there_is_said_at_once(policy: str) -> None:
    async def one() -> None:
        memory = Memory(Fake(FRAMES), repeat(REFUSED))
        async with client_of(memory) as client:
            with pytest.raises(httpx2.ConnectError):
                async with client.chat(HI, on_disconnect=policy):
                    pass

    assert during(one) == 0


def test_once_something_was_sent_a_service_that_is_not_there_is_waited_for() -> None:
    async def one() -> None:
        service = Fake(FRAMES)
        async with client_of(Memory(service, [Cut(0), REFUSED, REFUSED]), jitter=1.0) as client:
            assert await detached(client) == WHOLE
        assert len(service.posts) == 2

    assert during(one) == 0.5 + 1 + 2


def test_no_response_at_all_is_interrupted_under_the_key() -> None:
    async def one() -> None:
        service = Fake(FRAMES)
        memory = Memory(service, chain([Cut(0)], repeat(REFUSED)))
        async with client_of(memory) as client:
            with pytest.raises(Interrupted, match=r"run key-1 .* no response came") as caught:
                await detached(client)
            assert (caught.value.run_id, caught.value.after) == ("key-1", "")

    during(one)


def test_posting_again_goes_by_the_words_of_the_service_but_not_of_a_proxy() -> None:
    async def one() -> None:
        service = Fake(FRAMES, [None, answer(502, b"<html>", Retry_After=3), None])
        async with client_of(Memory(service, [Cut(0)]), jitter=1.0) as client:
            assert await detached(client) == WHOLE
        assert [request.time - service.posts[0].time for request in service.posts] == [0, 0.5, 3.5]
        service = Fake(FRAMES, [None, answer(502, WORDS)])
        async with client_of(Memory(service, [Cut(0)])) as client:
            with pytest.raises(Refused, match="The provider failed"):
                await detached(client)
        assert len(service.posts) == 2

    during(one)


def test_a_refusal_of_the_first_request_is_no_reason_to_ask_again() -> None:
    async def one() -> None:
        for code in (400, 404, 429, 503):
            service = Fake(FRAMES, [answer(code, WORDS, Retry_After=9)])
            async with client_of(Memory(service)) as client:
                with pytest.raises(Refused) as caught:
                    await detached(client)
            assert (caught.value.status, caught.value.retry_after) == (code, 9)
            assert len(service.requests) == 1

    assert during(one) == 0


def test_a_reader_of_events_waits_for_a_service_that_is_not_there() -> None:
    async def one() -> None:
        memory = Memory(Fake(FRAMES), [REFUSED, REFUSED])
        async with client_of(memory, jitter=1.0) as client, client.events("r-1") as stream:
            assert await read_all(stream) == WHOLE
        async with client_of(Memory(Fake(FRAMES), repeat(REFUSED))) as client:
            with pytest.raises(Interrupted, match="refused"):
                async with client.events("r-1", WHOLE[0].id):
                    pass

    during(one)


def test_bad_arguments_are_said() -> None:
    async def one() -> None:
        async with client_of(Memory(Fake(FRAMES))) as client:
            with pytest.raises(ValueError, match="on_disconnect: must be cancel or detach, not 'leave'"):
                async with client.chat(HI, on_disconnect="leave"):
                    pass
            for after in ("e", "e-", "e-0", "e-x", "-1", "e-1 ", "e" * 41 + "-1"):
                with pytest.raises(ValueError, match="is not the id of a frame"):
                    async with client.events("r-1", after):
                        pass

    during(one)


def test_names_of_runs_stay_in_their_place_in_the_path() -> None:
    async def one() -> None:
        service = Fake(FRAMES)
        async with client_of(Memory(service)) as client:
            await client.stop("a/../b?c#d e")
        assert service.requests[0].path == "/runs/a%2F..%2Fb%3Fc%23d%20e"

    during(one)


# --- stop


async def stop_late(stream: Stream) -> None:
    await trio.sleep(0.5 + 1 + 2 + 4 + 8 + 5)  # the sixth attempt is due 10 s later
    await stream.stop()


def test_case_55_a_stop_during_an_outage_is_sent_and_its_end_read_at_once() -> None:
    """Stop and resume do not get in each other's way: the next attempt is made at once and reads what the stop made."""

    async def one() -> None:
        service = Fake(FRAMES)
        memory = Memory(service, chain([HALF, *[REFUSED] * 5], repeat(None)))
        async with (
            client_of(memory, jitter=1.0, resume=PATIENT) as client,
            client.chat(HI, on_disconnect="detach") as stream,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(stop_late, stream)
            assert await read_all(stream) == WHOLE
        assert [request.method for request in service.requests] == ["POST", "DELETE", "GET"]
        assert service.requests[1].path == "/runs/r-1"

    assert during(one) == 20.5


def test_a_stop_that_does_not_get_through_is_raised_and_reading_goes_on() -> None:
    async def one() -> None:
        memory = Memory(Fake(FRAMES, [None, answer(404, WORDS)]), [None, None, REFUSED])
        async with client_of(memory) as client, client.chat(HI, on_disconnect="detach") as stream:
            with pytest.raises(Refused):
                await stream.stop()
            with pytest.raises(httpx2.ConnectError):
                await stream.stop()
            assert await read_all(stream) == WHOLE

    during(one)


@pytest.mark.sockets
async def test_a_silent_real_socket_is_a_loss() -> None:
    service = Fake(FRAMES)
    async with served(service, [Cut(HALF.at, How.SILENT)]) as url, Client(url, 0.2, jitter=lambda: 0.0) as client:
        with trio.fail_after(10):
            assert await detached(client) == WHOLE
    assert [request.method for request in service.requests] == ["POST", "GET"]
