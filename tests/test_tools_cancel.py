"""A cancel reaches a tool that waits, wherever the tool runs, through the whole service."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import trio

from sluicegate.providers.script import Call, Say
from sluicegate.tools import Registry, Tool, ToolContext, abandoned_threads, tool
from sluicegate.tools.containment import GRACE
from tests import isolated_tools, processes
from tests.service.harness import eventually, stack

released = threading.Event()


@pytest.fixture
def release() -> Iterator[None]:
    released.clear()
    yield
    released.set()


async def in_a_task(context: ToolContext) -> None:
    """Wait for ever."""
    context.progress(0)
    await trio.sleep_forever()


def in_a_thread(context: ToolContext) -> None:
    """Wait for the test."""
    context.progress(0)
    released.wait()


WAITING: list[Tool[..., Any]] = [
    tool(timeout=1_000)(in_a_task),
    tool(timeout=1_000)(in_a_thread),
    tool(timeout=1_000, isolation="process", name="in_a_process")(isolated_tools.hangs),
    tool(timeout=1_000, isolation="process", name="in_a_process_of_many")(isolated_tools.forks),
]


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("socket", [False, pytest.param(True, marks=pytest.mark.sockets)], ids=["memory", "tcp"])
@pytest.mark.parametrize("verb", ["disconnect", "stop"])
@pytest.mark.parametrize("waiting", WAITING, ids=lambda entry: entry.name)
def test_case_54_a_cancel_interrupts_a_waiting_tool(
    waiting: Tool[..., Any], verb: str, socket: bool, note: Callable[[str], None]
) -> None:
    took = trio.run(interrupt, waiting, verb, socket)
    note(f"case 54: {waiting.name}, {verb} over {'tcp' if socket else 'memory'}: over after {took * 1000:.0f} ms")
    assert took < 2 * GRACE


async def interrupt(waiting: Tool[..., Any], verb: str, socket: bool) -> float:
    """Return how long it took until the run and its tool were over."""
    children = processes.children()
    with trio.fail_after(60):
        async with stack([[Call(waiting.name)], [Say("Never.")]], socket=socket, tools=Registry([waiting])) as up:
            exchange = await up.chat()
            await exchange.until(b'"tool_progress"')
            [session] = [
                msgspec.json.decode(line.removeprefix(b"data: "))["tool_progress"]["data"]
                for line in b"".join(exchange.writes).splitlines()
                if b'"tool_progress"' in line
            ]
            assert not session or processes.of_session(session)
            start = trio.current_time()
            if verb == "disconnect":
                await exchange.leave()
            else:
                await up.delete(exchange.run_id)
            await eventually(lambda: len(up.service.runs) == 0)
            took = trio.current_time() - start
            assert not session or processes.of_session(session) == []
            assert processes.children() == children
            assert abandoned_threads() == (waiting.name == "in_a_thread")
            assert len(up.transport.requests) == 1  # the model is not asked again
            if verb == "stop":
                assert (await exchange.answer()).frames[-1]["error"]["code"] == "CANCELLED"
            released.set()
            await eventually(lambda: abandoned_threads() == 0)
    return took
