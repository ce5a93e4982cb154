"""Neither keys nor what people say get out by logs, metrics or error bodies, whatever goes wrong: a canary in both, on
DEBUG, through every fault.
"""

import io
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import pytest
import trio

from sluicegate.providers.demo import demo_brain
from sluicegate.providers.gate import GateOptions
from sluicegate.providers.script import Call, Cut, Fail, Reply, Reset, Say, Stall, Status, Unreachable
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.observers import RunLine
from sluicegate.runtime.options import RunOptions
from sluicegate.service.access import Grants
from sluicegate.service.budgets import Budgets
from sluicegate.service.key_file import KeyFile, KeyRing
from sluicegate.service.keys import make_key
from sluicegate.service.logs import LevelName, LogFormat, LogOptions, configure
from sluicegate.service.options import BudgetOptions, LimitOptions
from sluicegate.tools.context import ToolContext
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from tests.security.rows import COUNTS
from tests.service.harness import DIALECTS, JSON, stack, virtually

SAID = "canary-of-a-user-5f1c"
SECRET = "sk-canary-of-a-provider-93ab"
LONG = RunOptions(first_delta_seconds=5, stall_seconds=5)


class Fault(NamedTuple):
    """What goes wrong: in the provider's reply, or in a tool that the reply calls."""

    reply: Reply
    results: Reply = ()


def _told(error: str) -> bytes:
    return msgspec.json.encode({"error": {"message": f"{error} {SECRET} {SAID}", "type": error, "code": SECRET}})


FAULTS = {
    "none": Fault([Say("Fine.")]),
    "unreachable": Fault([Unreachable()]),
    **{
        f"status {status}": Fault([Status(status, body=_told("bad"))]) for status in (400, 401, 403, 404, 429, 500, 529)
    },
    "no JSON": Fault([Status(500, body=f"<html>{SECRET} {SAID}".encode())]),
    "error in the stream": Fault([Say("Half"), Fail(message=f"{SECRET} {SAID}")]),
    "error before a word": Fault([Fail(message=f"{SECRET} {SAID}", retryable=True)]),
    "not its wire": Fault([f"data: {{{SECRET} {SAID}\n\n".encode(), Cut()]),
    "cut": Fault([Say("Half"), Cut()]),
    "reset": Fault([Say("Half"), Reset()]),
    "silence": Fault([Say("Half"), Stall()]),
    "tool raises": Fault([Call("breaking", {"text": SAID})], [Say("Fine.")]),
    "tool gives what is no JSON": Fault([Call("strange", {"text": SAID})], [Say("Fine.")]),
    "tool is late": Fault([Call("slow", {"text": SAID})], [Say("Fine.")]),
    "no such tool": Fault([Call(SAID, {"text": SAID})], [Say("Fine.")]),
    "arguments of another kind": Fault([Call("breaking", {"number": SAID})], [Say("Fine.")]),
    "arguments that are no JSON": Fault([Call("breaking", f'{{"text": {SAID}')], [Say("Fine.")]),
}
BODIES = [
    b'{"messages": [{"role": "user", "content": "%s"}' % SAID.encode(),
    b'{"messages": [{"role": "%s", "content": "x"}]}' % SAID.encode(),
    b'{"messages": [{"role": "user", "content": {"%s": 1}}]}' % SAID.encode(),
    b'{"messages": [{"role": "user", "content": "%s"}], "temperature": 9}' % SAID.encode(),
    b'{"messages": [{"role": "assistant", "content": "%s"}]}' % SAID.encode(),
    b'\xff{"messages": "%s"}' % SAID.encode(),
]


@tool
async def breaking(text: str) -> str:
    """Breaks."""
    raise RuntimeError(f"{text} {SECRET}")


@tool
async def strange(text: str) -> Any:
    """Gives what nobody can encode."""
    return {text: object(), SECRET: math.nan}


@tool(timeout=1)
async def slow(text: str, context: ToolContext) -> str:
    """Takes its time."""
    await trio.sleep_forever()
    return text


TOOLS = Registry([breaking, strange, slow])


@pytest.fixture(params=list(LogFormat))
def logged(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What `serve` would log on DEBUG."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    handler = configure(LogOptions(request.param, "debug"))
    out = io.StringIO()
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)
    yield out
    root.handlers[:] = before
    root.setLevel(level)


