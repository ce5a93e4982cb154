"""`sluicegate serve`: compose the service from options and environment, and run it."""

import argparse
import logging
import os
import sys

import trio

from ..providers.environment import from_environment
from ..providers.sdk import UpstreamOptions
from ..server.serve import ServerOptions, serve
from ..service.app import Service
from ..tools.builtin import demo
from ..tools.loading import load
from ..wire.upstream.profiles import PROFILES


def run_serve(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean stop, 1 if the port or the tools cannot be had."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        tools = load(options.tools) if options.tools else demo
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        print(f"sluicegate serve: --tools {options.tools}: {error}", file=sys.stderr)
        return 1
    upstream = UpstreamOptions(dialect=options.dialect, profile=PROFILES[options.profile], default_model=options.model)
    try:
        trio.run(_serve, ServerOptions(options.host, options.port), upstream, tools)
    except OSError as error:
        print(f"sluicegate serve: cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(server: ServerOptions, upstream: UpstreamOptions, tools: object) -> None:
    models = from_environment(os.environ, upstream)
    service = Service(models, tools)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve, service.app(), server, service.stop_runs)
        names = ", ".join(models.providers)
        print(f"sluicegate serves {bound[0]}/chat with {names} (model {models.default_model})", flush=True)
        if names == "scripted":
            print(
                "No OPENAI_API_KEY or ANTHROPIC_API_KEY is set: the embedded scripted provider answers, no model does.",
                flush=True,
            )
