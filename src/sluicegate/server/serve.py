"""Serve an ASGI application until it is told to stop."""

import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework

from ..machine.errors import SluicegateError
from . import fast_path
from .options import SafeConfig, ServerOptions
from .refusal import Refuse

__all__ = ["CannotListen", "ServerOptions", "check_certificate", "serve", "signalled"]
BACKLOG = 1024  # connections that wait to be accepted


class CannotListen(SluicegateError):
    """The address or the certificate cannot be had; the message names it and the cause."""


async def signalled() -> None:
    """Wait for SIGTERM or SIGINT. Must run in the main thread."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


async def serve(
    app: ASGIFramework,
    options: ServerOptions,
    drain: Callable[[], Awaitable[None]],
    stopped: Callable[[], Awaitable[None]] = signalled,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    refuse: Refuse | None = None,
    on_eviction: Callable[[], None] = lambda: None,
) -> None:
    """Serve `app` until `stopped` returns; then await `drain` (it ends the streams; requests are still taken, to be
    refused by the application), close idle connections at once and the others within `graceful_seconds`, whatever
    their clients do. `refuse` answers, before the application hears of it, a request that goes no further;
    `on_eviction` hears of each client that is cut off because it takes too little. Reports the bound addresses as
    started. Raises CannotListen, UnknownHypercorn.
    """
    fast_path.install()
    config = _configure(options, refuse, on_eviction)

    async def stop() -> None:
        await stopped()
        await drain()

    await hypercorn_serve(app, config, shutdown_trigger=stop, task_status=task_status)


def _configure(options: ServerOptions, refuse: Refuse | None, on_eviction: Callable[[], None]) -> SafeConfig:
    config = SafeConfig(options, refuse, on_eviction)
    config.certfile, config.keyfile = options.certfile, options.keyfile
    check_certificate(options)
    # Bound here, because Hypercorn would raise from inside its nurseries.
    config.bind = [f"fd://{listen(options)}"]
    config.backlog = BACKLOG
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")  # in the format of all others
    config.loglevel = "WARNING"
    config.include_server_header = False
    config.ssl_handshake_timeout = options.handshake_seconds
    config.graceful_timeout = options.graceful_seconds
    config.h2_max_concurrent_streams = options.max_streams
    return config


def check_certificate(options: ServerOptions) -> None:
    """Read the certificate and its key, if there are any. Raises CannotListen if they are no pair. Blocks meanwhile."""
    certfile, keyfile = options.certfile, options.keyfile
    if (certfile is None) != (keyfile is None):
        given, missing = ("certfile", "keyfile") if certfile else ("keyfile", "certfile")
        raise CannotListen(f"{given} is set but {missing} is not: give both for TLS, or none for clear text")
    config = Config()
    config.certfile, config.keyfile = certfile, keyfile
    try:
        config.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        raise CannotListen(f"cannot use certfile {certfile} with keyfile {keyfile}: {error}") from error


def listen(options: ServerOptions) -> int:
    """Return the file descriptor of a listening socket. What is set here its connections inherit."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise CannotListen(f"cannot listen on {options.host}:{options.port}: {error}") from error
    # Trio sets TCP_NOTSENT_LOWAT (16 KiB) for each connection, which bounds what waits to be sent. What is sent but
    # not acknowledged may grow to megabytes by itself; SO_SNDBUF bounds both, so a stalled client costs what is set.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer_bytes)
    # The writer sees only what the system takes; the last of it, still in the send buffer, is the system's to time.
    with contextlib.suppress(AttributeError):  # not everywhere
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(options.write_seconds * 1000))
    return listener.detach()
