"""The process of a tool as the service holds it: three pipes, a descriptor that tells of its end, and the group."""

import contextlib
import logging
import os
import signal
import subprocess
import sys

import trio

from .context import ToolContext
from .messages import Decoder, Job, Kind, Malformed, encode_job
from .text import plain

MAX_PRINTED_BYTES = 8_192
MAX_PROGRESS_RATE = 1_048_576
"""Bytes of progress per second that are taken from one process; what is more waits in its pipe."""

_READ = 65_536
_PAUSE = 0.01
_LAST_WORDS = 0.2
_MAX_LINE = 500
# The search path is handed over, so that the process finds what the service found, from wherever it was started.
_START = (
    "import sys; out, *sys.path = sys.argv[1:]; del sys.argv[1:]; "
    "from sluicegate.tools.isolated import main; main(int(out))"
)

log = logging.getLogger(__name__)


class Child:
    """Started by construction, which blocks; the leader of a session and group. `close()` must follow."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            stdin, job = _pipe(theirs, ours)
            out, said = reversed(_pipe(ours, theirs))
            text, printed = reversed(_pipe(ours, theirs))
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", _START, str(out), *map(str, sys.path)],
                stdin=stdin, stdout=text, stderr=text, pass_fds=(out,), start_new_session=True,
            )  # fmt: skip
            try:
                self._pidfd = os.pidfd_open(self._process.pid)
            except OSError:
                self.kill()
                self._process.wait()
                raise
            ours.pop_all()
        self._job, self._said, self._printed = map(trio.lowlevel.FdStream, (job, said, printed))
        self._text = bytearray()

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal, or None before `wait_gone` has returned."""
        return self._process.returncode

    async def converse(self, job: Job, context: ToolContext) -> tuple[Kind, str] | None:
        """Give `job`, relay progress to `context`, and return the last message; None where the process ended first.

        A checkpoint. What it raises comes in an ExceptionGroup; Malformed where the process broke the protocol.
        """
        async with trio.open_nursery() as nursery:
            hearing, ended = trio.CancelScope(), trio.Event()
            nursery.start_soon(self._give, job)
            nursery.start_soon(self._take_printed)
            nursery.start_soon(self._watch, hearing, ended)
            said = None
            with hearing:
                said = await self._hear(Decoder(job.max_result_bytes), context)
            if said is None:
                await ended.wait()
            nursery.cancel_scope.cancel()
        return said

    def kill(self) -> None:
        """Kill the group. The leader must not have been waited for yet, so that the number is still its own."""
        # The kernel does this in one go: a fork at the same moment fails. Who changed their user is out of reach.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def wait_gone(self) -> None:
        """Wait until the process and its group have ended, and bury those that are ours; a checkpoint.

        A killed orphan may remain as a zombie, without memory or descriptors, until process 1 takes notice.
        """
        await trio.lowlevel.wait_readable(self._pidfd)
        self._process.wait()  # at once: it has ended
        # Nothing tells of the end of orphans.
        while self._group_is_left() and await trio.to_thread.run_sync(_is_alive, self._process.pid):  # noqa: ASYNC110
            await trio.sleep(_PAUSE)

    def close(self) -> None:
        """Close all descriptors."""
        self._take_last_printed()
        for stream in (self._job, self._said, self._printed):
            stream.close()
        os.close(self._pidfd)

    def log_printed(self, job: Job) -> None:
        """Write what the process printed to the log, as far as MAX_PRINTED_BYTES."""
        for line in self._text.decode("utf-8", "replace").splitlines():
            log.info("tool %s in run %s printed: %s", job.name, job.run_id, plain(line, _MAX_LINE))

    def _group_is_left(self) -> bool:
        group = self._process.pid
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-group, os.WNOHANG)[0]:  # where this is process 1, orphans are ours to bury
                pass
        try:
            os.killpg(group, 0)
        except OSError as error:
            return not isinstance(error, ProcessLookupError)  # it may be one that we are not permitted to touch
        return True

    async def _give(self, job: Job) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # it ended; its exit code says why
            await self._job.send_all(encode_job(job))

    async def _hear(self, decoder: Decoder, context: ToolContext) -> tuple[Kind, str] | None:
        while data := await self._said.receive_some(_READ):
            size = 0
            for kind, message in decoder.receive(data):
                try:
                    if kind is not Kind.PROGRESS:
                        return kind, message.decode()
                    context.relay(message)
                except ValueError as error:
                    raise Malformed("the message is not what its kind says") from error
                size += len(message)
            await trio.sleep(size / MAX_PROGRESS_RATE)
        return None

    async def _take_printed(self) -> None:
        while data := await self._printed.receive_some(_READ):
            self._text += data[: MAX_PRINTED_BYTES - len(self._text)]
            if len(self._text) == MAX_PRINTED_BYTES:
                await trio.sleep(_PAUSE)  # dropped, but slowly: who prints for ever shall not keep the service busy

    async def _watch(self, hearing: trio.CancelScope, ended: trio.Event) -> None:
        await trio.lowlevel.wait_readable(self._pidfd)
        ended.set()
        hearing.deadline = trio.current_time() + _LAST_WORDS  # what it left behind may hold the pipe open

    def _take_last_printed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._text) < MAX_PRINTED_BYTES:
                data = os.read(self._printed.fileno(), MAX_PRINTED_BYTES - len(self._text))
                if not data:
                    return
                self._text += data


def _is_alive(group: int) -> bool:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:  # it may end meanwhile
                state, _, its_group = file.read().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state not in "ZX":
                    return True
    return False


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write
