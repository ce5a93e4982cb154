"""What passes between the service and the process of a tool: one job in, progress and one result out.

A message is a byte for its kind, four for its length, and its data. Never pickle: the process is not trusted.
"""

import enum
import struct
from collections.abc import Callable, Iterator

import msgspec

from .context import MAX_PROGRESS_BYTES
from .isolation import Place

_HEADER = struct.Struct(">BI")
_SIZE = struct.Struct(">I")
_MIN_ERROR_BYTES = 8_192


class Job(msgspec.Struct, frozen=True):
    """One call: where the function is, the model's arguments, the limits."""

    place: Place
    name: str
    arguments: str
    call_id: str
    run_id: str
    max_result_bytes: int
    memory_bytes: int | None


def encode_job(job: Job) -> bytes:
    """Return what `read_job` reads."""
    data = msgspec.json.encode(job)
    return _SIZE.pack(len(data)) + data


def read_job(read: Callable[[int], bytes]) -> Job:
    """Return the job that comes from `read`, which returns exactly as many bytes as it is asked for."""
    return msgspec.json.decode(read(_SIZE.unpack(read(_SIZE.size))[0]), type=Job)


class Kind(enum.IntEnum):
    """What the process says. All but PROGRESS end the call."""

    PROGRESS = 1
    CONTENT = 2
    ERROR = 3
    """Words of a ToolError."""
    FAULT = 4
    """Words for the model about a fault."""


class Malformed(Exception):
    """The process broke the protocol."""


def max_bytes(kind: Kind, max_result_bytes: int) -> int:
    """Return how many bytes the data of a message may have."""
    match kind:
        case Kind.PROGRESS:
            return MAX_PROGRESS_BYTES
        case Kind.CONTENT:
            return max_result_bytes
        case Kind.ERROR | Kind.FAULT:
            return max(max_result_bytes, _MIN_ERROR_BYTES)


def encode(kind: Kind, data: bytes) -> bytes:
    """Return the message as bytes."""
    return _HEADER.pack(kind, len(data)) + data


class Decoder:
    """Takes the bytes of a process apart; holds at most one message and one read."""

    def __init__(self, max_result_bytes: int) -> None:
        self._max_result_bytes = max_result_bytes
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        """Yield the messages that `data` completes. Raises Malformed, as soon as a header is wrong or too large."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            number, size = _HEADER.unpack_from(self._buffer)
            try:
                kind = Kind(number)
            except ValueError as error:
                raise Malformed(f"no message is of kind {number}") from error
            if size > max_bytes(kind, self._max_result_bytes):
                raise Malformed(f"a message of {size} bytes is too large")
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            message = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield kind, message
