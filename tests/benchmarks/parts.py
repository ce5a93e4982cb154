"""CPU microseconds for each event, part by part: `python -m tests.benchmarks.parts [EVENTS]`.

Each figure is the best of several repeats, in turn with the others, for a reply of EVENTS text deltas, one in a
read, as they come from a provider that streams steadily. `x json` compares with the ruler: the standard library's
`json.loads` of one Chat Completions event, in the same process.
"""

import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

import trio

from sluicegate.machine.deltas import Delta
from sluicegate.machine.events import Event, PartDelta, PartKind
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.machine.reply import Reply
from sluicegate.machine.run import Run
from sluicegate.machine.run_inputs import Begin, OpenUpstream, StartTools
from sluicegate.providers.base import NO_TRACE
from sluicegate.providers.dialects import DIALECTS, dialect_of
from sluicegate.runtime.alarms import Alarms
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.feed import Feed
from sluicegate.runtime.options import RunOptions
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from sluicegate.wire.sse import SseDecoder
from sluicegate.wire.upstream.base import Decoder
from tests.routes import route_to

from . import streams

REPEATS = 7
Pause: TypeAlias = Callable[[], Awaitable[object]]
_REQUEST = Request("model", (UserMessage((TextPart("hello"),)),))


class MemoryProvider:
    """A provider whose replies are `reads`; each comes after a `pause`, which is a checkpoint, as from a socket."""

    def __init__(self, dialect: str, reads: list[bytes], pause: Pause) -> None:
        self._dialect = dialect_of(dialect)
        self._reads = reads
        self._pause = pause

    def decoder(self) -> Decoder:
        return self._dialect.decoder()

    def open(
        self, _request: Request, _trace: Mapping[str, str] = NO_TRACE
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AsyncIterator[bytes]]:
        yield _Reads(self._reads, self._pause)

    async def aclose(self) -> None:
        """Nothing to close."""


class _Reads:
    def __init__(self, reads: list[bytes], pause: Pause) -> None:
        self._reads = iter(reads)
        self._pause = pause

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await self._pause()
        for data in self._reads:
            return data
        raise StopAsyncIteration


def _each(function: Callable[[bytes], object], reads: Iterable[bytes]) -> None:
    for data in reads:
        function(data)


def _reply(deltas: list[Delta]) -> None:
    receive = Reply().receive
    for delta in deltas:
        receive(delta)


def _run(deltas: list[Delta]) -> None:
    run = Run("r", _REQUEST)
    run.receive(Begin())
    for delta in deltas:
        run.receive(delta)


def _publish(events: list[Event]) -> None:
    feed = Feed(NativeEncoder("e"), 1 << 30)
    for event in events:
        feed.publish((event,))


def _in_memory(dialect: str, reads: list[bytes]) -> None:
    """All that happens to a read, without Trio: bytes in, frames in the log."""
    run, decoder, feed = Run("r", _REQUEST), dialect_of(dialect).decoder(), Feed(NativeEncoder("e"), 1 << 30)
    run.receive(Begin())
    for data in reads:
        for delta in decoder.feed(data):
            feed.publish(output for output in run.receive(delta) if not isinstance(output, OpenUpstream | StartTools))


def _on_trio(dialect: str, reads: list[bytes]) -> None:
    trio.run(drive, dialect, reads)


async def drive(dialect: str, reads: list[bytes], pause: Pause = trio.lowlevel.checkpoint) -> None:
    """Drive a run over `reads`, with one reader beside it."""
    provider = MemoryProvider(dialect, reads, pause)
    driver = Driver(
        Run("r", _REQUEST),
        route_to(provider, "m"),
        Registry(()),
        Feed(NativeEncoder("e"), 1 << 30),
        RunOptions(linger_seconds=0),
    )
    reader = driver.attach()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.drive, Alarms(nursery))
        while await reader.next() is not None:
            pass
        nursery.cancel_scope.cancel()


def measure(events: int) -> dict[str, float]:
    """Return the microseconds for each event of every part, by name; the ruler is `json.loads`."""
    deltas = streams.whole(streams.text(events))
    plain = streams.as_deltas(deltas)
    shown: list[Event] = [PartDelta(0, PartKind.TEXT, " zeta") for _ in range(events)]
    wires = {dialect: streams.reads(dialect, deltas) for dialect in DIALECTS}
    chat = wires["openai_chat"]
    payloads = [event.data for data in chat for event in SseDecoder().feed(data) if hasattr(event, "data")]
    payloads = [data for data in payloads if data != b"[DONE]"]
    parts: dict[str, Callable[[], object]] = {
        "json.loads": partial(_each, json.loads, payloads),
        "SSE decode": lambda: _each(SseDecoder().feed, chat),
        **{
            f"{dialect} decode (SSE included)": partial(
                lambda dialect: _each(dialect_of(dialect).decoder().feed, wires[dialect]), dialect
            )
            for dialect in DIALECTS
        },
        "Reply": partial(_reply, plain),
        "Run and its Reply": partial(_run, plain),
        "native encode": partial(_encode, shown),
        "publish (encode included)": partial(_publish, shown),
        "whole path in memory": partial(_in_memory, "openai_chat", chat),
        "whole path, driver and reader on Trio": partial(_on_trio, "openai_chat", chat),
    }
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(REPEATS):
        for name, part in parts.items():
            began = time.process_time()
            part()
            best[name] = min(best[name], time.process_time() - began)
    return {name: seconds / events * 1e6 for name, seconds in best.items()}


def _encode(events: list[Event]) -> None:
    frames = NativeEncoder("e").frames
    for event in events:
        frames(event)


def table(figures: dict[str, float]) -> str:
    """Return `figures` as a Markdown table."""
    ruler = figures["json.loads"]
    rows = [f"| {name} | {figure:.2f} | {figure / ruler:.1f} |" for name, figure in figures.items()]
    return "\n".join(["| part | CPU µs per event | x json |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(table(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)))
