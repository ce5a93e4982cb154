"""Run a tool in a process of its own, in a group of its own, that is killed whatever becomes of the call."""

import trio

from .child import Child
from .containment import GRACE
from .context import ToolContext
from .faults import ProcessEnded, ProcessFailed, ResultError, ToolError
from .messages import Job, Kind, Malformed

MAX_PROCESSES = 8

_processes: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("sluicegate_tool_processes")


def process_limiter() -> trio.CapacityLimiter:
    """Return what bounds the processes of this Trio run: MAX_PROCESSES. Must be called within a Trio run."""
    try:
        return _processes.get()
    except LookupError:
        limiter = trio.CapacityLimiter(MAX_PROCESSES)
        _processes.set(limiter)
        return limiter


async def perform(job: Job, context: ToolContext) -> str:
    """Run `job` in a new process and return its content; a checkpoint. Waits for a place among MAX_PROCESSES.

    Progress goes to `context`, what the process prints to the log. Raises ToolError, with words for the model, where
    the tool failed or its process ended without a result; may come in an ExceptionGroup. However this ends, process
    and group have been killed and, within GRACE seconds, are gone. Out of reach is who left the group (setsid).
    """
    async with process_limiter():
        child = await trio.to_thread.run_sync(Child)  # starting a process blocks for milliseconds
        try:
            said = await _converse(child, job, context)
        finally:
            child.kill()
            try:
                with trio.move_on_after(GRACE, shield=True):
                    await child.wait_gone()
            finally:
                child.close()
                child.log_printed(job)
    return _content(job.name, said, child.returncode)


async def _converse(child: Child, job: Job, context: ToolContext) -> tuple[Kind, str] | None:
    try:
        return await child.converse(job, context)
    except* Malformed as error:
        raise ResultError(f"The tool {job.name} gave a result that cannot be shown.") from error


def _content(name: str, said: tuple[Kind, str] | None, returncode: int | None) -> str:
    match said:
        case None:
            raise ProcessEnded(f"The tool {name} ended unexpectedly ({_how(returncode)}).")
        case (Kind.CONTENT, words):
            return words
        case (Kind.ERROR, words):
            raise ToolError(words)
        case (_, words):
            raise ProcessFailed(words)


def _how(returncode: int | None) -> str:
    if returncode is None:
        return "it could not be killed"
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
