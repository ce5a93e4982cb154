"""The frozen options of this room."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

from annotated_types import Interval
from hypercorn.config import Config, Sockets

from ..machine.quantities import DOCUMENTED, Bytes, Count, CountOrNone, Seconds
from .refusal import Refuse

Port: TypeAlias = Annotated[int, Interval(ge=0, le=65_535)]


@dataclass(frozen=True)
class ServerOptions:
    """Where and how to listen, and what a client may cost. Times in seconds, sizes in bytes."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8000
    """The port; 0 lets the system choose."""
    certfile: str | None = None
    """PEM file with the certificate chain for TLS (HTTP/2 and HTTP/1.1 by ALPN); without it clear text."""
    keyfile: str | None = None
    """PEM file with the certificate's private key; both files or none."""
    handshake_seconds: Seconds = 10.0
    """For the TLS handshake."""
    header_seconds: Seconds = 15.0
    """For the head of a request, from the start of the connection or from the head's first byte."""
    keep_alive_seconds: Seconds = 75.0
    """How long a connection may idle between requests."""
    write_seconds: Seconds = 30.0
    """How long a client may take no bytes of what it was sent before it is cut off."""
    least_rate: Bytes = 4096
    """Bytes per second; a client that takes less is cut off as well, a little later."""
    close_seconds: Seconds = 1.0
    """For the last bytes of a connection."""
    graceful_seconds: Seconds = 1.0
    """Until everything is closed, once the application has drained."""
    send_buffer_bytes: Bytes = 128 * 1024
    """What the system may hold of one connection's output."""
    max_connections: CountOrNone = 10_000
    """Connections at once; more are refused, 0 is no bound."""
    max_connections_per_address: CountOrNone = 0
    """Connections at once from one address (behind a proxy there is one address); 0 is no bound."""
    max_streams: Count = 100
    """Requests side by side on one HTTP/2 connection."""


class SafeConfig(Config):
    """Hypercorn's configuration, and what it has no place for."""

    def __init__(
        self, options: ServerOptions, refuse: Refuse | None = None, on_eviction: Callable[[], None] = lambda: None
    ) -> None:
        self.options = options
        self.refuse = refuse
        self.on_eviction = on_eviction
        self.listening: list[socket.socket] = []

    def create_sockets(self) -> Sockets:
        """Bind, and keep hold of what was bound."""
        sockets = super().create_sockets()
        self.listening = [*sockets.secure_sockets, *sockets.insecure_sockets]
        return sockets


def options_of(config: Config) -> ServerOptions:
    """Return the options that `config` carries, or the defaults."""
    return config.options if isinstance(config, SafeConfig) else ServerOptions()


def note_eviction(config: Config) -> None:
    """Tell whoever `config` names that a client was cut off because it takes too little."""
    if isinstance(config, SafeConfig):
        config.on_eviction()
