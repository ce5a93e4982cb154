"""Every way in which a run can end, over real sockets: what its provider and its client do, and what comes of it."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec
import trio

from sluicegate.machine.errors import ErrorCode
from tests.benchmarks.log import Log
from tests.load.process import PATIENCE, ask, bearer
from tests.load.provider import HANG_UP, Last, Plan, Provider
from tests.sockets.caller import Answer, Caller, calling

STOP: Final = "stop"


class Act(StrEnum):
    """What the client does. HEAR: all of it. STOP: it stops the run. DROP: it leaves. DROP_EARLY: before it has heard
    the head. EXPIRE: it leaves, and the run was to go on without it. COME_BACK: so, but it comes back.
    """

    HEAR = "hear"
    STOP = "stop"
    DROP = "drop"
    DROP_EARLY = "drop early"
    EXPIRE = "expire"
    COME_BACK = "come back"


class Ending(NamedTuple):
    """`outcome` as the ledger has it; `plan` but for its number; the client acts once it has heard `until`."""

    outcome: str
    plan: Plan
    act: Act = Act.HEAR
    model: str = "plain"
    key: str = "usual"
    until: bytes = b"word"


_PLAN: Final = Plan(0)
_TOOLS: Final = Plan(0, calls=("1+1", "2+2"))
_SILENT: Final = Plan(0, words=0, last=Last.SILENT)
_OPEN: Final = Plan(0, last=Last.SILENT)
_BEHIND_TOOL: Final = Plan(0, words=0, calls=("1+1",), last=Last.SILENT)
_DOWN: Final = Plan(0, refused=(500,) * 9)
_E: Final = ErrorCode

ENDINGS: Final[Mapping[str, Ending]] = {
    "finished": Ending(STOP, _PLAN),
    "finished, another dialect": Ending(STOP, _PLAN, model="claude"),
    "finished, no price": Ending(STOP, _PLAN, model="free"),
    "finished, cost untold": Ending(STOP, Plan(0, last=Last.UNTOLD)),
    "finished behind tools": Ending(STOP, _TOOLS),
    "tools, another dialect": Ending(STOP, _TOOLS, model="claude"),
    "asked again": Ending(STOP, Plan(0, refused=(500,))),
    "another provider": Ending(STOP, Plan(0, refused=(500,)), model="pair"),
    "another provider, tools": Ending(STOP, Plan(0, calls=("3+3",), refused=(HANG_UP,)), model="pair"),
    "refused": Ending(_E.UPSTREAM_ERROR, Plan(0, refused=(400,))),
    "too long": Ending(_E.CONTEXT_LENGTH, Plan(0, refused=(413,))),
    "too many requests": Ending(_E.RATE_LIMITED, Plan(0, refused=(429,) * 9)),
    "provider is down": Ending(_E.UPSTREAM_ERROR, _DOWN),
    "all providers are down": Ending(_E.UPSTREAM_ERROR, _DOWN, model="pair"),
    "provider hangs up": Ending(_E.UPSTREAM_ERROR, Plan(0, refused=(HANG_UP,) * 9)),
    "failed": Ending(_E.UPSTREAM_ERROR, Plan(0, last=Last.FAIL)),
    "failed, another dialect": Ending(_E.UPSTREAM_ERROR, Plan(0, last=Last.FAIL), model="claude"),
    "failed behind a tool": Ending(_E.UPSTREAM_ERROR, Plan(0, calls=("1+1",), last=Last.FAIL)),
    "cut": Ending(_E.UPSTREAM_ERROR, Plan(0, last=Last.CUT)),
    "closed": Ending(_E.UPSTREAM_ERROR, Plan(0, last=Last.EOF)),
    "reset": Ending(_E.UPSTREAM_ERROR, Plan(0, last=Last.RESET)),
    "stopped": Ending(_E.CANCELLED, _OPEN, Act.STOP),
    "stopped, no price": Ending(_E.CANCELLED, _OPEN, Act.STOP, model="free"),
    "stopped before a word": Ending(_E.CANCELLED, _SILENT, Act.STOP, until=b'"step":1'),
    "stopped behind a tool": Ending(_E.CANCELLED, _BEHIND_TOOL, Act.STOP, until=b'"step":2'),
    "left": Ending(_E.CANCELLED, _OPEN, Act.DROP),
    "left, another dialect": Ending(_E.CANCELLED, _OPEN, Act.DROP, model="claude"),
    "left before the head": Ending(_E.CANCELLED, _SILENT, Act.DROP_EARLY),
    "left within tools": Ending(_E.CANCELLED, _BEHIND_TOOL, Act.DROP, until=b'"tool_calls"'),
    "did not come back": Ending(_E.CANCELLED, _OPEN, Act.EXPIRE),
    "came back": Ending(STOP, Plan(0, last=Last.HELD), Act.COME_BACK),
    "silent": Ending(_E.TIMEOUT, _SILENT),
    "silent from the middle on": Ending(_E.TIMEOUT, _OPEN),
    "budget of the run": Ending(_E.BUDGET_EXCEEDED, Plan(0, words=40, size=400, last=Last.SILENT), key="poor"),
    "budget of the day": Ending(_E.BUDGET_EXCEEDED, _PLAN, key="broke"),
    "tool loop": Ending(_E.TOOL_LOOP, Plan(0, calls=("6*7",) * 9)),
}


class Played(NamedTuple):
    """A run that a client asked for."""

    plan: Plan
    ending: Ending


class Player:
    """Plays endings against the service on `port`. `played` has the runs by number, `ids` the ids that clients saw."""

    def __init__(self, provider: Provider, keys: Mapping[str, str]) -> None:
        self.port = 0
        self.seen: Counter[str] = Counter()
        self.played: dict[int, Played] = {}
        self.ids: dict[int, str] = {}
        self.provider = provider
        self._keys = keys

    def plan(self, ending: Ending) -> Plan:
        """Return the plan of a new run."""
        plan = msgspec.structs.replace(ending.plan, number=len(self.played))
        self.played[plan.number] = Played(plan, ending)
        return plan

    def headers(self, ending: Ending) -> dict[str, str]:
        return bearer(self._keys[ending.key])

    async def play(self, name: str) -> None:
        """Play one, and check how it ends for its client."""
        ending = ENDINGS[name]
        plan = self.plan(ending)
        more = {"on_disconnect": "detach"} if ending.act in (Act.EXPIRE, Act.COME_BACK) else {}
        with trio.fail_after(PATIENCE):
            async with calling(self.port) as caller:
                await caller.ask("POST", "/chat", plan.body(model=ending.model, **more), more=self.headers(ending))
                await self._act(caller, plan, ending)
        self.seen[name] += 1

    async def hold(self, caller: Caller, ending: Ending) -> Plan:
        """Start a run and hear its first words."""
        plan = self.plan(ending)
        with trio.fail_after(PATIENCE):
            await caller.ask("POST", "/chat", plan.body(model=ending.model), more=self.headers(ending))
            await self._reach(caller, plan, ending)
        return plan

    async def _act(self, caller: Caller, plan: Plan, ending: Ending) -> None:
        match ending.act:
            case Act.HEAR:
                self._check(await caller.hear_all(), plan, ending)
                return
            case Act.DROP_EARLY:
                await self.provider.books[plan.number].is_asked.wait()
            case _:
                await self._reach(caller, plan, ending)
        match ending.act:
            case Act.STOP:
                target = f"/runs/{caller.run_id}"
                assert (await ask(self.port, "DELETE", target, more=self.headers(ending))).status == 204
                self._check(await caller.hear_all(), plan, ending)
            case Act.COME_BACK:
                await caller.leave("rst")
                more = {**self.headers(ending), "Last-Event-ID": _cursor(bytes(caller.heard))}
                self.provider.books[plan.number].is_released.set()
                rest = await ask(self.port, "GET", f"/runs/{caller.run_id}/events", more=more)
                self._check(rest._replace(body=_whole(bytes(caller.heard)) + rest.body), plan, ending)
            case _:
                await caller.leave("rst" if plan.number % 2 else "fin")

    async def _reach(self, caller: Caller, plan: Plan, ending: Ending) -> None:
        await caller.hear_head()
        try:
            self.ids[plan.number] = caller.run_id
        except KeyError:
            raise AssertionError((plan, ending, await caller.hear_all())) from None
        await caller.hear(0, ending.until)

    def _check(self, answer: Answer, plan: Plan, ending: Ending) -> None:
        """The client was told the outcome that there is to be; it has all words of an answer that is whole."""
        if "run-id" in answer.headers:
            self.ids[plan.number] = answer.headers["run-id"]
        error, text = _told(answer)
        assert error == ("" if ending.outcome == STOP else ending.outcome), (plan, answer)
        if not error:
            assert text == plan.text, (plan, answer)


def _told(answer: Answer) -> tuple[str, str]:
    """The code of the error, "" for none, and all words."""
    if answer.status != 200:
        return msgspec.json.decode(answer.body)["error"]["code"], ""
    log = Log()
    log.feed(answer.body)
    log.check_end()
    terminal: dict[str, Any] = log.terminal or {}
    return terminal.get("error", {}).get("code", ""), log.text


def _whole(heard: bytes) -> bytes:
    """The frames that were heard to their end."""
    return heard[: heard.rfind(b"\n\n") + 2]


def _cursor(heard: bytes) -> str:
    return [line[4:].decode() for line in _whole(heard).split(b"\n") if line.startswith(b"id: ")][-1]
