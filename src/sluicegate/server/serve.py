"""Serve an ASGI application until a signal says stop."""

import signal
from collections.abc import Callable

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework


class ServerOptions(msgspec.Struct, frozen=True):
    """Where and how to listen. Times in seconds; port 0 lets the system choose."""

    host: str = "127.0.0.1"
    port: int = 8000
    keep_alive_seconds: float = 75.0
    graceful_seconds: float = 3.0


async def serve(
    app: ASGIFramework,
    options: ServerOptions,
    on_stop: Callable[[], None],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until SIGTERM or SIGINT; then call `on_stop` (it ends the streams) and close within
    `graceful_seconds`. Reports the bound addresses as started. Must run in the main thread.
    """
    config = Config()
    config.bind = [f"{options.host}:{options.port}"]
    config.accesslog = None
    config.errorlog = "-"
    config.loglevel = "WARNING"
    config.include_server_header = False
    config.keep_alive_timeout = options.keep_alive_seconds
    config.graceful_timeout = options.graceful_seconds

    async def stopped() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                on_stop()
                return

    await hypercorn_serve(app, config, shutdown_trigger=stopped, task_status=task_status)
