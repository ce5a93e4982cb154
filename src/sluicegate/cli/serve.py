"""`sluicegate serve`: compose the service from options and environment, and run it."""

import argparse
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import trio

from ..machine.errors import SluicegateError
from ..providers.environment import from_environment
from ..providers.models import Models
from ..providers.sdk import UpstreamOptions
from ..runtime.ledger import Ledger, MemoryLedger
from ..runtime.options import RunOptions
from ..runtime.spool import Spool, SpoolOptions
from ..server.serve import ServerOptions, serve, signalled
from ..service.app import Service
from ..service.options import ServiceOptions
from ..tools.builtin import demo
from ..tools.loading import load
from ..tools.registry import Registry
from ..wire.upstream.profiles import PROFILES
from .settings import Setting, apply

COLLECT_AFTER = 10_000  # objects made and not freed


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
    """Serve until SIGTERM or SIGINT; 0 after a clean stop, 1 if port, certificate, tools or spool cannot be had."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # What no format of ours shows need not be looked up for each line (the logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    try:
        tools = load(options.tools) if options.tools else demo
        with _ledger(options.spool) as ledger:
            trio.run(_serve, options, tools, ledger)
    except SluicegateError as error:
        print(f"sluicegate serve: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _ledger(directory: str | None) -> Iterator[Ledger]:
    if directory is None:
        yield MemoryLedger()
        return
    with closing(Spool(SpoolOptions(Path(directory)))) as spool:
        yield spool


async def _serve(options: argparse.Namespace, tools: Registry, ledger: Ledger) -> None:
    settings: Sequence[Setting] = options.settings
    upstream = UpstreamOptions(dialect=options.dialect, profile=PROFILES[options.profile], default_model=options.model)
    models = from_environment(os.environ, apply(settings, upstream))
    run, rules = apply(settings, RunOptions()), apply(settings, ServiceOptions())
    service = Service(models, tools, run, rules, ledger=ledger)
    _spare_the_collector()
    server = ServerOptions(options.host, options.port, options.certfile, options.keyfile)
    announcement, drain = _Announcement(models), partial(_drain, service)
    await serve(service.app(), apply(settings, server), drain, task_status=announcement, refuse=service.refuse)


def _spare_the_collector() -> None:
    """What was made until now lives as long as the process: Python's collector need not look at it again and again.
    That took about a tenth of the CPU of short requests, and full collections hold up every stream.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


async def _drain(service: Service) -> None:
    """Drain; a second signal ends what is left at once, and a further SIGTERM changes nothing any more."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hurry, service)
        await service.drain()
        nursery.cancel_scope.cancel()
    _obeyed()


async def _hurry(service: Service) -> None:
    await signalled()
    _obeyed()
    service.stop_runs()


def _obeyed() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
