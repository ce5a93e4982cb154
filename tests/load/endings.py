"""Every way in which a run can end, each played by a client that checks how it ended."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from sluicegate.machine.errors import ErrorCode
from sluicegate.providers.script import Call, Cut, Fail, Pause, Reply, Reset, Say, Stall, Status, Unreachable
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.deadlines import ABANDONED, NO_FIRST_DELTA, STALLED, STEP_LATE
from sluicegate.runtime.options import RunOptions
from sluicegate.tools import Registry, ToolError, tool
from tests.benchmarks.log import Log
from tests.service.harness import Exchange, Stack

STOPPED: Final = "The run was stopped."
LEFT: Final = "The client disconnected."
WORDS: Final = "one two three four five six seven eight"
_TALK: Final = Say(WORDS)

# What the provider says, reply by reply; the user's question names the script.
SCRIPTS: Final[dict[str, list[Reply]]] = {
    "finished": [[_TALK]],
    "finished behind tools": [[Call("quick", {"number": 1}), Call("quick", {"number": 2})], [_TALK]],
    "tool error": [[Call("failing", {"number": 1})], [_TALK]],
    "tool late": [[Call("late", {"number": 1})], [_TALK]],
    "no such tool": [[Call("missing", {"number": 1})], [_TALK]],
    "status 429": [[Status(429)]],
    "status 500": [[Status(500)]],
    "unreachable": [[Unreachable()]],
    "fail": [[_TALK, Fail()]],
    "cut": [[_TALK, Cut()]],
    "reset": [[_TALK, Reset()]],
    "silent": [[Stall()]],
    "text": [[_TALK, Stall()]],
    "tool": [[Call("hold", {"number": 1}), Call("hold", {"number": 2})], [_TALK]],
    "between": [[Call("quick", {"number": 1})], [Stall()]],
    "paused": [[Say("one two "), Pause(0.5), Say("three four "), Pause(0.5), Say("five")]],
}


def brain(asked: ScriptedRequest) -> Reply:
    """Play the script that the question names."""
    script = SCRIPTS[asked.question]
    return script[1 if asked.results else 0]


def tools() -> Registry:
    """Return the tools of the scripts."""

    @tool
    async def quick(number: int) -> int:
        """Answer at once."""
        await trio.lowlevel.checkpoint()
        return number

    @tool
    async def failing(number: int) -> int:
        """Fail."""
        await trio.lowlevel.checkpoint()
        raise ToolError(f"no {number}")

    @tool(timeout=0.1)
    async def late(number: int) -> int:
        """Take longer than allowed."""
        await trio.sleep_forever()
        return number

    @tool(timeout=3600)
    async def hold(number: int) -> int:
        """Wait for ever."""
        await trio.sleep_forever()
        return number

    return Registry([quick, failing, late, hold])


class Player:
    """Plays endings, drawn one after the other from `seed`; `seen` counts them by name."""

    def __init__(self, stack: Stack, options: RunOptions, seed: int) -> None:
        self.seen: Counter[str] = Counter()
        self.run_ids: list[str] = []
        self._stack = stack
        self._options = options
        self._draw = random.Random(seed)
        self._endings: dict[str, Callable[[], Awaitable[None]]] = {
            **{name: self._whole(name) for name in ("finished", "finished behind tools", "no such tool")},
            **{name: self._whole(name) for name in ("tool error", "tool late")},
            **{name: self._refused(name, code) for name, code in _REFUSALS.items()},
            **{name: self._whole(name, ErrorCode.UPSTREAM_ERROR) for name in ("fail", "cut", "reset")},
            **{f"drop: {name}": self._drop(name) for name in _HELD},
            **{f"stop: {name}": self._stop(name) for name in _HELD},
            "back: text": self._back,
            **{f"expired: {name}": self._expire(name) for name in ("text", "tool")},
            "late: silent": self._late("silent", NO_FIRST_DELTA.message),
            "late: text": self._late("text", STALLED.message),
            "late: between": self._late("between", NO_FIRST_DELTA.message),
            "late: tool": self._late("tool", STEP_LATE.message),
            "bad request": self._bad,
        }

    @property
    def names(self) -> list[str]:
        return list(self._endings)

    async def play(self) -> None:
        """Play one ending."""
        name = self._draw.choice(self.names)
        await self._endings[name]()
        self.seen[name] += 1

    async def _chat(self, script: str, **more: Any) -> Exchange:
        exchange = await self._stack.chat(script, **more)
        await exchange.head()
        if exchange.status == 200:
            self.run_ids.append(exchange.run_id)
        return exchange

    def _whole(self, script: str, code: ErrorCode | None = None) -> Callable[[], Awaitable[None]]:
        async def play() -> None:
            log = _whole_log((await (await self._chat(script)).answer()).body)
            assert log.terminal is not None
            assert log.terminal.get("error", {}).get("code") == code, log.terminal
            assert log.text == WORDS

        return play

    def _refused(self, script: str, code: ErrorCode) -> Callable[[], Awaitable[None]]:
        async def play() -> None:
            answer = await (await self._chat(script)).answer()
            # A machine that is busy enough has sent its head by then, and tells it in an event.
            error = _error(_whole_log(answer.body)) if answer.status == 200 else answer.error
            assert error["code"] == code, answer

        return play

    async def _bad(self) -> None:
        answer = await self._stack.ask("finished", no_such_field=1)
        assert answer.status == 400

    def _drop(self, script: str) -> Callable[[], Awaitable[None]]:
        async def play() -> None:
            exchange = await self._reach(script)
            await exchange.leave()
            await self._check_tail(exchange, LEFT)

        return play

    def _stop(self, script: str) -> Callable[[], Awaitable[None]]:
        async def play() -> None:
            exchange = await self._reach(script)
            assert (await self._stack.delete(exchange.run_id)).status == 204
            assert _error(_whole_log((await exchange.answer()).body))["message"] == STOPPED

        return play

    async def _back(self) -> None:
        exchange = await self._chat("paused", on_disconnect="detach")
        await exchange.until(b"two")
        await exchange.leave()
        heard = b"".join(exchange.writes)
        rest = await self._stack.get(exchange.run_id, _cursor(heard))
        assert rest.status == 200, rest
        log = _whole_log(heard + rest.body)
        assert log.terminal is not None
        assert "done" in log.terminal, log.terminal
        assert log.text == "one two three four five"

    def _expire(self, script: str) -> Callable[[], Awaitable[None]]:
        async def play() -> None:
            exchange = await self._reach(script, on_disconnect="detach")
            driver = self._stack.driver(exchange)
            await exchange.leave()
            while driver.run.terminal is None:  # noqa: ASYNC110  # a reader that waited would be a reader
                await trio.sleep(self._options.grace_seconds / 4)
            await self._check_tail(exchange, ABANDONED.message)

        return play

    def _late(self, script: str, message: str) -> Callable[[], Awaitable[None]]:
        async def play() -> None:
            error = _error(_whole_log((await (await self._chat(script)).answer()).body))
            assert (error["code"], error["message"]) == (ErrorCode.TIMEOUT, message), error

        return play

    async def _reach(self, script: str, **more: Any) -> Exchange:
        """Start a run and read until it is in the phase that its script ends in."""
        exchange = await self._chat(script, **more)
        await exchange.until(_HELD[script])
        return exchange

    async def _check_tail(self, exchange: Exchange, message: str) -> None:
        """The rest of the log is there, behind what was heard, and its terminal has these words."""
        heard = b"".join(exchange.writes)
        rest = await self._stack.get(exchange.run_id, _cursor(heard))
        assert rest.status == 200, rest
        error = _error(_whole_log(heard + rest.body))
        assert (error["code"], error["message"]) == (ErrorCode.CANCELLED, message), error


_REFUSALS: Final = {
    "status 429": ErrorCode.RATE_LIMITED,
    "status 500": ErrorCode.UPSTREAM_ERROR,
    "unreachable": ErrorCode.UPSTREAM_ERROR,
}
_HELD: Final = {  # and by what a client sees that the run is there
    "silent": b'"step":1',
    "text": b"eight",
    "tool": b'"tool_calls"',
    "between": b'"step":2',
}


def _whole_log(body: bytes) -> Log:
    """The log of a whole stream, held against the laws of the wire."""
    log = Log()
    log.feed(body)
    log.check_end()
    return log


def _error(log: Log) -> dict[str, Any]:
    assert log.terminal is not None
    error: dict[str, Any] = log.terminal["error"]
    return error


def _cursor(heard: bytes) -> str:
    ids = [line[4:].decode() for line in heard.split(b"\n") if line.startswith(b"id: ")]
    return ids[-1]
