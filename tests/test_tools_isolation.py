"""Tools in a process of their own: what goes in and comes out is as for other tools, and the process is bounded."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from sluicegate.tools import Isolation, Registry, Tool, ToolContext, ToolLoadError, ToolOutcome, load, tool
from sluicegate.tools.child import MAX_PRINTED_BYTES, MAX_PROGRESS_RATE, Child
from sluicegate.tools.faults import ProcessEnded, ProcessFailed
from sluicegate.tools.isolation import MIN_MEMORY_BYTES, IsolationName
from sluicegate.tools.messages import Decoder, Kind, Malformed, encode, max_bytes
from sluicegate.tools.process import MAX_PROCESSES, process_limiter
from tests import isolated_tools, processes
from tests.shared import CHECKOUT

PROCESS: IsolationName = "process"


def context(published: list[msgspec.Raw] | None = None) -> ToolContext:
    return ToolContext("the call", "the run", published.append if published is not None else None)


async def outcome_of(function: Callable[..., Any], arguments: str = "", **options: Any) -> ToolOutcome:
    with trio.fail_after(30):
        return await tool(**{"isolation": PROCESS, "timeout": 25, **options})(function).call(arguments, context())


# ---------------------------------------------------------------- arguments and results


@pytest.mark.parametrize("made", [isolated_tools.asynchronous, isolated_tools.synchronous], ids=["async", "sync"])
async def test_arguments_arrive_with_their_types(made: Tool[..., Any]) -> None:
    arguments = '{"n": 3.0, "way": {"length": 2.5, "unit": "mile"}}'
    pid, *rest = json.loads((await made.call(arguments, context())).content)
    assert rest == ["int", "Way", {"length": 2.5, "unit": "mile"}, "-", "the call", "the run"]
    assert pid != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("arguments", ["{", "[]", '{"n": "1"}', '{"n": 1, "way": {"length": "x"}}', '{"n":1,"o":1}'])
async def test_invalid_arguments_never_start_a_process(arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.tools.process.Child", lambda: pytest.fail("started"))
    outcome = await isolated_tools.asynchronous.call(arguments, context())
    assert outcome.is_error
    assert "are not valid, it was not run" in outcome.content


async def test_calling_it_is_calling_the_plain_function_here() -> None:
    way = isolated_tools.Way(length=1)
    assert isolated_tools.synchronous(1, way, context())[0] == os.getpid()


@pytest.mark.parametrize(
    ("function", "content"),
    [
        (isolated_tools.nothing, "null"),
        (isolated_tools.standard_input, ""),
        (isolated_tools.reports, "done"),
        (isolated_tools.closes_its_output, "done"),
    ],
)
async def test_results(function: Callable[..., Any], content: str) -> None:
    assert await outcome_of(function) == ToolOutcome(content)


async def test_a_tool_made_of_a_plain_function_is_found_under_any_name() -> None:
    made = Tool(isolated_tools.plain, name="other", isolation=Isolation.PROCESS)
    assert Registry([made]).get("other") is made
    assert await made.call('{"n": 1}', context()) == ToolOutcome("2")


async def test_the_process_leads_its_session_and_inherits_nothing() -> None:
    kept = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        found = json.loads((await outcome_of(isolated_tools.environment)).content)
    finally:
        os.close(kept)
    assert found == {"leads": True, "pipes": 4, "files": []}  # output and error, the protocol, the line to the service


# ---------------------------------------------------------------- failures, in the words of other tools


@pytest.mark.parametrize(
    ("function", "content", "fault"),
    [
        (isolated_tools.speaks, "Try another city.", type(None)),
        (isolated_tools.speaks_twice, "One.\nTwo.", type(None)),
        (isolated_tools.raises, "The tool raises failed (KeyError).", ProcessFailed),
        (isolated_tools.exits, "The tool exits failed (SystemExit).", ProcessFailed),
        (isolated_tools.reports_too_much, "The tool reports_too_much failed (ValueError).", ProcessFailed),
    ],
)
async def test_failures_read_as_in_the_service(
    function: Callable[..., Any], content: str, fault: type[BaseException]
) -> None:
    there = await outcome_of(function)
    here = await outcome_of(function, isolation=Isolation.TASK)
    assert (there.content, there.is_error) == (here.content, here.is_error) == (content, True)
    assert type(there.fault) is fault
    assert (here.fault is None) == (there.fault is None)


async def test_long_words_are_cut() -> None:
    outcome = await outcome_of(isolated_tools.speaks_at_length, max_result_bytes=10_000)
    assert outcome == ToolOutcome("?" + "x" * 9_999, is_error=True)


@pytest.mark.parametrize(
    ("function", "arguments", "how"),
    [
        (isolated_tools.exits_at_once, {"code": 0}, "exit code 0"),
        (isolated_tools.exits_at_once, {"code": 3}, "exit code 3"),
        (isolated_tools.kills_itself, {"number": 11}, "signal 11"),
        (isolated_tools.kills_itself, {"number": 9}, "signal 9"),
    ],
)
async def test_an_unexpected_end_is_told(function: Callable[..., Any], arguments: dict[str, int], how: str) -> None:
    outcome = await outcome_of(function, json.dumps(arguments), name="it")
    assert (outcome.content, outcome.is_error) == (f"The tool it ended unexpectedly ({how}).", True)
    assert isinstance(outcome.fault, ProcessEnded)


async def test_memory_is_bounded() -> None:
    outcome = await outcome_of(isolated_tools.needs_memory, memory_bytes=MIN_MEMORY_BYTES)
    assert outcome.content == "The tool needs_memory failed (MemoryError)."
    assert await outcome_of(isolated_tools.nothing, memory_bytes=MIN_MEMORY_BYTES) == ToolOutcome("null")


async def test_no_process_to_be_had_is_a_failure_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before, children = processes.descriptors(), processes.children()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert (await outcome_of(isolated_tools.nothing)).content == "The tool nothing failed (FileNotFoundError)."
    monkeypatch.undo()
    monkeypatch.setattr(os, "pidfd_open", lambda pid: (_ for _ in ()).throw(OSError("no descriptors")))
    assert (await outcome_of(isolated_tools.nothing)).content == "The tool nothing failed (OSError)."
    assert processes.children() == children
    assert processes.descriptors() <= before + 3  # what Trio keeps for its threads


# ---------------------------------------------------------------- progress and print


async def test_progress_comes_in_order_and_before_the_result() -> None:
    published: list[msgspec.Raw] = []
    made = tool(isolation=PROCESS, timeout=25)(isolated_tools.reports)
    assert (await made.call("", context(published))).content == "done"
    assert [json.loads(bytes(raw)) for raw in published] == [{"number": number} for number in range(5)]


async def test_a_flood_of_progress_is_held_back() -> None:
    published: list[msgspec.Raw] = []
    begun: list[float] = []

    def publish(raw: msgspec.Raw) -> None:
        begun.append(trio.current_time())
        published.append(raw)

    made = tool(isolation=PROCESS, timeout=2.5)(isolated_tools.reports_for_ever)
    await made.call("", ToolContext("call", "run", publish))
    size = sum(len(bytes(raw)) for raw in published)
    assert len(published) > 10
    assert size <= MAX_PROGRESS_RATE * (begun[-1] - begun[0]) + 2 * 65_536


async def test_what_it_prints_is_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    caplog.set_level(logging.INFO)
    await outcome_of(isolated_tools.prints, '{"text": "one\\ntwo \\u001b[1m\\u0000"}')
    start = "tool prints in run the run printed: "
    assert sorted(record.message.removeprefix(start) for record in caplog.records) == sorted(
        ["one", "two [1m", "to stderr", "raw"]
    )


async def test_what_it_prints_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outcome = await outcome_of(isolated_tools.prints_for_ever, timeout=2.5)
    assert "timed out" in outcome.content
    lines = [record.args[-1] for record in caplog.records if isinstance(record.args, tuple)]
    assert lines == ["y"] * (MAX_PRINTED_BYTES // 2)


# ---------------------------------------------------------------- places, and the service's own end


async def test_places_are_bounded_and_waiting_for_one_is_within_the_timeout() -> None:
    limiter = process_limiter()
    assert limiter.total_tokens == MAX_PROCESSES
    limiter.total_tokens = 1
    begun = trio.Event()
    before = len(processes.children())

    async def hold() -> None:
        await tool(isolation=PROCESS, timeout=25)(isolated_tools.hangs).call(
            "", ToolContext("call", "run", lambda raw: begun.set())
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await begun.wait()
        assert len(processes.children()) == before + 1
        outcome = await outcome_of(isolated_tools.nothing, timeout=0.05)
        assert outcome.content == "The tool nothing timed out after 0.05 s."
        with trio.fail_after(20):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(outcome_of, isolated_tools.nothing)
                while not limiter.statistics().tasks_waiting:
                    await trio.lowlevel.checkpoint()
                assert len(processes.children()) == before + 1
                waiting.cancel_scope.cancel()
        assert limiter.statistics().tasks_waiting == 0
        nursery.cancel_scope.cancel()
    assert await outcome_of(isolated_tools.nothing) == ToolOutcome("null")


SERVICE = """
import trio
from sluicegate.tools import ToolContext, tool
from tests import isolated_tools

