"""`path.walk` is the driver: the same reads through `runtime.driver.Driver` give the same run."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import pytest
import trio
import trio.testing

from sluicegate.machine.events import Event, ToolActivity, ToolResult
from sluicegate.machine.history import Request
from sluicegate.machine.run import Run
from sluicegate.providers.base import NO_TRACE
from sluicegate.runtime.alarms import Alarms
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.feed import Feed
from sluicegate.runtime.options import RunOptions
from sluicegate.tools.context import ToolContext, ToolOutcome
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from sluicegate.wire.upstream.base import Decoder
from tests import shared
from tests.laws import pieces
from tests.path import path
from tests.routes import route_to


class Recorder(NativeEncoder):
    """The native wire; keeps the events too."""

    def __init__(self) -> None:
        super().__init__(path.EPOCH)
        self.events: list[Event] = []

    def frames(self, event: Event) -> list[bytes]:
        # A tool's words for people come from the tool, not from the provider's bytes.
        if isinstance(event, ToolActivity):
            return []
        self.events.append(event)
        return super().frames(event)


class Provider:
    """Says the replies that it was given, one per request."""

    def __init__(self, dialect: str, replies: Iterator[Sequence[bytes]]) -> None:
        self._dialect = dialect
        self._replies = replies

    def decoder(self) -> Decoder:
        return path.DECODERS[self._dialect]()

    @asynccontextmanager
    async def open(self, request: Request, _trace: Mapping[str, str] = NO_TRACE) -> AsyncIterator[AsyncIterator[bytes]]:
        assert request.model == path.REQUEST.model
        yield self._said(next(self._replies))

    async def _said(self, reads: Sequence[bytes]) -> AsyncIterator[bytes]:
        for read in reads:
            await trio.lowlevel.checkpoint()
            yield read

    async def aclose(self) -> None:
        """Nothing to close."""


class AnyTool:
    """A tool of any name."""

    def activity_text(self, arguments: str) -> str:
        return arguments

    async def call(self, arguments: str, context: ToolContext) -> ToolOutcome:
        await trio.lowlevel.checkpoint()
        return ToolOutcome(path.TOOL_RESULT)


class AnyRegistry(Registry):
    def get(self, name: str) -> Any:
        return AnyTool()


async def drive(dialect: str, reads: Sequence[bytes]) -> path.Walk:
    def replies() -> Iterator[Sequence[bytes]]:
        yield reads
        while True:
            yield [path.FOLLOW_UPS[dialect]]

    recorder = Recorder()
    run = Run(path.RUN_ID, path.REQUEST)
    feed = Feed(recorder, 1 << 30)
    driver = Driver(run, route_to(Provider(dialect, replies()), path.REQUEST.model), AnyRegistry(), feed, RunOptions())
    async with trio.open_nursery() as nursery:
        await driver.drive(Alarms(nursery))
        nursery.cancel_scope.cancel()
    return path.Walk(recorder.events, b"".join(feed.frames), run.messages, run.usage)


def in_order_of_calls(events: Sequence[Event]) -> list[Event]:
    """`events` with the tool results that follow each other sorted: parallel tools end in any order."""
    out: list[Event] = []
    for is_result, group in groupby(events, lambda event: isinstance(event, ToolResult)):
        run = list(group)
        out += sorted(run, key=repr) if is_result else run
    return out


@pytest.mark.parametrize("size", [31, 1500, None])
@pytest.mark.parametrize("dialect", sorted(path.FOLLOW_UPS))
async def test_the_walk_is_the_driver(dialect: str, size: int | None, autojump_clock: trio.testing.MockClock) -> None:
    """Under a clock that jumps, so that a driver that waits for nothing ends as TIMEOUT and differs."""
    tools = 0
    for stream in shared.streams(dialect)[::9]:
        data = stream.read()
        reads = pieces(data, range(size, len(data), size)) if size else [data]
        walked, driven = path.walk(dialect, reads), await drive(dialect, reads)
        assert in_order_of_calls(driven.events) == in_order_of_calls(walked.events), stream.name
        assert (driven.messages, driven.usage) == (walked.messages, walked.usage), stream.name
        assert sorted(map(repr, path.frames_of(driven.wire))) == sorted(map(repr, path.frames_of(walked.wire)))
        tools += sum(isinstance(event, ToolResult) for event in driven.events)
    assert tools, "no stream of these called a tool"
