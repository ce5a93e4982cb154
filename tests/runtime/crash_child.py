"""`python -m tests.runtime.crash_child POINT DIRECTORY`: drives runs on a spool until it is killed at the point.

Beside the spool it leaves two files, written before the fact is acted on: `reached` has the runs whose request went to
the provider, `heard` those whose reader got the end. Exits 0 if the point was never met.
"""

import os
import re
import sys
from pathlib import Path

import httpx2
import trio

from sluicegate.machine.deltas import Usage
from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.machine.run import Run
from sluicegate.providers.environment import provider_of
from sluicegate.providers.script import Call, Reply, Say
from sluicegate.providers.scripted import ScriptedTransport
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.feed import Feed
from sluicegate.runtime.ledger import Intent, Settlement, Source
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.runs import Runs
from sluicegate.runtime.spool import Spool
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from tests.routes import route_to
from tests.runtime.crash import FILLERS, POINTS, Crash, Point

STOP = RunError(ErrorCode.CANCELLED, "The run was stopped.")
_RUN = re.compile(rb"I am (run-\d+)")


class Witness:
    """A file of lines that are with the system when `note` returns."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, run_id: str) -> None:
        os.write(self._descriptor, f"{run_id}\n".encode())


class Transport(httpx2.AsyncBaseTransport):
    """The scripted provider, which tells the witness and the crash what comes by."""

    def __init__(self, crash: Crash, reached: Witness) -> None:
        self._crash = crash
        self._reached = reached
        self._scripted = ScriptedTransport(brain)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        asks = _RUN.search(await request.aread())
        assert asks is not None
        self._reached.note(asks[1].decode())
        self._crash.meet("request")
        response = await self._scripted.handle_async_request(request)
        self._crash.meet("head")
        return response


def brain(asked: ScriptedRequest) -> Reply:
    """Two steps; the first one calls two tools."""
    if asked.results:
        return [Say("It is 18 degrees.")]
    return [Say("Let me look."), Call("look", {"city": "Oslo"}), Call("look", {"city": "Rome"})]


def fill(spool: Spool) -> None:
    """Runs of long ago."""
    for number in range(FILLERS):
        spool.intend(Intent(f"filler-{number}", "", "m", 1))
        spool.settle(Settlement(f"filler-{number}", "", "m", 1, Usage(1, 1), Source.PROVIDER, "stop"))


async def drive(point: Point, spool: Spool, crash: Crash, directory: Path) -> None:
    """Drive the runs of `point` side by side, each with a reader."""
    reached, heard = Witness(directory / "reached"), Witness(directory / "heard")
    drivers: list[Driver] = []

    @tool
    async def look(city: str) -> str:
        """Look, and perhaps stop the run."""
        crash.meet("tool begins")
        await trio.sleep(0.001)
        crash.meet("tool runs")
        if point.stopped:
            drivers[0].cancel(STOP)
        await trio.sleep(0.001)
        return city

    async def read(driver: Driver) -> None:
        reader = driver.attach()
        while await reader.next() is not None:
            pass
        heard.note(driver.run.run_id)

    registry = Registry([look])
    base_url = "http://scripted.invalid/v1"
    provider = provider_of(
        "openai_chat", UpstreamOptions(max_retries=0), Transport(crash, reached), "scripted", base_url
    )
    options = RunOptions()
    async with trio.open_nursery() as nursery:
        runs = Runs(nursery, options, spool)
        for number in range(point.runs):
            run_id = f"run-{number}"
            request = Request("m", (UserMessage((TextPart(f"I am {run_id}"),)),), registry.specs())
            run = Run(run_id, request, None, registry.eager)
            feed = Feed(NativeEncoder("e"), options.log_room)
            driver = Driver(run, route_to(provider, "m"), registry, feed, options, spool)
            drivers.append(driver)
            nursery.start_soon(read, driver)
            runs.start(driver)
        await runs.wait_none()
        nursery.cancel_scope.cancel()
    await provider.aclose()


def main(name: str, directory: Path) -> None:
    """Live and, if all goes as planned, do not come back."""
    point = POINTS[name]
    crash = Crash(point)
    crash.hook()
    crash.armed = not point.runs
    spool = Spool(point.options(directory / "spool"))
    if point.segment_bytes and point.runs:
        fill(spool)
    crash.armed = True
    if point.runs:
        trio.run(drive, point, spool, crash, directory)
    spool.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