def check(where: str, text: str) -> None:
    for canary in (SAID, SECRET):
        assert canary not in text, f"{canary} in {where}: {text[max(0, text.index(canary) - 300) :][:600]}"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_fault_of_a_provider_or_a_tool_leaks(dialect: str, logged: io.StringIO) -> None:
    async def test() -> None:
        for name, fault in FAULTS.items():

            def brain(asked: ScriptedRequest, fault: Fault = fault) -> Reply:
                return fault.results if asked.results else fault.reply

            for others in ((), (demo_brain,)):
                async with stack(
                    brain, dialect=dialect, tools=TOOLS, run=LONG, others=others, gate=GateOptions(set_aside_after=1)
                ) as served:
                    exchange = await served.chat(SAID, temperature=0.5)
                    answer = await exchange.answer()
                    if answer.status != 200:
                        check(f"the answer to {name}", answer.body.decode())
                    else:
                        told = [frame for frame in answer.frames if "error" in frame]
                        check(f"the answer to {name}", repr(told))
                    metrics = await (await served.open("GET", "/metrics")).answer()
                    check("the metrics", metrics.body.decode())

    virtually(test)
    text = logged.getvalue()
    check("the log", text)
    assert text.count("run ended") == 2 * len(FAULTS) >= COUNTS["log_faults"]


def test_no_bug_of_ours_leaks(logged: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exceptions with a canary in their words, in places where none is expected."""
    bugs: list[tuple[Any, str]] = [(Driver, "_feed_deltas"), (Driver, "_obey"), (Driver, "_attempt")]

    async def test() -> None:
        for owner, name in bugs:
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, _raising)
                async with stack(lambda _: [Say("Fine.")]) as served:
                    answer = await served.ask(SAID)
                    assert answer.error["code"] == "INTERNAL"
                    check("the answer", answer.body.decode())

    virtually(test)
    text = logged.getvalue()
    check("the log", text)
    assert text.count("RuntimeError at") == len(bugs)


def _raising(*_args: object) -> None:
    try:
        int(SAID)
    except ValueError as error:  # whose words have the text
        raise RuntimeError(f"{SECRET} {error}") from error


def test_no_refusal_leaks(logged: io.StringIO, tmp_path: Path) -> None:
    async def test() -> None:
        file = KeyFile(tmp_path / "keys.json")
        key, text = make_key("anna", 0.0, Grants(models=("scripted-demo",)))
        file.add(key)
        budgets = Budgets(LimitOptions(run_budget=BudgetOptions(5)))
        async with stack(lambda _: [Say("Fine.")], access=KeyRing(tmp_path / "keys.json"), budgets=budgets) as served:

            async def ask(body: bytes, authorization: str) -> None:
                headers = {**JSON, "Authorization": authorization}
                answer = await (await served.open("POST", "/chat", body, headers)).answer()
                assert answer.status != 200
                for secret in (authorization, authorization.partition(" ")[2]):
                    assert secret not in answer.body.decode()
                if SAID.encode() not in body[: body.find(b"content")]:
                    check("the answer", answer.body.decode())

            good = msgspec.json.encode({"messages": [{"role": "user", "content": SAID * 9}]})
            for body in (*BODIES, good):
                for authorization in (f"Bearer {text}", f"Bearer {text[:-1]}x", f"Bearer {SECRET}", f"Basic {SECRET}"):
                    await ask(body, authorization)
            logs = logged.getvalue()
            assert text not in logs
            check("the log", logs)

    virtually(test)


@pytest.mark.parametrize("hostile", ["a\r\nb", "a\nINFO fake line", "\x1b[31m", "\u2028x", "\x00", 'quo"te', "a=b c"])
def test_a_line_stays_one_line(hostile: str, logged: io.StringIO) -> None:
    log = logging.getLogger("sluicegate.test")
    log.info("said %s", hostile, extra={"fields": RunLine("r", hostile, "stop", 1.0, 1, 1, 1, owner=hostile)})
    lines = logged.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].isprintable()


@pytest.mark.parametrize("level", get_args(LevelName))
def test_no_line_is_made_that_nobody_hears(level: LevelName) -> None:
    configure(LogOptions(level=level))
    for name, least in (("sluicegate.x", level), ("httpx2", level if level == "error" else "warning")):
        log = logging.getLogger(name)
        made = [each for each in get_args(LevelName) if log.isEnabledFor(getattr(logging, each.upper()))]
        assert made[0] == least


@pytest.mark.parametrize("level", ["debug", "info"])
def test_other_packages_are_heard_from_warnings_on(
    level: str, logged: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    other = logging.getLogger("openai._base_client")
    caplog.set_level(logging.DEBUG, other.name)  # until the end of this test
    getattr(other, level)("Request options: %s", SECRET)
    assert not logged.getvalue()
    other.warning("heard")
    assert "heard" in logged.getvalue()
