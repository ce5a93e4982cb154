"""The frozen options of this room."""

import msgspec


class ServiceOptions(msgspec.Struct, frozen=True):
    """How requests are taken. Times in seconds, sizes in bytes.

    `hold_seconds`: how long the response's status waits for the first word of the provider.
    """

    max_body_bytes: int = 8 * 1024 * 1024
    body_seconds: float = 30.0
    hold_seconds: float = 2.0
