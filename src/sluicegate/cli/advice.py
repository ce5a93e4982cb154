"""What is allowed, and yet likely to be regretted: said by `sluicegate check`, never in the way of `serve`."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..providers.models import Models
from ..service.key_file import KeyFile
from ..service.options import BudgetOptions, Rates
from ..settings import BadSettings, Settings

_DIRECTIVE: Final = re.compile(r"^\s*(?P<name>proxy_\w+|gzip)\s+(?P<value>[^;#]+);", re.MULTILINE)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "": 1.0}
_PART: Final = re.compile(r"(\d+)\s*(ms|[smhd]?)")
_BUFFERS: Final = {"proxy_buffering": "on", "proxy_cache": None, "gzip": "on"}


def advice(settings: Settings, models: Models, nginx: str | None) -> Iterator[str]:
    """Yield what is doubtful about `settings`, and about the configuration file `nginx`. Raises BadSettings if that
    cannot be read.
    """
    yield from _of_proxies(settings)
    yield from _of_budgets(settings, models)
    if settings.access.keys is not None:
        yield from _of_keys(settings.access.keys, models)
    if settings.access.open and (settings.access.keys or settings.access.issuers):
        yield "access.open: has no effect beside keys or issuers; leave it out"
    limits = settings.limits
    if limits.user != Rates() and not limits.user_header and not any(i.user_claim for i in settings.access.issuers):
        yield "limits.user: nobody names an end user, so it has no effect; set limits.user_header or a user_claim"
    if limits.address != Rates() and not settings.service.trusted_proxies:
        yield "limits.address: behind a proxy all clients have its address; name it in service.trusted_proxies"
    if settings.spool is None and (limits.key_budget, limits.day_budget) != (BudgetOptions(), BudgetOptions()):
        yield "spool.directory: is not set, so a service that starts again does not know what today has cost"
    if nginx is not None:
        yield from _of_nginx(settings, nginx)


def no_keys(path: Path) -> str:
    """Return the words for a file of keys that has none."""
    what = "has no keys" if path.exists() else "is not there"
    return f"{path.absolute()} {what}, so none lets anybody in; see `sluicegate keys create`"


def _of_keys(path: Path, models: Models) -> Iterator[str]:
    keys = KeyFile(path).read()
    if not keys:
        yield f"access.keys: {no_keys(path)}"
    for key in keys:
        unknown = [model for model in key.grants.models or () if models.routes and model not in models.routes]
        if unknown and key.revoked is None:
            known = ", ".join(models.routes)
            yield f"access.keys: key {key.id} ({key.owner}) allows {', '.join(unknown)}; the models are {known}"


def _of_proxies(settings: Settings) -> Iterator[str]:
    service, run = settings.service, settings.run
    if service.proxy_silence_seconds <= run.heartbeat_seconds:
        yield (
            f"service.proxy_silence_seconds: a proxy gives up after {service.proxy_silence_seconds:g} s of silence, "
            f"and run.heartbeat_seconds is {run.heartbeat_seconds:g}; make heartbeats come twice as often"
        )
    if service.proxy_seconds < run.run_seconds:
        yield (
            f"service.proxy_seconds: a proxy cuts responses off after {service.proxy_seconds:g} s, and runs may take "
            f"{run.run_seconds:g} (run.run_seconds); raise the one or lower the other"
        )


def _of_budgets(settings: Settings, models: Models) -> Iterator[str]:
    limits = settings.limits
    if all(each.dollars is None for each in (limits.run_budget, limits.key_budget, limits.day_budget)):
        return
    for route in models.routes.values() or [models.resolve("")]:
        for candidate in route.candidates:
            if candidate.price is None:
                yield (
                    f"models: the price of {candidate.gate.name}:{candidate.model} is not known, so requests for "
                    f"{route.model} are refused while there is a budget in dollars; set "
                    f'providers.{candidate.gate.name}.prices."{candidate.model}"'
                )


def _of_nginx(settings: Settings, file: str) -> Iterator[str]:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings([f"{file}: cannot be read: {error}"]) from None
    silence = settings.run.heartbeat_seconds
    for found in _DIRECTIVE.finditer(text):
        name, value = found["name"], found["value"].strip()
        where = f"{file}, line {text.count(chr(10), 0, found.start('name')) + 1}: {name} {value}"
        if name == "proxy_read_timeout" and (seconds := _seconds(value)) <= silence:
            yield f"{where}: is {seconds:g} s, and heartbeats come after {silence:g} s; take what `deploy nginx` prints"
        elif name in _BUFFERS and value != "off" and _BUFFERS[name] in (None, value):
            yield f"{where}: may hold tokens back; turn it off for this service"
        elif name == "proxy_ignore_client_abort" and value == "on":
            yield f"{where}: nobody tells the service when a client leaves, and runs go on for nobody; turn it off"


def _seconds(value: str) -> float:
    """A time as nginx writes it, such as `1m 30s`; inf for what is none."""
    parts = _PART.findall(value)
    return sum(int(number) * _UNITS[unit] for number, unit in parts) if parts else math.inf
