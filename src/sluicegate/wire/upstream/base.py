"""What every upstream dialect offers to the runtime and to `replay`."""

from typing import Protocol

from ...machine.deltas import Delta


class Decoder(Protocol):
    """Bytes of one provider reply to deltas. Never raises on any bytes: what cannot be read is a `Failure` delta,
    after which nothing follows. Chunk boundaries never matter (after merging adjacent deltas of one part).
    """

    def feed(self, data: bytes) -> list[Delta]:
        """Return the deltas that `data` completes, in wire order, possibly none."""
        ...

    def eof(self) -> list[Delta]:
        """Return the last deltas; the last one is always `Eof`. A complete pending event counts as received."""
        ...
