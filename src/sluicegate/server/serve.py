"""Serve an ASGI application until it is told to stop."""

import signal
import socket
from collections.abc import Awaitable, Callable

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework

from ..machine.errors import SluicegateError
from . import fast_path


class CannotListen(SluicegateError):
    """The address cannot be had; the message names it and the cause."""


class ServerOptions(msgspec.Struct, frozen=True):
    """Where and how to listen. Times in seconds; port 0 lets the system choose."""

    host: str = "127.0.0.1"
    port: int = 8000
    keep_alive_seconds: float = 75.0
    graceful_seconds: float = 1.0


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
) -> None:
    """Serve `app` until `stopped` returns; then await `drain` (it ends the streams; requests are still taken, to be
    refused by the application) and close within `graceful_seconds`. Reports the bound addresses as started. Raises CannotListen.
    """
    fast_path.install()
    config = Config()
    # Bound here, because Hypercorn would raise from inside its nurseries.
    config.bind = [f"fd://{_listen(options.host, options.port)}"]
    config.accesslog = None
    config.errorlog = "-"
    config.loglevel = "WARNING"
    config.include_server_header = False
    config.keep_alive_timeout = options.keep_alive_seconds
    config.graceful_timeout = options.graceful_seconds

    async def stop() -> None:
        await stopped()
        await drain()

    await hypercorn_serve(app, config, shutdown_trigger=stop, task_status=task_status)


def _listen(host: str, port: int) -> int:
    """Return the file descriptor of a listening socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family).detach()
    except (OSError, OverflowError) as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error}") from error
