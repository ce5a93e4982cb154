"""The service layer by layer, as processes for `layers`: `python -m tests.benchmarks.layered LAYER`.

A process prints the port on which it listens, and serves until SIGTERM.
"""

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio

from sluicegate.cli.serve import COLLECT_AFTER
from sluicegate.machine.deltas import TextDelta
from sluicegate.providers.models import Models
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.table import from_tables
from sluicegate.runtime.spool import Spool, SpoolOptions
from sluicegate.server.serve import ServerOptions, serve
from sluicegate.service.app import Service
from sluicegate.tools.builtin import demo

from . import streams
from .parts import MemoryProvider

_WORDS = (TextDelta("Alpha"), TextDelta(" EOT."))  # the first and the last word that the clients look for
_REPLY = b"".join(streams.reads("openai_chat", streams.whole(_WORDS)))
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache, no-transform")]

App = Callable[[Any, Any, Any], Awaitable[None]]


async def _bare(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """An ASGI application that reads the request and sends the reply."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _REPLY, "more_body": True})
    return await send({"type": "http.response.body", "body": b""})


def _quart() -> App:
    """The same as a route of Quart-Trio."""
    app = QuartTrio("bare", static_folder=None)

    async def chat() -> Response:
        await request.get_data()
        return Response(_REPLY, headers={name.decode(): value.decode() for name, value in _HEADERS})

    app.add_url_rule("/chat", "chat", chat, methods=["POST"])
    return app


def _in_memory() -> App:
    """The service with a provider that answers at once."""
    provider = MemoryProvider("openai_chat", [_REPLY], trio.lowlevel.checkpoint)
    return Service(Models({"openai": provider}, "openai", "model"), demo).app()


def _with_provider() -> App:
    """The service with the provider of the environment: SDK and transport."""
    return Service(from_tables({}, {}, UpstreamOptions(), os.environ), demo).app()


def _with_spool() -> App:
    """The same with the spool: all that `sluicegate serve --spool` does."""
    ledger = Spool(SpoolOptions(Path(tempfile.mkdtemp())))
    return Service(from_tables({}, {}, UpstreamOptions(), os.environ), demo, ledger=ledger).app()


LAYERS: dict[str, Callable[[], App]] = {
    "Hypercorn, a bare application": lambda: _bare,
    "+ Quart-Trio, an empty route": _quart,
    "+ our route, a run, its feed": _in_memory,
    "+ SDK, transport, provider": _with_provider,
    "+ spool": _with_spool,
}


class _Port:
    """What `serve` reports its addresses to."""

    def started(self, value: list[str] | None = None) -> None:
        for address in value or ():
            print(address.rpartition(":")[2], flush=True)


async def _drain() -> None:
    await trio.lowlevel.checkpoint()


def main(layer: str) -> int:
    """Serve, with the collector and the log as `sluicegate serve` has them; 0."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    app: Any = LAYERS[layer]()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    trio.run(partial(serve, app, ServerOptions(port=0), _drain, task_status=_Port()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
