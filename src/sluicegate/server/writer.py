"""The sending half of a connection: never holds up who writes, and gives a client only so much time to take it."""

import contextlib
from collections.abc import Callable
from typing import Final, Literal

import trio

from .options import ServerOptions

GONE: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Patience:
    """The time that a client may let us wait: never more than `seconds` at once. Waiting uses it up; what the client
    takes brings a second of it back for every `rate` bytes, and so does every second in which we wait for nothing.
    """

    def __init__(self, seconds: float, rate: int) -> None:
        self._seconds = self._left = seconds
        self._rate = rate
        self._waiting_since: float | None = None
        self._resting_since = trio.current_time()

    @property
    def deadline(self) -> float:
        """When it ends, unless the client takes something; infinite while we do not wait."""
        return float("inf") if self._waiting_since is None else self._waiting_since + self._left

    def wait(self) -> None:
        """We wait from now on, if we did not already."""
        if self._waiting_since is None:
            self._waiting_since = trio.current_time()
            self._gain(self._waiting_since - self._resting_since)

    def rest(self) -> None:
        """We do not wait any more."""
        if self._waiting_since is not None:
            self._resting_since = trio.current_time()
            self._left -= self._resting_since - self._waiting_since
            self._waiting_since = None

    def took(self, size: int) -> None:
        """The client took `size` bytes; we do not wait any more."""
        self.rest()
        self._gain(size / self._rate)

    def _gain(self, seconds: float) -> None:
        self._left = min(self._seconds, self._left + seconds)


class Writer:
    """Writes in order and without waiting, so no lock guards a write, and no shield: what the system does not take is
    kept, and a cancelled wait loses nothing of it. `on_eviction` hears of a client that takes too little.
    """

    def __init__(
        self, stream: trio.SocketStream, options: ServerOptions, on_eviction: Callable[[], None] = lambda: None
    ) -> None:
        self._stream = stream
        self._kept = bytearray()
        self._patience = Patience(options.write_seconds, options.least_rate)
        self._draining = trio.Lock()
        self._on_eviction = on_eviction

    def write(self, data: bytes) -> Literal["accepted", "full"]:
        """Give the system what it takes now and keep the rest. Raises OSError where the connection is gone."""
        if not self._kept:
            try:
                # The plain socket below Trio's: its own send would be a checkpoint, and waits.
                sent = self._stream.socket._sock.send(data)  # type: ignore[attr-defined]  # trio is pinned
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return "accepted"
            self._kept += memoryview(data)[sent:]
            self._patience.wait()
        else:
            self._kept += data
        return "full"

    async def drain(self) -> None:
        """Wait until the system has all. A checkpoint; may be cancelled without loss.

        Raises BrokenResourceError where the client takes too little (then the connection is closed), OSError or
        ClosedResourceError where it is gone.
        """
        if not self._kept:
            await trio.lowlevel.checkpoint()
            return
        while self._kept:
            if self._stream.socket.fileno() < 0:  # closed: Trio would raise ValueError
                raise trio.ClosedResourceError
            with trio.CancelScope(deadline=self._patience.deadline):
                async with self._draining:
                    if self._kept:
                        await trio.lowlevel.wait_writable(self._stream.socket)
                        self._flush()
            if trio.current_time() >= self._patience.deadline:
                if self._kept:  # else another wait was first
                    self._on_eviction()
                await self.abort()
                raise trio.BrokenResourceError("the client takes too little")

    async def abort(self) -> None:
        """Close the connection at once; what is kept is lost. A checkpoint."""
        self._kept.clear()
        await trio.aclose_forcefully(self._stream)

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sent = self._stream.socket._sock.send(self._kept)  # type: ignore[attr-defined]  # see write
            del self._kept[:sent]
            self._patience.took(sent)
            if self._kept:
                self._patience.wait()


class Transport(trio.abc.Stream):
    """What TLS sends by: a Writer, so that TLS never waits for a client while it holds its locks."""

    def __init__(self, stream: trio.SocketStream, writer: Writer) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._writer = writer

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write without waiting: who wants to wait drains the writer. Not a checkpoint."""
        try:
            self._writer.write(bytes(data))
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        """A checkpoint, no more: sending never blocks."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive from the stream below."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream below."""
        await self._stream.aclose()
