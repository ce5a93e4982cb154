"""Tools that are tried in a process of their own. Each reports its process id first, as the sign that it has begun."""

import os
import signal
import stat
import sys
import time
from enum import StrEnum
from typing import Annotated, Any

import trio
from pydantic import BaseModel, Field

from sluicegate.tools import ToolContext, ToolError, tool

FOREVER = 1_000.0
MEGABYTE = 1_048_576


class Unit(StrEnum):
    """An enumeration, which JSON has as text."""

    METRE = "metre"
    MILE = "mile"


class Way(BaseModel):
    """A model, which JSON has as an object."""

    length: float
    unit: Unit = Unit.METRE


@tool(isolation="process")
async def asynchronous(n: int, way: Way, context: ToolContext, note: Annotated[str, Field(max_length=9)] = "-") -> Any:
    """Return what it got."""
    await trio.lowlevel.checkpoint()
    return [os.getpid(), type(n).__name__, type(way).__name__, way, note, context.call_id, context.run_id]


@tool(isolation="process")
def synchronous(n: int, way: Way, context: ToolContext, note: Annotated[str, Field(max_length=9)] = "-") -> Any:
    """Return what it got."""
    return [os.getpid(), type(n).__name__, type(way).__name__, way, note, context.call_id, context.run_id]


def plain(n: int) -> int:
    """Not a tool by itself."""
    return n + 1


def nothing() -> None:
    """Return nothing."""


def standard_input() -> str:
    return sys.stdin.read()


def prints(text: str) -> str:
    print(text)
    print("to stderr", file=sys.stderr)
    os.write(1, b"raw\n")
    return "printed"


def closes_its_output() -> str:
    sys.stdout.close()
    return "done"


def environment(context: ToolContext) -> Any:
    """What a process should not have more than it needs: open descriptors, and who leads its group and session."""
    inherited = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    kinds = {fd: stat.S_IFMT(os.fstat(fd).st_mode) for fd in inherited if os.path.exists(f"/proc/self/fd/{fd}")}
    return {
        "leads": os.getpid() == os.getpgrp() == os.getsid(0),
        "pipes": sum(kind == stat.S_IFIFO for kind in kinds.values()),
        "files": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd, kind in kinds.items() if kind == stat.S_IFREG),
    }


def speaks() -> None:
    raise ToolError("Try another city.")


def speaks_twice() -> None:
    raise ExceptionGroup("", [ToolError("One."), ToolError("Two.")])


def speaks_at_length() -> None:
    raise ToolError("\ud800" + "x" * 100_000)


def raises() -> None:
    raise KeyError("canary")


def exits() -> None:
    sys.exit(3)


def exits_at_once(code: int) -> None:
    os._exit(code)


def kills_itself(number: int) -> None:
    os.kill(os.getpid(), number)


def needs_memory() -> int:
    return len(bytearray(1_024 * MEGABYTE))


def reports(context: ToolContext) -> str:
    for number in range(5):
        context.progress({"number": number})
    return "done"


def reports_too_much(context: ToolContext) -> None:
    context.progress("x" * 10_000)


async def hangs(context: ToolContext) -> None:
    context.progress(os.getpid())
    await trio.sleep(FOREVER)


def hangs_in_a_thread(context: ToolContext) -> None:
    context.progress(os.getpid())
    time.sleep(FOREVER)


async def blocks(context: ToolContext) -> None:
    context.progress(os.getpid())
    time.sleep(FOREVER)  # noqa: ASYNC251 - meant


async def shielded(context: ToolContext) -> None:
    context.progress(os.getpid())
    with trio.CancelScope(shield=True):
        await trio.sleep(FOREVER)


async def ignores_signals(context: ToolContext) -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    context.progress(os.getpid())
    await trio.sleep(FOREVER)


async def stops_itself(context: ToolContext) -> None:
    context.progress(os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)


async def forks(context: ToolContext) -> None:
    leader = os.getpid()
    for number in range(20):
        if os.fork() == 0:
            if number % 2 and os.fork():
                os._exit(0)
            time.sleep(FOREVER)  # noqa: ASYNC251 - meant
            os._exit(0)
    context.progress(leader)
    await trio.sleep(FOREVER)


async def forks_for_ever(context: ToolContext) -> None:
    """A chain of forks at full speed: at any time a handful of processes, always new ones."""
    context.progress(os.getpid())
    if os.fork():
        await trio.sleep(FOREVER)
    while True:
        if os.fork():
            os._exit(0)


async def forks_and_returns(context: ToolContext) -> str:
    context.progress(os.getpid())
    if os.fork() == 0:
        time.sleep(FOREVER)  # noqa: ASYNC251 - meant
        os._exit(0)
    return "done"


async def forks_and_dies(context: ToolContext) -> None:
    context.progress(os.getpid())
    if os.fork() == 0:
        time.sleep(FOREVER)  # noqa: ASYNC251 - meant
    os._exit(4)


def gigabyte(context: ToolContext) -> str:
    context.progress(os.getpid())
    return "x" * (1_024 * MEGABYTE)


def prints_for_ever(context: ToolContext) -> None:
    context.progress(os.getpid())
    while True:
        os.write(1, b"y\n" * 32_768)


def reports_for_ever(context: ToolContext) -> None:
    context.progress(os.getpid())
    while True:
        context.progress("x" * 1_000)


def not_json(context: ToolContext) -> object:
    context.progress(os.getpid())
    return object()


async def closes_its_pipes(context: ToolContext) -> None:
    context.progress(os.getpid())
    for fd in pipes():
        os.close(fd)
    await trio.sleep(FOREVER)


def says(context: ToolContext, data: str) -> None:
    """Write bytes of its own to all pipes, the one of the protocol among them."""
    context.progress(os.getpid())
    for fd in pipes():
        os.write(fd, bytes.fromhex(data))
    time.sleep(FOREVER)


def promises_a_gigabyte(context: ToolContext) -> None:
    context.progress(os.getpid())
    out = max(pipes())
    os.write(out, b"\x02\x40\x00\x00\x00")
    while True:
        os.write(out, b"x" * MEGABYTE)


def pipes() -> list[int]:
    """The pipes that can be written to, standard output and error aside."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
        except OSError:
            continue
        with open(f"/proc/self/fdinfo/{fd}") as info:
            flags = int(info.read().split("flags:")[1].split()[0], 8)
        if is_pipe and fd > 2 and flags & os.O_ACCMODE == os.O_WRONLY:
            found.append(fd)
    return found
