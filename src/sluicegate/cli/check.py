"""`sluicegate check`: are the settings right, what is in force, and does it work from here?"""

import argparse
import os
import sys
from collections.abc import Iterator

import trio

from ..machine.errors import SluicegateError
from ..providers.base import ProviderError, ProviderRejected
from ..providers.environment import providers_of
from ..providers.models import Models
from ..providers.options import Via
from ..providers.sdk import SdkProvider
from ..providers.table import from_tables
from ..runtime.spool_files import check_directory
from ..server.serve import check_certificate
from ..settings import BadSettings, Settings
from ..settings.report import effective
from ..tools.loading import load
from .access import access_of
from .advice import advice
from .settings import add_settings, placing, settings_of

SECONDS = 10.0  # that a provider has to answer
UNAUTHORIZED = (401, 403)


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_settings(parser)
    parser.add_argument("--offline", action="store_true", help="ask no provider")
    parser.add_argument("--nginx", metavar="FILE", help="look into this configuration of nginx, too")
    parser.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    """Print the settings in force, then what is wrong or doubtful on standard error; 0 if the service would work, 1 if
    a provider cannot be used, 2 if the settings cannot.
    """
    try:
        settings = settings_of(options)
        with placing(options):
            access_of(settings)
            models = from_tables(settings.providers, settings.models, settings.upstream, os.environ)
        if settings.tools:
            load(settings.tools)
        check_certificate(settings.server)
        if settings.spool is not None:
            check_directory(settings.spool.directory)
        told = list(advice(settings, models, options.nginx))
    except BadSettings as error:
        for fault in error.faults:
            print(f"sluicegate check: {fault}", file=sys.stderr)
        return 2
    except SluicegateError as error:
        print(f"sluicegate check: {error}", file=sys.stderr)
        return 2
    print(effective(settings))
    for line in told:
        print(f"sluicegate check: warning: {line}", file=sys.stderr)
    return 0 if options.offline else trio.run(_try_all, settings, models)


async def _try_all(settings: Settings, models: Models) -> int:
    """Ask every provider at once for its models; return the exit status."""
    options = settings.providers or providers_of(os.environ, settings.upstream)
    verdicts: dict[str, bool] = {}

    async def ask(name: str) -> None:
        provider = models.served[name].provider
        if options[name].via is Via.SCRIPTED or not isinstance(provider, SdkProvider):
            print(f"\n# provider {name}: is the embedded one, which is no model")
            return
        good, words = await _verdict(provider, list(_wanted(models, name)))
        verdicts[name] = good
        print(f"\n# provider {name}: {words}", file=sys.stdout if good else sys.stderr)

    async with trio.open_nursery() as nursery:
        for name in models.served:
            nursery.start_soon(ask, name)
    await models.aclose()
    return 0 if all(verdicts.values()) else 1


async def _verdict(provider: SdkProvider, wanted: list[str]) -> tuple[bool, str]:
    try:
        with trio.fail_after(SECONDS):
            known = await provider.list_models()
    except trio.TooSlowError:
        return False, f"did not answer within {SECONDS:g} s; see to its base_url and to proxies"
    except ProviderRejected as error:
        if error.status in UNAUTHORIZED:
            return False, f"refuses the key (status {error.status}); see to api_key or api_key_env"
        return False, f"refuses to be asked (status {error.status})"
    except ProviderError as error:
        return False, f"{error} See to its base_url and to proxies."
    if known is None:
        return True, "answers; it has no list of its models"
    missing = [model for model in wanted if model not in known]
    if missing:
        return True, f"answers, but does not list {', '.join(missing)}; it may be a name of another kind, or wrong"
    return True, f"answers, with {len(known)} models"


def _wanted(models: Models, name: str) -> Iterator[str]:
    """The provider's own names of the models that are asked of it."""
    routes = models.routes.values() or [models.resolve("")]
    for route in routes:
        for candidate in route.candidates:
            if candidate.gate.name == name:
                yield candidate.model
