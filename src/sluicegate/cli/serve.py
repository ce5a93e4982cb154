"""`sluicegate serve`: compose the service from options and environment, and run it."""

import argparse
import logging
import os
import sys

import trio

from ..machine.errors import SluicegateError
from ..providers.environment import from_environment
from ..providers.models import Models
from ..providers.sdk import UpstreamOptions
from ..server.serve import ServerOptions, serve
from ..service.app import Service
from ..tools.builtin import demo
from ..tools.loading import load
from ..tools.registry import Registry
from ..wire.upstream.profiles import PROFILES


class _Announcement:
    """What `serve` reports its addresses to: prints them, and which provider answers."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def started(self, value: list[str] | None = None) -> None:
        names = ", ".join(self._models.providers)
        for address in value or ():
            print(f"sluicegate serves {address}/chat with {names} (model {self._models.default_model})", flush=True)
        if names == "scripted":
            print(
                "No OPENAI_API_KEY or ANTHROPIC_API_KEY is set: the embedded scripted provider answers, no model does.",
                flush=True,
            )


def run_serve(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean stop, 1 if the port or the tools cannot be had."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    upstream = UpstreamOptions(dialect=options.dialect, profile=PROFILES[options.profile], default_model=options.model)
    try:
        tools = load(options.tools) if options.tools else demo
        trio.run(_serve, ServerOptions(options.host, options.port), upstream, tools)
    except SluicegateError as error:
        print(f"sluicegate serve: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(server: ServerOptions, upstream: UpstreamOptions, tools: Registry) -> None:
    models = from_environment(os.environ, upstream)
    service = Service(models, tools)
    await serve(service.app(), server, service.drain, task_status=_Announcement(models))
