"""Readers that stop reading over real sockets: what they hold is bounded, nobody else waits, they are cut off and back.

The same in full, with times and the memory of the process, is `python -m tests.benchmarks.stalled`.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from sluicegate.providers.environment import provider_of
from sluicegate.providers.models import Models
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.transport import TrioTransport
from sluicegate.runtime.feed import ReaderState
from sluicegate.runtime.options import RunOptions
from sluicegate.server.options import ServerOptions
from sluicegate.server.serve import serve
from sluicegate.service.app import Service
from sluicegate.tools import Registry
from tests.benchmarks.faulty_provider import Plan, Provider, running_provider
from tests.benchmarks.links import linked
from tests.benchmarks.log import DONE, Log
from tests.benchmarks.stalling import JSON, Stalled, published

pytestmark = [pytest.mark.sockets, pytest.mark.sweep]

READERS = 60
BESIDE = 20
WORDS, SIZE = 512, 2048  # of a reply, 1 MiB in all
PATIENCE = 60.0
RUN = RunOptions(log_room=64 * 1024, kept_runs=1000, kept_bytes=1024 * 1024 * 1024, max_lateness_seconds=math.inf)
SERVER = ServerOptions(port=0, write_seconds=8.0, send_buffer_bytes=64 * 1024)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Service, Provider, int]]:
    """Provider and service in this process; yields them and the service's port."""
    async with running_provider() as provider:
        upstream = provider_of(
            "openai_chat", UpstreamOptions(), TrioTransport(), "key", f"http://127.0.0.1:{provider.port}/v1"
        )
        service = Service(Models({"openai": upstream}, "openai", "m"), Registry([]), RUN)
        stopped = trio.Event()
        async with trio.open_nursery() as nursery:
            bound = await nursery.start(serve, service.app(), SERVER, service.drain, stopped.wait)
            yield service, provider, int(bound[0].rpartition(":")[2])
            stopped.set()


async def read_beside(port: int) -> None:
    """New clients, one after another: each gets all of its run."""
    for number in range(BESIDE):
        plan, log = Plan(READERS + number, words=50), Log()
        async with linked(port) as link:
            await link.ask("POST", "/chat", JSON, plan.body())
            while data := await link.read():
                log.feed(data)
        log.check_end()
        assert log.text == plan.text


async def test_readers_that_stop_reading_are_bounded_cut_off_and_back() -> None:
    async with serving() as (service, provider, port):
        stalled = Stalled(port)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as opening:
                    for number in range(READERS):
                        opening.start_soon(nursery.start, stalled.come_back, Plan(number, WORDS, size=SIZE))
                feeds = {run_id: driver.feed for run_id in stalled.run_ids if (driver := service.runs.get(run_id))}
                readers = [reader for feed in feeds.values() for reader in feed.readers]
                assert len(readers) == READERS, "cut off before they had time to stall"
                while not all(feed.is_full() for feed in feeds.values()):  # noqa: ASYNC110  # a log fills by itself
                    await trio.sleep(0.01)
                assert {reader.state for reader in readers} == {ReaderState.BLOCKED}
                await read_beside(port)
                assert all(RUN.log_room < feed.held <= published(RUN, SERVER) for feed in feeds.values())
                while not all(reader.state is ReaderState.CLOSED for reader in readers):  # noqa: ASYNC110  # by time
                    await trio.sleep(0.05)
                stalled.read_on()
        assert stalled.seen == {"cut off": READERS, "complete": READERS}
        for run_id, log in stalled.logs.items():
            assert b"".join(frame + b"\n\n" for frame in [*log.frames, DONE]) == b"".join(feeds[run_id].frames)
    assert provider.exchanges == 0
