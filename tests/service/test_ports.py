"""The ports of the service: who asks and what they may, and who hears of runs; per run, never per token."""

import trio

from sluicegate.machine.errors import ErrorCode
from sluicegate.providers.script import Call, Fail, Reply, Say, Stall
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.ledger import MemoryLedger
from sluicegate.runtime.options import RunOptions
from sluicegate.service.access import Caller, RawHeaders
from sluicegate.service.limits import Limits
from sluicegate.service.options import LimitOptions, Rates
from sluicegate.service.problems import Problem

from .harness import JSON, LINKS, Answer, Stack, over, stack

BODY = b'{"messages": [{"role": "user", "content": "Hi"}], "on_disconnect": "detach"}'


class Named:
    """Everybody is who they say in a header. `asked` counts the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.attended = 0

    def identify(self, headers: RawHeaders) -> Caller:
        self.asked += 1
        for name, value in headers:
            if name == b"x-owner":
                return Caller(value.decode(), key=value.decode())
        raise Problem(401, "X-Owner: say who you are.", field="X-Owner", code=ErrorCode.UNAUTHORIZED)

    async def attend(self) -> None:
        self.attended += 1


class Notes:
    """Notes what it hears."""

    def __init__(self) -> None:
        self.started_runs: list[str] = []
        self.ended_runs: list[tuple[str, str]] = []

    def started(self, driver: Driver) -> None:
        assert driver.run.terminal is None
        self.started_runs.append(driver.run.run_id)

    def ended(self, driver: Driver) -> None:
        self.ended_runs.append((driver.run.run_id, type(driver.run.terminal).__name__))


async def ask(up: Stack, method: str, path: str, owner: str, **headers: str) -> Answer:
    named = {"X-Owner": owner} if owner else {}
    body = BODY if method == "POST" else b""
    return await (await up.open(method, path, body, {**JSON, **named, **headers})).answer()


@LINKS
def test_a_run_is_its_owners_and_nobody_else_finds_it(socket: bool) -> None:
    """Not by its id and not by its key, which others may use for runs of theirs; the ledger knows whose it is."""

    async def main() -> None:
        access, ledger = Named(), MemoryLedger()
        key = {"Idempotency-Key": "k"}
        async with stack(lambda _: [Say("Hello.")], socket=socket, access=access, ledger=ledger) as up:
            mine = await ask(up, "POST", "/chat", "me", **key)
            hers = await ask(up, "POST", "/chat", "her", **key)
            assert mine.body != hers.body
            assert (await ask(up, "POST", "/chat", "me", **key)).body == mine.body
            unknown = await ask(up, "GET", "/runs/unknown/events", "her")
            for method, path in (("GET", "/runs/{}/events"), ("DELETE", "/runs/{}")):
                for answer, owner, other in ((mine, "me", "her"), (hers, "her", "me")):
                    run = path.format(answer.header("Run-Id"))
                    refused = await ask(up, method, run, other)
                    assert (refused.status, refused.body) == (404, unknown.body)
                    assert (await ask(up, method, run, owner)).status < 300
            assert (await ask(up, "GET", "/runs/k/events", "me")).body == mine.body
            assert (await ask(up, "GET", "/runs/k/events", "her")).body == hers.body
            assert [settled.owner for settled in ledger.settlements] == ["me", "her"]

    over(socket, main)


@LINKS
def test_who_may_not_is_refused_before_a_run_exists(socket: bool) -> None:
    async def main() -> None:
        access, notes = Named(), Notes()
        limits = Limits(LimitOptions(key=Rates(requests_per_minute=1)))
        script: list[Reply] = [[Say("Hello.")], [Say("Hello.")]]
        async with stack(script, socket=socket, access=access, observers=[notes], limits=limits) as up:
            for method, path in (("POST", "/chat"), ("GET", "/runs/x/events"), ("DELETE", "/runs/x")):
                assert (await ask(up, method, path, "")).status == 401
            assert (await ask(up, "POST", "/chat", "her")).status == 200
            refused = await ask(up, "POST", "/chat", "her")
            assert (refused.status, refused.error["code"]) == (429, "RATE_LIMITED")
            assert (len(up.transport.requests), len(notes.started_runs)) == (1, 1)
            assert (await ask(up, "POST", "/chat", "me")).status == 200
            assert (await ask(up, "GET", "/healthz", "")).status == 200
            assert access.attended == 1

    over(socket, main)


@LINKS
def test_a_full_house_lets_in_who_has_a_run_and_nobody_with_the_same_key(socket: bool) -> None:
    async def main() -> None:
        access = Named()
        key = {"Idempotency-Key": "k"}
        async with stack([[Say("Well "), Stall()]], socket=socket, access=access, run=RunOptions(max_runs=1)) as up:
            mine = await up.open("POST", "/chat", BODY, {**JSON, "X-Owner": "me", **key})
            await mine.until(b"Well")
            for owner in ("her", ""):
                assert (await ask(up, "POST", "/chat", owner, **key)).status == 503
            again = await up.open("POST", "/chat", BODY, {**JSON, "X-Owner": "me", **key})
            await again.until(b"Well")
            assert (await ask(up, "DELETE", "/runs/k", "me")).status == 204
            assert (await mine.answer()).body == (await again.answer()).body

    over(socket, main)


@LINKS
def test_observers_hear_of_every_run_twice_and_of_no_token(socket: bool) -> None:
    async def main() -> None:
        access, notes, more = Named(), Notes(), Notes()
        replies: list[Reply] = [
            [Say("one " * 50)],
            [Call("calculate", {"expression": "1+1"})],
            [Say("It is 2.")],
            [Fail(ErrorCode.UPSTREAM_ERROR)],
        ]
        async with stack(replies, socket=socket, access=access, observers=[notes, more]) as up:
            answers = [await ask(up, "POST", "/chat", "me") for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 200, 503]
            await up.service.runs.wait_none()
            await trio.lowlevel.checkpoint()
        assert [outcome for _, outcome in notes.ended_runs] == ["RunDone", "RunDone", "RunFailed"]
        assert notes.started_runs == [run_id for run_id, _ in notes.ended_runs]
        assert vars(more) == vars(notes)
        assert access.asked <= 2 * len(answers), "once to let in and once as the owner"

    over(socket, main)
