"""A client's log of one run, over as many connections as it takes, held against the laws of the wire at every byte.

The laws: the first frame names the run, ids count from 1 with nothing missing and nothing twice, also where a reader
comes back; there is one terminal, the last frame, and only behind it `[DONE]`; the words are a prefix of what the
provider said, all of it where the run is done.
"""

from typing import Any

import msgspec

DONE = b"data: [DONE]"


class Broken(Exception):
    """A law of the wire does not hold."""


class Log:
    """`frames` are the frames so far as bytes; `terminal` is the data of the terminal; `done` whether `[DONE]` came."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.terminal: dict[str, Any] | None = None
        self.done = False
        self.epoch = ""
        self._words: list[str] = []
        self._pending = bytearray()

    @property
    def cursor(self) -> str:
        """The `Last-Event-ID` to come back with; "" if no frame has come."""
        return f"{self.epoch}-{len(self.frames)}" if self.frames else ""

    @property
    def text(self) -> str:
        return "".join(self._words)

    def reconnect(self) -> None:
        """Another connection begins: what was cut off in the middle of a frame is void."""
        self._pending.clear()

    def feed(self, data: bytes) -> None:
        """Take bytes of a response's body. Raises Broken."""
        self._pending += data
        *blocks, rest = bytes(self._pending).split(b"\n\n")
        self._pending[:] = rest
        for block in blocks:
            self._take(block)

    def check_end(self) -> None:
        """The response has ended properly: then it had its terminal and `[DONE]`. Raises Broken."""
        if not self.done or self._pending:
            raise Broken(f"a response ended without [DONE], behind {self.frames[-1:]}")

    def _take(self, block: bytes) -> None:
        if block.startswith(b":"):
            return
        if self.done:
            raise Broken(f"{block!r} behind [DONE]")
        if block == DONE:
            if self.terminal is None:
                raise Broken("[DONE] without a terminal")
            self.done = True
            return
        if self.terminal is not None:
            raise Broken(f"{block!r} behind the terminal")
        head, _, data = block.partition(b"\n")
        epoch, _, number = head.removeprefix(b"id: ").decode().rpartition("-")
        self.epoch = self.epoch or epoch
        if epoch != self.epoch or number != str(len(self.frames) + 1):
            raise Broken(f"frame {epoch}-{number} behind {self.cursor}")
        frame = msgspec.json.decode(data.removeprefix(b"data: "))
        if ("run" in frame) != (not self.frames) or "gap" in frame:
            raise Broken(f"frame {number} is {frame}")
        self.frames.append(block)
        self._words.append(frame.get("content", ""))
        if "done" in frame or "error" in frame:
            self.terminal = frame
