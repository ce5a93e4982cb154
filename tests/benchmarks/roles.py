"""What a client of the soak does with its one run: read, leave, come back, stop, stall, ask again; all of it by seed.

Each role holds the run's log against the laws of the wire, and its end against what the plan and the role allow.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

import msgspec
import trio

from tests.benchmarks.faulty_provider import EARLY, Fault, Plan
from tests.benchmarks.links import Link, Lost, linked
from tests.benchmarks.log import Broken, Log
from tests.benchmarks.soak_server import RUN, SERVER

JSON: Final = {"Content-Type": "application/json"}
STOPPED: Final = "The run was stopped."
LEFT: Final = "The client disconnected."
ABANDONED: Final = "The client disconnected and did not come back in time (grace_seconds)."
STALL_BUFFER: Final = 4096
LATE: Final = 5.0  # seconds that the service may be late by when the machine is busy
WEIGHTS: Final = {"read": 4, "drop": 4, "back": 5, "expire": 1, "stop": 3, "stall": 1, "again": 3, "two": 2}
TOOLS: Final = ("quick", "slow", "threaded", "failing", "late")
_CODES: Final = {
    Fault.STATUS_429: "RATE_LIMITED",
    Fault.STATUS_500: "UPSTREAM_ERROR",
    Fault.HANG_UP: "UPSTREAM_ERROR",
    Fault.CUT: "UPSTREAM_ERROR",
    Fault.EOF: "UPSTREAM_ERROR",
    Fault.RESET: "UPSTREAM_ERROR",
    Fault.FAIL: "UPSTREAM_ERROR",
    Fault.SILENT: "TIMEOUT",
}


class Refused(Exception):
    """The run was refused as its plan says, before it had a stream."""


class Client:
    """One run and its client, in `role` or one that is drawn. `seen` counts what came about."""

    def __init__(
        self, port: int, number: int, seed: int, http2_share: float, seen: Counter[str], role: str = ""
    ) -> None:
        self.draw = random.Random(f"{seed}/{number}")
        self.role = role or self.draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.plan = self._plan(number)
        self.log = Log()
        self.key = f"soak-{seed}-{number}"
        self.run_id = self.key
        self.seen = seen
        http2 = self.role != "stall" and self.draw.random() < http2_share
        self._link: Callable[[], AbstractAsyncContextManager[Link]] = partial(linked, port, http2=http2)
        self._stalling = partial(linked, port, receive_buffer=STALL_BUFFER)
        self._hows = ("fin", "rst", "cancel") if http2 else ("fin", "rst")
        seen["over HTTP/2"] += http2

    async def run(self) -> None:
        """Play the role to its end. Raises Broken, Lost."""
        try:
            await getattr(self, f"_{self.role}")()
        except Refused:
            self.seen["refused"] += 1
            return
        if self.log.terminal is not None and self.draw.random() < 0.2:
            await self._check_again()

    def _plan(self, number: int) -> Plan:
        draw = self.draw
        if self.role == "expire":
            return Plan(number, words=400, pause=0.1)
        if self.role in ("stall", "fill"):
            return Plan(number, words=512, size=2048)
        words = draw.randint(20, 120)
        tools = tuple(draw.choice(TOOLS) for _ in range(draw.choice((0, 0, 0, 1, 1, 2))))
        fault = draw.choice(list(Fault)) if draw.random() < 0.4 else Fault.NONE
        return Plan(number, words, draw.uniform(0.02, 0.16) / (1 + len(tools)), 12, tools, fault, draw.randrange(words))

    async def _read(self) -> None:
        async with self._link() as link:
            await self._post(link)
            await self._read_all(link)
        self._check_end()

    async def _fill(self) -> None:
        """Read a long reply; some of them fill what the service keeps of runs that ended."""
        await self._read()

    async def _drop(self) -> None:
        """Leave under `cancel`, and read what is left of the log afterwards."""
        async with self._link() as link:
            await self._post(link)
            await self._leave(link)
        await self._resume()
        self._check_end(LEFT)

    async def _back(self) -> None:
        """Leave under `detach` and come back, some times."""
        async with self._link() as link:
            await self._post(link, on_disconnect="detach")
            await self._leave(link)
        for _ in range(self.draw.randrange(3)):
            await trio.sleep(self.draw.uniform(0, 0.3))
            async with self._link() as link:
                if await self._get(link) == 200:
                    await self._leave(link)
        await trio.sleep(self.draw.uniform(0, 1))
        await self._resume()
        self._check_end()

    async def _expire(self) -> None:
        async with self._link() as link:
            await self._post(link, on_disconnect="detach")
            await self._leave(link, at_most=40)
        await trio.sleep(RUN.grace_seconds + LATE)
        await self._resume()
        self._check_end(ABANDONED, exactly=True)

    async def _stop(self) -> None:
        async with self._link() as link:
            await self._post(link, on_disconnect=self.draw.choice(("cancel", "detach")))
            await self._read_some(link)
            async with self._link() as other:
                await other.ask("DELETE", f"/runs/{self.draw.choice((self.run_id, self.key))}", {}, b"")
                if await other.head() != 204:
                    raise Broken(f"DELETE is answered by {other.status}")
            await self._read_all(link)
        self._check_end(STOPPED)

    async def _stall(self) -> None:
        """Stop reading until the server has had enough, come back, and get all of it."""
        async with self._stalling() as link:
            await self._post(link, on_disconnect="detach")
            await trio.sleep(SERVER.write_seconds + LATE)
            try:
                await self._read_all(link)
            except Lost:
                self.seen["cut off"] += 1
            else:
                raise Broken("a reader that stalls was not cut off")
        await self._resume()
        self._check_end()

    async def _again(self) -> None:
        """Send the same request again under its key, and another one."""
        async with self._link() as link:
            await self._post(link, on_disconnect="detach")
            await self._leave(link)
        async with self._link() as link:
            other = msgspec.structs.replace(self.plan, words=self.plan.words + 1)
            await link.ask("POST", "/chat", {**JSON, "Idempotency-Key": self.key}, other.body())
            if await link.head() != 409:
                raise Broken(f"another request under the same key is answered by {link.status}")
        async with self._link() as link:
            self.log.reconnect()
            after = {"Last-Event-ID": self.log.cursor} if self.log.cursor else {}
            fields = {**JSON, "Idempotency-Key": self.key, **after}
            await link.ask("POST", "/chat", fields, self.plan.body(on_disconnect="detach"))
            if await link.head() == 200:
                await self._read_all(link)
            elif link.status != 204 or self.log.terminal is None:
                raise Broken(f"the same request again is answered by {link.status} behind {self.log.frames[-1:]}")
        self._check_end()

    async def _two(self) -> None:
        """A second reader joins and stays when the first one leaves, under `cancel`."""
        async with self._link() as link:
            await self._post(link)
            await self._read_some(link)
            first, self.log = self.log, Log()
            async with self._link() as second:
                if await self._get(second) != 200:
                    raise Broken(f"a second reader is answered by {second.status}")
                await link.leave(self.draw.choice(self._hows))
                await self._read_all(second)
        if self.log.frames[: len(first.frames)] != first.frames:
            raise Broken("two readers were told different things")
        self._check_end()

    async def _post(self, link: Link, **more: Any) -> None:
        await link.ask("POST", "/chat", {**JSON, "Idempotency-Key": self.key}, self.plan.body(**more))
        status = await link.head()
        if status == 200:
            self.run_id = link.headers["run-id"]
            return
        error = msgspec.json.decode(await _whole(link))["error"]
        if status < 400 or error["code"] != _CODES.get(self.plan.fault) or self._says_something():
            raise Broken(f"refused with {status}: {error}")
        raise Refused

    def _says_something(self) -> bool:
        """Whether the provider says something before its fault; a run that does is never refused by status."""
        return bool(self.plan.tools) or (self.plan.fault not in EARLY and self.plan.at > 0)

    async def _get(self, link: Link) -> int:
        """Ask for the run from behind what is known of it; 204 only where that is all of it."""
        self.log.reconnect()
        after = {"Last-Event-ID": self.log.cursor} if self.log.cursor else {}
        await link.ask("GET", f"/runs/{self.run_id}/events", after, b"")
        status = await link.head()
        if status != 200 and (status != 204 or self.log.terminal is None):
            raise Broken(f"coming back is answered by {status} behind {self.log.frames[-1:]}")
        return status

    async def _resume(self) -> None:
        async with self._link() as link:
            if await self._get(link) == 200:
                await self._read_all(link)

    async def _leave(self, link: Link, at_most: int = 0) -> None:
        await self._read_some(link, at_most)
        await link.leave(self.draw.choice(self._hows))

    async def _read_some(self, link: Link, at_most: int = 0) -> None:
        """Read until some more frames are there, or the terminal is."""
        enough = len(self.log.frames) + self.draw.randint(1, at_most or self.plan.words)
        while len(self.log.frames) < enough and self.log.terminal is None:
            data = await link.read()
            self.log.feed(data)
            if not data:
                self.log.check_end()

    async def _read_all(self, link: Link) -> None:
        while data := await link.read():
            self.log.feed(data)
        self.log.check_end()

    async def _check_again(self) -> None:
        """The log from its start, once more, is the same to the byte."""
        again = Log()
        async with self._link() as link:
            await link.ask("GET", f"/runs/{self.run_id}/events", {}, b"")
            if await link.head() != 200:
                raise Broken(f"the log of an ended run is answered by {link.status}")
            while data := await link.read():
                again.feed(data)
            again.check_end()
        if again.frames != self.log.frames:
            raise Broken("the log is not the same a second time")
        self.seen["read again"] += 1

    def _check_end(self, cancelled: str = "", exactly: bool = False) -> None:
        """The run ended as its plan says; or as CANCELLED with these words, if there are any, `exactly`: only so."""
        terminal = self.log.terminal
        if terminal is None:
            raise Broken("the run has no terminal")
        error = terminal.get("error")
        if not self.plan.text.startswith(self.log.text) or (error is None and self.plan.text != self.log.text):
            raise Broken(f"the words are not what the provider said: {self.log.text[-80:]!r}")
        if error is not None and cancelled and error["code"] == "CANCELLED" and error["message"] == cancelled:
            self.seen["cancelled"] += 1
        elif exactly:
            raise Broken(f"ended with {terminal}, not with {cancelled!r}")
        elif (error["code"] if error is not None else None) != _CODES.get(self.plan.fault):
            raise Broken(f"ended with {terminal}")
        else:
            self.seen["failed" if error is not None else "done"] += 1


async def _whole(link: Link) -> bytes:
    data = b""
    while piece := await link.read():
        data += piece
    return data
