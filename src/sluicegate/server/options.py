"""The frozen options of this room."""

import socket

import msgspec
from hypercorn.config import Config, Sockets

from .refusal import Refuse


class ServerOptions(msgspec.Struct, frozen=True):
    """Where and how to listen, and what a client may cost. Times in seconds, sizes in bytes, rates in bytes per second.

    `host`, `port`: the address; port 0 lets the system choose. `certfile`, `keyfile`: PEM files for TLS (HTTP/2 and
    HTTP/1.1 by ALPN), both or none; without them clear text.
    `handshake_seconds`: for the TLS handshake. `header_seconds`: for the head of a request, from the start of the
    connection or from the head's first byte. `keep_alive_seconds`: that a connection may idle between requests.
    `write_seconds`: that a client may take no bytes of what it was sent before it is cut off; one that takes less than
    `least_rate` is cut off as well, a little later. `close_seconds`: for the last bytes of a connection.
    `graceful_seconds`: until everything is closed, once the application has drained.
    `send_buffer_bytes`: what the system may hold of one connection's output.
    `max_connections`, `max_connections_per_address`: more are refused; 0 is no bound (behind a proxy there is one
    address). `max_streams`: requests side by side on one HTTP/2 connection.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certfile: str | None = None
    keyfile: str | None = None
    handshake_seconds: float = 10.0
    header_seconds: float = 15.0
    keep_alive_seconds: float = 75.0
    write_seconds: float = 30.0
    least_rate: int = 4096
    close_seconds: float = 1.0
    graceful_seconds: float = 1.0
    send_buffer_bytes: int = 128 * 1024
    max_connections: int = 10_000
    max_connections_per_address: int = 0
    max_streams: int = 100


class SafeConfig(Config):
    """Hypercorn's configuration, and what it has no place for."""

    def __init__(self, options: ServerOptions, refuse: Refuse | None = None) -> None:
        self.options = options
        self.refuse = refuse
        self.listening: list[socket.socket] = []

    def create_sockets(self) -> Sockets:
        """Bind, and keep hold of what was bound."""
        sockets = super().create_sockets()
        self.listening = [*sockets.secure_sockets, *sockets.insecure_sockets]
        return sockets


def options_of(config: Config) -> ServerOptions:
    """Return the options that `config` carries, or the defaults."""
    return config.options if isinstance(config, SafeConfig) else ServerOptions()
