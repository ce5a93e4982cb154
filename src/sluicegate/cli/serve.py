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

import trio

from ..machine.errors import SluicegateError
from ..providers.models import Models
from ..providers.table import from_tables
from ..runtime.ledger import Ledger, MemoryLedger
from ..runtime.observers import Observer
from ..runtime.spool import Spool, SpoolOptions
from ..server.serve import serve, signalled
from ..service.access import Access
from ..service.app import Service
from ..service.budgets import Budgets
from ..service.key_file import KeyFile
from ..service.limits import Limits
from ..service.logs import configure
from ..settings import BadSettings, Settings
from ..tools.builtin import demo
from ..tools.loading import load
from ..tools.registry import Registry
from .access import access_of
from .advice import no_keys
from .settings import placing, settings_of
from .telemetry import observing

log = logging.getLogger(__name__)
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
    """Serve until SIGTERM or SIGINT; 0 after a clean stop, 1 if port, certificate, tools or spool cannot be had, 2 if
    settings are bad.
    """
    try:
        settings = settings_of(options)
        configure(settings.log)
        tools = load(settings.tools) if settings.tools else demo
        with placing(options):
            access = access_of(settings)
            models = from_tables(settings.providers, settings.models, settings.upstream, os.environ)
        keys = settings.access.keys
        if keys is not None and not KeyFile(keys).read():
            log.warning("access.keys: %s", no_keys(keys))
        budgets = Budgets(settings.limits)
        with observing(settings, tools) as observers, _ledger(settings.spool, budgets) as ledger:
            trio.run(_serve, settings, models, tools, ledger, access, budgets, observers)
    except BadSettings as error:
        for fault in error.faults:
            print(f"sluicegate serve: {fault}", file=sys.stderr)
        return 2
    except SluicegateError as error:
        print(f"sluicegate serve: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _ledger(options: SpoolOptions | None, budgets: Budgets) -> Iterator[Ledger]:
    if options is None:
        yield MemoryLedger()
        return
    with closing(Spool(options, seen=budgets.restore)) as spool:
        yield spool


async def _serve(
    settings: Settings,
    models: Models,
    tools: Registry,
    ledger: Ledger,
    access: Access,
    budgets: Budgets,
    observers: Sequence[Observer],
) -> None:
    service = Service(
        models,
        tools,
        settings.run,
        settings.service,
        ledger=ledger,
        access=access,
        observers=observers,
        limits=Limits(settings.limits),
        budgets=budgets,
    )
    _spare_the_collector()
    announcement, drain = _Announcement(models), partial(_drain, service)
    await serve(
        service.app(),
        settings.server,
        drain,
        task_status=announcement,
        refuse=service.refuse,
        on_eviction=service.note_eviction,
    )


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
