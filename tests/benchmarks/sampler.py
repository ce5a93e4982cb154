"""Samples what the main thread does, by its own CPU time, and says to whom each instant belongs.

A tracing profiler pays at every call, and so makes small functions look dear. Here nothing is paid between two samples.
Where the system lets a process have performance events (Linux, perf_event_paranoid 1 or less, or root) they come every
INTERVAL of CPU time; elsewhere with ITIMER_PROF, once in a tick of the kernel (usually 4 ms).

Python handles a signal between two of its instructions, and on 3.11 to 3.13 only behind a call, at the begin of a
function, or at a jump back. So what a C function took counts for the line that called it, and what is seen at the begin
of a function belongs to its caller.
"""

import ctypes
import dis
import fcntl
import gc
import os
import platform
import signal
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import NamedTuple

INTERVAL = 0.0005  # s of CPU time
_SYSCALL = {"x86_64": 298, "aarch64": 241}  # perf_event_open
_SOFTWARE, _TASK_CLOCK = 1, 1
_ATTR_SIZE = 72
_ENABLE, _SET_OWNER, _THREAD = 0x2400, 15, 0  # PERF_EVENT_IOC_ENABLE, F_SETOWN_EX, F_OWNER_TID


class Place(NamedTuple):
    """Code, and the offset of the instruction in it."""

    code: CodeType
    offset: int

    @property
    def instruction(self) -> str:
        return dis.opname[self.code.co_code[self.offset]]

    @property
    def line(self) -> int:
        for at, (line, *_) in enumerate(self.code.co_positions()):
            if at == self.offset // 2:
                return line or 0
        return 0


class Sampler:
    """`seconds` are the CPU seconds found at each place, `collecting` those of Python's garbage collector; `samples` is
    how many they rest on. `timer` says in words what the samples are taken by.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.collecting = 0.0
        self.timer = ""
        self._found: dict[tuple[CodeType, int, CodeType, int], float] = defaultdict(float)
        self._last = 0.0
        self._todo: Callable[[], None] | None = None
        self._done = threading.Event()
        self._wakeup = -1
        self._collection_began = 0.0
        self._collected = 0.0  # since the last sample

    @property
    def seconds(self) -> dict[Place, float]:
        """By the place to which the time belongs, without the sampler's own."""
        found: dict[Place, float] = defaultdict(float)
        for (code, offset, caller, caller_offset), spent in self._found.items():
            place = Place(code, offset)
            if code is not Sampler._sample.__code__:
                found[Place(caller, caller_offset) if place.instruction == "RESUME" else place] += spent
        return found

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the signal for as long as the context lasts; in the main thread."""
        before = signal.signal(signal.SIGPROF, self._sample)
        gc.callbacks.append(self._on_collection)
        try:
            yield
        finally:
            gc.callbacks.remove(self._on_collection)
            signal.signal(signal.SIGPROF, before)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample the main thread for as long as the context lasts; from another thread."""
        self._let_main(self._mute)
        self._last = time.clock_gettime(main_clock())
        event = _open_event(os.getpid())
        if event is None:
            self.timer = "ITIMER_PROF, each tick of the kernel"
            signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        else:
            self.timer = f"performance events, each {INTERVAL * 1e6:.0f} µs of the thread's CPU time"
        try:
            yield
        finally:
            if event is None:
                signal.setitimer(signal.ITIMER_PROF, 0)
            else:
                os.close(event)
            self._let_main(self._unmute)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        if self._todo is not None:
            self._todo()
            self._todo = None
            self._done.set()
            return
        if frame is None:
            return
        back = frame.f_back or frame
        key = (frame.f_code, frame.f_lasti, back.f_code, back.f_lasti)
        self._found[key] += time.thread_time() - self._last - self._collected
        self.collecting += self._collected
        self._collected = 0.0
        self.samples += 1
        self._last = time.thread_time()

    def _on_collection(self, phase: str, _info: dict[str, int]) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if phase == "start":
            self._collection_began = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collection_began

    def _let_main(self, do: Callable[[], None]) -> None:
        self._done.clear()
        self._todo = do
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGPROF)
        self._done.wait()

    def _mute(self) -> None:
        """Trio would wake up for each signal, which doubles the turns of its loop."""
        self._collected = 0.0
        self._wakeup = signal.set_wakeup_fd(-1)

    def _unmute(self) -> None:
        signal.set_wakeup_fd(self._wakeup)


def main_clock() -> int:
    """Return the clock of the main thread's CPU time."""
    ident = threading.main_thread().ident
    assert ident is not None
    return time.pthread_getcpuclockid(ident)


def _open_event(thread: int) -> int | None:
    """Return the descriptor of a running event that sends SIGPROF to `thread`; None where there are none."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        return None
    attr = struct.pack("IIQQQQQII", _SOFTWARE, _ATTR_SIZE, _TASK_CLOCK, int(INTERVAL * 1e9), 0, 0, 1, 1, 0)
    descriptor: int = ctypes.CDLL(None).syscall(number, attr.ljust(_ATTR_SIZE, b"\0"), thread, -1, -1, 8)
    if descriptor < 0:
        return None
    fcntl.fcntl(descriptor, _SET_OWNER, struct.pack("ii", _THREAD, thread))
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGPROF)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    fcntl.ioctl(descriptor, _ENABLE, 0)
    return descriptor
