"""Cost is linear: a delta late in a long reply does what one early in it did. Shape only, never time."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

import pytest
import trio
import trio.testing

from sluicegate.machine.deltas import Delta
from sluicegate.machine.events import Event
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.machine.limits import RunLimits
from sluicegate.machine.reply import Reply
from sluicegate.machine.run import Run
from sluicegate.machine.run_inputs import Begin, OpenUpstream, StartTools
from sluicegate.providers.dialects import DIALECTS, dialect_of
from sluicegate.runtime.feed import Feed
from sluicegate.wire.downstream.native import NativeEncoder
from sluicegate.wire.sse import SseDecoder
from tests.benchmarks import parts, streams
from tests.benchmarks.counting import Work, count
from tests.benchmarks.linear import KINDS, ROOMY

T = TypeVar("T")

EARLY, LATE, WINDOW = 1_000, 100_000, 100
LATE_ENOUGH = 20_000  # where what is not Reply is measured
_REQUEST = Request("model", (UserMessage((TextPart("hello"),)),))


def _windows(step: Callable[[T], object], inputs: Sequence[T]) -> tuple[Work, Work]:
    """What `step` does for WINDOW of `inputs`, EARLY and at their end."""
    rest = iter(inputs)

    def skip_to(number: int, done: int) -> None:
        for value in islice(rest, number - WINDOW - done):
            step(value)

    skip_to(EARLY, 0)
    early = count(step, islice(rest, WINDOW))
    skip_to(len(inputs), EARLY)
    return early, count(step, islice(rest, WINDOW))


def _check(early: Work, late: Work) -> None:
    assert early.calls >= WINDOW
    assert early.lines >= WINDOW
    assert late.calls <= early.calls * 1.03, (early, late)
    assert late.lines <= early.lines * 1.03, (early, late)
    # A counter of one more digit, a read of one more byte; a copy of the reply would be a hundred times more.
    assert late.held <= early.held * 1.2 + 64, (early, late)


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_delta_costs_reply_what_an_early_one_did(kind: str) -> None:
    reply = Reply(ROOMY)
    _check(*_windows(reply.receive, KINDS[kind](LATE)[:LATE]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_a_reply_is_linear(kind: str) -> None:
    def end(length: int) -> Work:
        deltas = streams.whole(KINDS[kind](length))
        reply = Reply(ROOMY)
        body = len(deltas) - 3  # Finish, usage and End are measured, then the message
        for delta in deltas[:body]:
            reply.receive(delta)
        steps: list[Callable[[], object]] = [
            lambda: [reply.receive(delta) for delta in deltas[body:]],
            lambda: (reply.message(), reply.message()),
        ]
        return count(lambda step: step(), steps)

    early, late = end(EARLY), end(LATE)
    growth = LATE / EARLY
    # Everything is joined and parsed in C: what Python does must not grow at all.
    assert late.calls <= early.calls * 1.03, (early, late)
    assert late.lines <= early.lines * 1.03, (early, late)
    assert late.held <= early.held * growth * 1.2, (early, late)


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_delta_costs_the_whole_run_what_an_early_one_did(kind: str) -> None:
    run = Run("r", _REQUEST, RunLimits(reply=ROOMY))
    run.receive(Begin())
    feed = Feed(NativeEncoder("e"), 1)
    reader = feed.attach()

    def step(delta: Delta) -> None:
        events: list[Event] = []
        for output in run.receive(delta):
            assert not isinstance(output, OpenUpstream | StartTools)
            events.append(output)
        feed.publish(events)
        _finish(reader.next())

    feed.publish([])
    _check(*_windows(step, KINDS[kind](LATE_ENOUGH)[:LATE_ENOUGH]))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_late_read_costs_a_decoder_what_an_early_one_did(dialect: str, kind: str) -> None:
    decoder = dialect_of(dialect).decoder()
    _check(*_windows(decoder.feed, streams.reads(dialect, KINDS[kind](LATE_ENOUGH)[:LATE_ENOUGH])))


def test_a_byte_of_a_long_event_costs_what_one_of_a_short_event_did() -> None:
    decoder = SseDecoder()
    decoder.feed(b"data: ")
    _check(*_windows(decoder.feed, [b"x"] * LATE_ENOUGH))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_many_events_in_one_read_cost_in_proportion(dialect: str) -> None:
    def whole(length: int) -> Work:
        data = b"".join(streams.reads(dialect, streams.whole(streams.text(length))))
        return count(dialect_of(dialect).decoder().feed, [data])

    early, late = whole(EARLY), whole(EARLY * 10)
    assert late.calls <= early.calls * 10.3, (early, late)
    assert late.lines <= early.lines * 10.3, (early, late)
    assert late.held <= early.held * 12, (early, late)


def _finish(coroutine: object) -> None:
    """Run a coroutine that has nothing to wait for."""
    with pytest.raises(StopIteration):
        coroutine.send(None)  # type: ignore[attr-defined]


def test_a_read_of_a_steady_stream_costs_two_task_steps() -> None:
    """One of the run's task, which takes it off the socket and publishes; one of the reader's, which writes it out."""

    class Steps(trio.abc.Instrument):
        taken = 0

        def before_task_step(self, _task: trio.lowlevel.Task) -> None:
            self.taken += 1

    def steps(length: int) -> int:
        counter = Steps()
        reads = streams.reads("openai_chat", streams.whole(streams.text(length)))
        clock = trio.testing.MockClock(autojump_threshold=0)  # the next read comes when everybody waits
        trio.run(parts.drive, "openai_chat", reads, partial(trio.sleep, 0.02), clock=clock, instruments=[counter])
        return counter.taken

    assert steps(300) - steps(100) == 2 * 200


def test_the_counters_see_a_copy_and_a_scan() -> None:
    said: list[str] = []

    def joins(text: str) -> str:
        said.append(text)
        return "".join(said)

    def scans(text: str) -> int:
        said.append(text)
        return sum(1 for piece in said if piece == text)

    for bad in (joins, scans):
        said.clear()
        with pytest.raises(AssertionError):
            _check(*_windows(bad, ["word"] * (EARLY * 3)))
