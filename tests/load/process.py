"""A real `sluicegate serve` with a file of settings, its log read line by line while it goes on, and its metrics."""

import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from prometheus_client.parser import text_string_to_metric_families

from sluicegate.service.access import Grants
from sluicegate.service.key_file import KeyFile
from sluicegate.service.keys import NewKey, make_key
from tests.service.test_metrics import Scraped
from tests.sockets.caller import Answer, calling
from tests.test_cli import serving

PATIENCE: Final = 120.0  # seconds for whatever has to come


class Process:
    """One that runs. `ended` has the log's line of each run that has ended, by its id; `others` all other lines."""

    def __init__(self, process: trio.Process, port: int) -> None:
        self.port = port
        self.ended: dict[str, dict[str, Any]] = {}
        self.others: list[str] = []
        self._process = process
        self._more = trio.Event()
        self._eof = trio.Event()

    async def read(self) -> None:
        """Read what it prints, to the end."""
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(line.decode())
            self._more.set()
            self._more = trio.Event()
        assert not rest, "it was cut off within a line"
        self._eof.set()

    async def wait_ended(self, count: int) -> None:
        """Wait until the log has the end of so many runs."""
        with trio.fail_after(PATIENCE):
            while len(self.ended) < count:
                await self._more.wait()

    async def scrape(self, key: str) -> Scraped:
        """Return what its metrics say."""
        answer = await ask(self.port, "GET", "/metrics", key=key)
        assert answer.status == 200, answer
        text = answer.body.decode()
        return Scraped(text, list(text_string_to_metric_families(text)))

    async def wait_draining(self) -> None:
        """Wait until it takes no new run."""
        with trio.fail_after(PATIENCE):
            while (await ask(self.port, "GET", "/readyz")).status == 200:
                pass

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait until it is gone and all that it printed is read; return its exit code."""
        with trio.fail_after(PATIENCE):
            await self._eof.wait()
            return await self._process.wait()

    def _take(self, line: str) -> None:
        if line.startswith("{"):
            found = json.loads(line)
            if found["message"] == "run ended":
                assert found["run_id"] not in self.ended, "a run ended twice"
                self.ended[found["run_id"]] = found
                return
        self.others.append(line)


async def ask(
    port: int, method: str, target: str, body: bytes = b"", key: str = "", more: Mapping[str, str] | None = None
) -> Answer:
    """Return the whole answer to a request on a connection of its own."""
    async with calling(port) as caller:
        await caller.ask(method, target, body, more={**bearer(key), **(more or {})})
        return await caller.hear_all()


def bearer(key: str) -> dict[str, str]:
    """Return the headers that bring `key`, none for ""."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def make_keys(file: Path, grants: Mapping[str, Grants]) -> dict[str, NewKey]:
    """Write a key for each owner in `grants`; return them by owner."""
    made = {owner: make_key(owner, 0.0, each) for owner, each in grants.items()}
    for each in made.values():
        KeyFile(file).add(each.key)
    return made


@asynccontextmanager
async def running(config: Path) -> AsyncIterator[Process]:
    """Start one with the settings in `config`; it is killed at the end if it has not ended."""
    async with serving("--config", str(config)) as served, trio.open_nursery() as nursery:
        process = Process(served.process, served.port)
        nursery.start_soon(process.read)
        try:
            yield process
        except BaseException:
            print(*process.others, sep="\n")  # of what went wrong there, too
            raise
        nursery.cancel_scope.cancel()