async def main():
    made = tool(isolation="process", timeout=1_000)(isolated_tools.{name})
    await made.call("", ToolContext("call", "run", lambda raw: print(bytes(raw).decode(), flush=True)))

trio.run(main)
"""


@pytest.mark.parametrize("name", ["hangs", "blocks", "ignores_signals", "forks", "stops_itself"])
async def test_a_killed_service_takes_its_tools_along(name: str) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - a moment, in a test
        [sys.executable, "-c", SERVICE.format(name=name)], stdout=subprocess.PIPE, cwd=CHECKOUT, text=True
    ) as service:
        assert service.stdout is not None
        session = int(await trio.to_thread.run_sync(service.stdout.readline))
        assert session in processes.of_session(session)
        service.kill()
    with trio.fail_after(10):
        while processes.of_session(session):
            await trio.lowlevel.checkpoint()


# ---------------------------------------------------------------- finding the function again

FILE = """
from sluicegate.tools import tool
import neighbour

@tool(isolation="process")
def where() -> str:
    '''Say where it is.'''
    return __name__ + " " + neighbour.NAME

class Group:
    @staticmethod
    def inner() -> str:
        return "inner"

inner = tool(isolation="process")(Group.inner)
tools = [where, inner]
"""


@pytest.mark.parametrize("target", ["my_isolated:tools", "my_isolated.py:tools"])
async def test_tools_loaded_from_the_working_directory(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_isolated.py").write_text(FILE)
    (tmp_path / "neighbour.py").write_text("NAME = 'next door'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("my_isolated", "neighbour"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    registry = load(target)
    monkeypatch.chdir("/")
    module = "my_isolated" if target == "my_isolated:tools" else "sluicegate_tools_file_my_isolated"
    for name, content in {"where": f"{module} next door", "inner": "inner"}.items():
        found = registry.get(name)
        assert found is not None
        assert await found.call("", context()) == ToolOutcome(content)


def local() -> Callable[..., Any]:
    def inner() -> None: ...

    return inner


class Callable_:  # noqa: N801
    async def __call__(self) -> None: ...


def in_main() -> None: ...


in_main.__module__ = "__main__"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (local(), "tool local.<locals>.inner: it is a lambda or is defined inside a function"),
        (lambda: None, "tool <lambda>: it is a lambda or is defined inside a function"),
        (Callable_(), "it is not a function"),
        (in_main, "tool in_main: it is defined in the program itself"),
    ],
)
def test_a_function_that_no_process_could_import_is_refused(function: Callable[..., Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match="define it with def at the top of a module") as caught:
        Tool(function, name="it", isolation=Isolation.PROCESS)
    assert words in str(caught.value)
    Tool(function, name="it")


def test_a_function_that_stands_elsewhere_is_refused_when_tools_are_gathered(tmp_path: Path) -> None:
    (tmp_path / "hidden.py").write_text(
        "from sluicegate.tools import tool\n"
        "def renamed() -> None: ...\n"
        "kept = tool(isolation='process')(renamed)\n"
        "del renamed\n"
    )
    with pytest.raises(ToolLoadError, match="tool renamed: another process would not find it as renamed in the module"):
        load(f"{tmp_path}/hidden.py:kept")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"isolation": "thread"}, "isolation='thread' is not one of 'task', 'process'"),
        ({"memory_bytes": 2**30}, 'memory_bytes needs isolation="process"'),
        ({"isolation": "process", "memory_bytes": 2**20}, "memory_bytes=1048576 must be at least 268435456 bytes"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="tool plain: ") as caught:
        tool(**options)(isolated_tools.plain)
    assert words in str(caught.value)


async def test_a_module_that_fails_in_the_process_is_the_tools_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "fragile.py"
    path.write_text("def fragile() -> None: ...\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    import fragile  # type: ignore[import-not-found]

    path.write_text("1 / 0\n")
    assert (await outcome_of(fragile.fragile)).content == "The tool fragile failed (ZeroDivisionError)."
    assert "ZeroDivisionError: division by zero" in caplog.text
    path.write_text("")
    assert (await outcome_of(fragile.fragile)).content == "The tool fragile failed (TypeError)."


# ---------------------------------------------------------------- the protocol, without processes

LIMIT = 300
SPOKEN = [(Kind.PROGRESS, b"1"), (Kind.PROGRESS, b""), (Kind.CONTENT, b"x" * LIMIT), (Kind.ERROR, b"e"),
          (Kind.FAULT, b"f" * 8_192)]  # fmt: skip


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 6, 7, 100, 100_000])
def test_messages_survive_every_cut(piece: int) -> None:
    data = b"".join(encode(kind, content) for kind, content in SPOKEN)
    decoder = Decoder(LIMIT)
    heard = [got for at in range(0, len(data), piece) for got in decoder.receive(data[at : at + piece])]
    assert heard == SPOKEN


@pytest.mark.parametrize("kind", Kind)
def test_a_message_is_refused_at_its_header(kind: Kind) -> None:
    limit = max_bytes(kind, LIMIT)
    fits = encode(kind, b"x" * limit)
    assert list(Decoder(LIMIT).receive(fits)) == [(kind, b"x" * limit)]
    header = encode(kind, b"x" * (limit + 1))[:5]
    assert list(Decoder(LIMIT).receive(header[:4])) == []
    with pytest.raises(Malformed):
        list(Decoder(LIMIT).receive(header))


@pytest.mark.parametrize("number", sorted({0, 5, 255} - set(Kind)))
def test_an_unknown_kind_is_refused(number: int) -> None:
    with pytest.raises(Malformed):
        list(Decoder(LIMIT).receive(bytes([number, 0, 0, 0, 0])))


@pytest.mark.parametrize(
    ("kind", "data", "content"),
    [
        (Kind.PROGRESS, b"{", "cannot be shown"),
        (Kind.PROGRESS, b"\xff", "cannot be shown"),
        (Kind.CONTENT, b"\xff", "cannot be shown"),
        (Kind.FAULT, b"\xff", "cannot be shown"),
        (Kind.CONTENT, b"forged", "forged"),
    ],
)
async def test_a_process_that_speaks_for_itself(kind: Kind, data: bytes, content: str) -> None:
    outcome = await outcome_of(isolated_tools.says, json.dumps({"data": encode(kind, data).hex()}))
    assert content in outcome.content


# ---------------------------------------------------------------- cost


@pytest.mark.alone
async def test_the_start_of_a_process_is_short(note: Callable[[str], None]) -> None:
    took = []
    for _ in range(6):
        start = trio.current_time()
        assert (await outcome_of(isolated_tools.nothing)).content == "null"
        took.append(trio.current_time() - start)
    best, median = min(took), sorted(took)[len(took) // 2]
    note(f"isolated tool: a call that does nothing takes {median * 1000:.0f} ms (best {best * 1000:.0f} ms)")
    assert median < 2


async def test_a_child_can_be_closed_before_it_was_given_anything() -> None:
    before = processes.descriptors()
    child = await trio.to_thread.run_sync(Child)
    child.kill()
    await child.wait_gone()
    child.close()
    assert child.returncode == -9
    assert processes.descriptors() == before
