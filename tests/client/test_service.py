"""The client against the real service: resumed, stopped, left; in memory on a virtual clock, and over real sockets."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.client import Client, Frame, Gone, Interrupted, Refused, Resume, Transcript
from sluicegate.providers.script import Call, Pause, Reply, Say, Stall, Think
from sluicegate.runtime.options import RunOptions
from sluicegate.service.access import Grants
from sluicegate.service.key_file import KeyFile, KeyRing
from sluicegate.service.keys import make_key
from sluicegate.service.options import ServiceOptions

from ..service.harness import DONE, LINKS, Stack, eventually, over, stack, virtually
from .rig import HI, Cut, How, decoded, read_all
from .service_rig import StackTransport, asking

REPLIES: list[Reply] = [
    [Think("Well. "), Say("One moment. "), Call("calculate", {"expression": "6*7"})],
    [Say("It is 42, é😀.")],
]


def logged(body: bytes) -> list[Frame]:
    """The frames of a whole response."""
    return decoded(body.removesuffix(DONE).split(b"\n\n")[:-1])


async def check(up: Stack, cuts: Sequence[Cut | None], upstream: int) -> None:
    """A chat over connections that are cut brings what the service has in its log, and asks the provider no more."""
    asked = len(up.transport.requests)
    async with asking(up, cuts) as client:
        async with client.chat(HI, on_disconnect="detach") as stream:
            frames = await read_all(stream)
        assert frames == logged((await up.get(stream.run_id)).body), cuts
    assert frames[-1].finish_reason == "stop"
    assert len(up.transport.requests) == asked + upstream, cuts


@pytest.mark.sweep
@LINKS
def test_a_cut_anywhere_changes_nothing(socket: bool, note: Callable[[str], None]) -> None:
    count = 0

    async def every_cut() -> None:
        nonlocal count
        async with stack([reply for _ in range(2_000) for reply in REPLIES], socket=socket) as up:
            size = len((await up.ask()).body) + 300 * socket  # a socket's cuts may fall into the head, too
            for at in range(0, size, 23 if socket else 5):
                with trio.fail_after(20):
                    await check(up, [Cut(at, How.RESET if at % 2 else How.CLOSED)], len(REPLIES))
                count += 1

    over(socket, every_cut)
    assert count > 60
    note(f"client: {count} positions of a cut before the service ({'sockets' if socket else 'memory'})")


@given(
    cuts=st.lists(st.builds(Cut, st.integers(0, 3_000), st.sampled_from([How.CLOSED, How.RESET])), max_size=12),
    rate=st.sampled_from([0.0, 3.0]),
)
@settings(max_examples=40)
def test_cuts_at_many_places_of_a_paced_reply_change_nothing(cuts: list[Cut], rate: float) -> None:
    async def one() -> None:
        async with stack([[Say("word " * 20, rate=rate), Call("calculate", {"expression": "1"})], [Say("End.")]]) as up:
            await check(up, cuts, 2)

    virtually(one)


def test_case_58_what_was_missed_comes_before_the_end() -> None:
    """The run ends while nobody reads; who comes back reads the tail first, then the terminal."""

    async def one() -> None:
        ended: list[bool] = []
        async with stack([[Say("word " * 20, rate=5)]]) as up:
            transport = StackTransport(up, [Cut(400)])
            transport.on_request = lambda: ended.append(len(up.service.runs) == 0)
            late = Resume(first_delay=20, max_delay=20)
            async with (
                Client("http://service", transport=transport, resume=late, jitter=lambda: 1.0) as client,
                client.chat(HI, on_disconnect="detach") as stream,
            ):
                frames = await read_all(stream)
                assert frames == logged((await up.get(stream.run_id)).body)
            assert "".join(frame.content or "" for frame in frames) == "word " * 20
            assert ended == [True, True], "there was no run before the first request, and none left before the second"

    virtually(one)


def test_heartbeats_keep_a_silent_run_connected() -> None:
    """A minute and a half before the first word: no loss, no second request."""

    async def one() -> None:
        async with stack([[Pause(90.0), Say("At last.")]]) as up:
            transport = StackTransport(up)
            async with (
                Client("http://service", transport=transport) as client,
                client.chat(HI, on_disconnect="detach") as stream,
            ):
                frames = await read_all(stream)
            assert frames[-1].done
            assert transport.methods == ["POST"]

    virtually(one)


@LINKS
def test_leaving_a_detached_stream_only_disconnects(socket: bool) -> None:
    """Another reads on from there; a stop ends the run for both."""

    async def one() -> None:
        async with stack([[Say("Half"), Stall()]], socket=socket) as up, asking(up) as client:
            async with client.chat(HI, on_disconnect="detach", idempotency_key="mine") as stream:
                async for frame in stream:
                    if frame.content:
                        break
            run_id, after = stream.run_id, stream.after
            assert up.transport.active == 1
            async with client.events(run_id, after) as other, client.events("mine") as third:
                await other.stop()
                (last,) = await read_all(other)
                assert (last.error or {})["code"] == "CANCELLED"
                everything = await read_all(third)
                assert everything[-1] == last
                assert [frame.content for frame in everything if frame.content] == ["Half"]
            async with client.events(run_id, last.id) as nothing:
                assert await read_all(nothing) == []
            await eventually(lambda: len(up.service.runs) == 0)

    over(socket, one)


def test_a_stop_while_the_connection_is_lost_ends_the_run() -> None:
    async def one() -> None:
        async with stack([[Say("Half"), Stall()]]) as up:
            lost = trio.Event()
            async with (
                asking(up, [Cut(150)], jitter=lambda: 1.0, on_lost=lambda *_: lost.set()) as client,
                client.chat(HI, on_disconnect="detach", resume=Resume(first_delay=20, max_delay=20)) as stream,
                trio.open_nursery() as nursery,
            ):
                began = trio.current_time()

                async def stop() -> None:
                    await lost.wait()
                    await trio.sleep(3)
                    await stream.stop()
                    assert up.transport.active == 0

                nursery.start_soon(stop)
                frames = await read_all(stream)
                assert (frames[-1].error or {})["code"] == "CANCELLED"
                assert trio.current_time() - began < 4

    virtually(one)


def test_who_comes_back_too_late_is_told_so() -> None:
    """Behind the grace period the run is over, and its terminal says why."""

    async def one() -> None:
        run = RunOptions(grace_seconds=10)
        late = Resume(first_delay=11, max_delay=11)
        async with (
            stack([[Say("Half"), Stall()]], run=run) as up,
            asking(up, [Cut(150)], jitter=lambda: 1.0, resume=late) as client,
            client.chat(HI, on_disconnect="detach") as stream,
        ):
            frames = await read_all(stream)
        assert (frames[-1].error or {})["code"] == "CANCELLED"
        assert "grace_seconds" in (frames[-1].error or {})["message"]

    virtually(one)


def test_a_service_that_restarted_does_not_know_the_run() -> None:
    async def one() -> None:
        async with stack([[Say("Half"), Stall()]]) as old, stack([[Say("Other.")]]) as new:
            transport = StackTransport(old, [Cut(150)])

            def restart(_reason: str, _seconds: float) -> None:
                transport.up = new

            async with Client("http://service", transport=transport, on_lost=restart) as client:
                with pytest.raises(Gone, match="the run is gone"):
                    async with client.chat(HI, on_disconnect="detach") as stream:
                        await read_all(stream)
            assert new.transport.requests == []
            await old.delete(stream.run_id)

    virtually(one)


def test_a_log_that_outgrew_its_room_comes_as_a_snapshot() -> None:
    """The transcript of who missed much is that of who missed nothing."""

    async def one() -> None:
        run = RunOptions(log_bytes=2_000)
        replies: list[Reply] = [
            [Think("Well. "), Say("word " * 100, rate=10), Call("calculate", {"expression": "6*7"})],
            [Say("It is 42, é😀.")],
        ]
        async with stack(replies, run=run) as up:
            late = Resume(first_delay=8, max_delay=8)
            async with asking(up, [Cut(400)], jitter=lambda: 1.0, resume=late) as client:
                missed, whole = Transcript(), Transcript()

                async def read_whole(run_id: str) -> None:
                    async with client.events(run_id) as stream:
                        async for frame in stream:
                            assert frame.gap is None
                            whole.add(frame)

                async with trio.open_nursery() as nursery, client.chat(HI, on_disconnect="detach") as stream:
                    nursery.start_soon(read_whole, stream.run_id)
                    gaps = 0
                    async for frame in stream:
                        gaps += frame.gap is not None
                        assert missed.add(frame)
        assert gaps == 1
        assert missed.text == whole.text == "word " * 100 + "It is 42, é😀."
        assert missed.reasoning == whole.reasoning == "Well. "
        assert [(call.id, call.arguments, call.result) for call in missed.calls] == [
            (call.id, call.arguments, call.result) for call in whole.calls
        ]
        assert missed.ended
        assert whole.ended

    virtually(one)


def test_under_cancel_a_lost_connection_is_the_end_and_its_tail_can_be_read() -> None:
    async def one() -> None:
        async with stack([[Say("Half"), Stall()]]) as up, asking(up, [Cut(150)]) as client:
            with pytest.raises(Interrupted) as caught:
                async with client.chat(HI) as stream:
                    await read_all(stream)
            async with client.events(caught.value.run_id, caught.value.after) as tail:
                frames = await read_all(tail)
            assert (frames[-1].error or {})["code"] == "CANCELLED"
            assert frames == logged((await up.get(stream.run_id)).body)[-len(frames) :]

    virtually(one)


def test_a_service_without_detach_says_which_field_it_refuses() -> None:
    async def one() -> None:
        async with stack(REPLIES, options=ServiceOptions(detach=False)) as up, asking(up) as client:
            with pytest.raises(Refused) as caught:
                async with client.chat(HI, on_disconnect="detach"):
                    pass
            assert (caught.value.status, caught.value.error["field"]) == (400, "on_disconnect")

    virtually(one)


@pytest.mark.sockets
async def test_the_client_brings_its_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, text = make_key("anna", 0.0, Grants(models=("other-model",)))
    KeyFile(path).add(key)
    messages = [{"role": "user", "content": "Hi"}]
    async with stack([[Say("Hello.")]], socket=True, access=KeyRing(path)) as served:
        async with Client(served.url, api_key=text) as client, client.chat(messages) as stream:
            frames = [frame async for frame in stream]
        assert "".join(frame.content or "" for frame in frames) == "Hello."
        assert served.transport.requests[0].model == "other-model", "the only one that it may ask for"
        for wrong in ("", text[:-1]):
            with pytest.raises(Refused, match="send a valid key"):
                async with Client(served.url, api_key=wrong) as client, client.chat(messages):
                    pass
