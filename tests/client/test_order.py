"""The next frame and no other: what is out of place is an error, said at once, and never a hole or a repeat."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.client import Frame, Interrupted, Misplaced
from sluicegate.client.place import Place, Turn

from ..service.harness import virtually
from .rig import TALK, Cut, Fake, Memory, client_of, decoded, detached, frames_of, read_into, streamed

FRAMES = frames_of(TALK)
WHOLE = decoded(FRAMES)
HALF = Cut(streamed(FRAMES).index(FRAMES[5]))
CAME = 5  # frames until then


def resumed_with(frames: list[bytes]) -> Fake:
    return Fake(FRAMES, [None, streamed(frames)])


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (FRAMES[6:], "frame e0-7 came where e0-6 was due"),
        (frames_of(TALK, "e1")[5:], r"frame e1-6 is not of the run that is read \(epoch e0\)"),
        (frames_of(TALK, "e1"), "frame e1-1 is not of the run"),
        ([*FRAMES[5:8], *FRAMES[9:]], "frame e0-10 came where e0-9 was due"),
        ([FRAMES[5].replace(b"id: e0-6\n", b"")], "'' is not the id of a frame"),
        ([FRAMES[5], FRAMES[6].replace(b"id: e0-7\n", b"")], "without an id of its own, behind e0-6"),
        ([FRAMES[5].replace(b"id: e0-6\n", b"id: 6\n")], "'6' is not the id of a frame"),
        ([FRAMES[5], b"data: [DONE]\n\n"], "not a frame of the native wire"),
        ([FRAMES[5], b"id: e0-7\ndata: nonsense\n\n"], "not a frame of the native wire"),
    ],
    ids=range(9),
)
def test_what_is_not_the_next_frame_is_an_error(frames: list[bytes], words: str) -> None:
    async def one() -> None:
        service = resumed_with(frames)
        memory = Memory(service, [HALF])
        got: list[Frame] = []
        async with client_of(memory) as client, client.chat([], on_disconnect="detach") as stream:
            with pytest.raises(Interrupted, match=words):
                await read_into(got, stream)
            assert [frame async for frame in stream] == [], "it is over"
        assert got == WHOLE[: len(got)]
        assert len(got) >= CAME
        assert len(service.gets) == 1, "asking again would not help"
        assert memory.open == 0

    virtually(one)


@pytest.mark.parametrize("start", range(CAME + 1))
def test_case_56_a_replay_from_further_back_repeats_nothing(start: int) -> None:
    """Such as that of a proxy which drops `Last-Event-ID`."""

    async def one() -> None:
        async with client_of(Memory(resumed_with(FRAMES[start:]), [HALF])) as client:
            assert await detached(client) == WHOLE

    virtually(one)


def test_the_first_frame_is_due_first() -> None:
    async def one() -> None:
        async with client_of(Memory(Fake(FRAMES, [streamed(FRAMES[1:])]))) as client:
            with pytest.raises(Interrupted, match="frame e0-2 came where e0-1 was due"):
                await detached(client)

    virtually(one)


@given(start=st.integers(0, 5), ids=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 9), st.booleans())))
def test_place_is_a_counter(start: int, ids: list[tuple[str, int, bool]]) -> None:
    """Against a model: the epoch is settled by the first frame, new is the next number or a jump ahead."""
    place = Place(f"a-{start}" if start else "")
    epoch, at = ("a", start) if start else (None, 0)
    for of, number, jump in ids:
        before = place.id
        if epoch not in (None, of) or (number > at + 1 and not jump):
            with pytest.raises(Misplaced):
                place.take(f"{of}-{number}", jump=jump)
            assert place.id == before
        elif number <= at:
            assert place.take(f"{of}-{number}", jump=jump) is Turn.SEEN
            assert place.id == before
        else:
            assert place.take(f"{of}-{number}", jump=jump) is Turn.NEXT
            epoch, at = of, number
            assert place.id == f"{of}-{number}"
