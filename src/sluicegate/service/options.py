"""The frozen options of this room."""

import msgspec


class ServiceOptions(msgspec.Struct, frozen=True):
    """How requests are taken. Times in seconds, sizes in bytes.

    `hold_seconds`: how long the response's status waits for the first word of the provider. `detach`: whether a run may
    go on for a while without a reader. `drain_seconds`: how long live runs may go on when the server is told to stop.
    """

    max_body_bytes: int = 8 * 1024 * 1024
    body_seconds: float = 30.0
    hold_seconds: float = 2.0
    detach: bool = True
    drain_seconds: float = 20.0
