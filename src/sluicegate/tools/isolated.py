"""The process of an isolated tool: takes one job from standard input, runs it, says how it went, and is gone.

Standard input stays open as long as the service lives. When its other end closes, the kernel kills the group of this
process, whatever runs in it then. (PR_SET_PDEATHSIG would not do: it ends with the thread that started the process.)
"""

import contextlib
import fcntl
import importlib
import math
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, cast

import trio

from .context import ToolContext
from .function import Tool, function_at
from .loading import import_file
from .messages import Job, Kind, encode, max_bytes, read_job
from .text import encodable


def main(out: int) -> NoReturn:
    """Run the job on standard input and write messages to the descriptor `out`; ends the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory runs out, this and not the service
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    job = read_job(_read)
    _die_with_the_service()
    if job.memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (job.memory_bytes, job.memory_bytes))
    kind, words = _outcome(job, out)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # the tool may have closed or replaced it
            stream.flush()
    _write(out, kind, encodable(words, max_bytes(kind, job.max_result_bytes)).encode())
    os._exit(0)  # nothing of the tool, no thread and no exit handler, may keep the process


def _outcome(job: Job, out: int) -> tuple[Kind, str]:
    try:
        tool = _tool(job)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return Kind.FAULT, f"The tool {job.name} failed ({type(error).__name__})."

    async def call() -> tuple[Kind, str]:
        context = ToolContext(job.call_id, job.run_id, lambda raw: _write(out, Kind.PROGRESS, bytes(raw)))
        outcome = await tool.call(job.arguments, context)
        if not outcome.is_error:
            return Kind.CONTENT, outcome.content
        return Kind.ERROR if outcome.fault is None else Kind.FAULT, outcome.content

    return trio.run(call)


def _tool(job: Job) -> Tool[..., object]:
    if job.place.file:
        import_file(Path(job.place.file))
    else:
        importlib.import_module(job.place.module)
    function = function_at(job.place)
    return Tool(
        cast(Callable[..., object], function), name=job.name, timeout=math.inf, max_result_bytes=job.max_result_bytes
    )


def _die_with_the_service() -> None:
    line = os.dup(0)
    fcntl.fcntl(line, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([line], [], [], 0)[0]:
        os._exit(1)  # it was gone before
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        read = os.read(0, size - len(data))
        if not read:
            os._exit(1)  # the service is gone
        data += read
    return data


def _write(out: int, kind: Kind, data: bytes) -> None:
    rest = memoryview(encode(kind, data))
    while rest:
        rest = rest[os.write(out, rest) :]
