"""Sizes in bytes, and surrogate pairs that a provider cut in two."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.deltas import Eof, Finish, FinishReason, TextDelta
from sluicegate.machine.events import PartDelta, PartEnded, PartKind, PartStarted
from sluicegate.machine.parts import GrowingPart, PartState
from sluicegate.machine.reply import Reply
from sluicegate.machine.text import mend, utf8_len
from tests.machine.cutting import cut

HIGH, LOW, GRIN, REPLACED = "\ud83d", "\ude00", "\U0001f600", "\ufffd"


def halves(text: str) -> str:
    """`text` as JSON escapes have it: characters outside the BMP as two surrogates."""
    return "".join(chr(unit) for unit in memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H"))


@given(st.text())
def test_the_size_is_that_of_the_utf8(text: str) -> None:
    assert utf8_len(text) == len(text.encode())


def test_half_a_pair_counts_three_bytes() -> None:
    assert utf8_len(HIGH) == utf8_len(LOW) == 3


@given(st.text(alphabet=st.sampled_from(["a", "é", GRIN, "\U0001f4a9"])), st.lists(st.integers(0, 20), max_size=5))
def test_a_pair_cut_in_two_is_joined_again_wherever_it_was_cut(text: str, at: list[int]) -> None:
    sent = halves(text)
    part = GrowingPart(PartKind.TEXT, 0, None, PartState.OPEN)
    shown = [part.take(piece) for piece in cut(sent, at)]
    assert "".join(shown) == part.text() == text
    assert part.release() == ""


def test_every_short_string_of_halves_can_be_shown_and_shows_no_half() -> None:
    for length in range(1, 5):
        for letters in product(("a", "é", HIGH, LOW), repeat=length):
            part = GrowingPart(PartKind.TEXT, 0, None, PartState.OPEN)
            shown = "".join(part.take(letter) for letter in letters) + part.release()
            pairs = "".join(letters).replace(HIGH + LOW, GRIN)
            assert shown == pairs.replace(HIGH, REPLACED).replace(LOW, REPLACED)
            assert shown == part.text()


def test_mend_holds_back_only_a_high_half_at_the_end() -> None:
    assert mend("abc") == ("abc", "")
    assert mend("é") == ("é", "")
    assert mend("a" + HIGH) == ("a", HIGH)
    assert mend(HIGH + LOW) == (GRIN, "")
    assert mend(LOW + "a") == (REPLACED + "a", "")


def test_words_that_are_only_half_a_character_show_nothing_yet() -> None:
    reply = Reply()
    assert reply.receive(TextDelta(HIGH)) == [PartStarted(0, PartKind.TEXT)]
    assert reply.receive(TextDelta(LOW)) == [PartDelta(0, PartKind.TEXT, GRIN)]


def test_a_half_that_is_left_over_is_shown_before_its_part_ends() -> None:
    reply = Reply()
    reply.receive(TextDelta("a" + HIGH))
    assert reply.receive(TextDelta("b" + HIGH)) == [PartDelta(0, PartKind.TEXT, REPLACED + "b")]
    events = reply.receive(Finish(FinishReason.STOP, "stop")) + reply.receive(Eof())
    assert events == [PartDelta(0, PartKind.TEXT, REPLACED), PartEnded(0, PartKind.TEXT)]
