"""`sluicegate keys create | list | revoke`: the API keys of the service."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from ..service.access import Grants
from ..service.key_file import KeyFile, KeyFileError
from ..service.keys import Key, make_key
from ..service.options import BudgetOptions, Rates
from ..settings import BadSettings, read
from .settings import config_of

DAY = 86_400.0
_RATES: Final = {
    "requests_per_minute": "runs that start within 60 seconds (default: limits.key of the settings)",
    "tokens_per_minute": "tokens within 60 seconds",
    "concurrent_runs": "runs at once",
}
_BUDGETS: Final = {"run_budget": "one run", "day_budget": "all runs of a day (UTC)"}
_SPENT: Final = {"tokens": "tokens", "dollars": "US dollars", "seconds": "seconds"}
_Action: TypeAlias = Callable[[KeyFile, argparse.Namespace], int]


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Add the three commands and their arguments."""
    commands = parser.add_subparsers(required=True, metavar="ACTION")
    create = commands.add_parser(
        "create", help="make a key", description="Make a key and print it. Only its hash is kept: it is shown once."
    )
    create.add_argument("owner", type=_name, help="whose runs are started with it; several keys may have one owner")
    create.add_argument("--models", type=_names, metavar="A,B", help="the models that it allows (default: all)")
    create.add_argument("--tools", type=_names, metavar="A,B", help="the tools that it allows (default: all)")
    create.add_argument("--no-detach", action="store_true", help="no runs that go on without a reader")
    create.add_argument("--days", type=_days, metavar="N", help="until it expires (default: never)")
    for name in _RATES:
        create.add_argument(f"--{name.replace('_', '-')}", type=_count, metavar="N", help=_RATES[name])
    for budget, whose in _BUDGETS.items():
        for what, unit in _SPENT.items():
            kind = _count if what == "tokens" else _amount
            flag = f"--{budget.partition('_')[0]}-{what}"
            create.add_argument(flag, type=kind, metavar="N", help=f"{unit} that {whose} may take")
    create.set_defaults(run=_reporting(_create))
    listing = commands.add_parser("list", help="list the keys, without their secrets")
    listing.set_defaults(run=_reporting(_list))
    revoke = commands.add_parser("revoke", help="refuse a key from now on; running services notice within a second")
    revoke.add_argument("id", help="the key's id, which `list` shows; the key itself does as well")
    revoke.set_defaults(run=_reporting(_revoke))
    for command in (create, listing, revoke):
        command.add_argument("--file", type=Path, help="the file of keys (default: access.keys of the settings)")
        command.add_argument("--config", metavar="FILE", type=Path, help="the file of settings")


def _create(file: KeyFile, options: argparse.Namespace) -> int:
    now = time.time()
    rates = Rates(*(getattr(options, name) for name in _RATES))
    grants = Grants(
        options.models,
        options.tools,
        not options.no_detach,
        None if rates == Rates() else rates,
        **{budget: _budget(options, budget) for budget in _BUDGETS},
    )
    key, text = make_key(options.owner, now, grants, None if options.days is None else now + options.days * DAY)
    file.add(key)
    print(text)
    print(f"This is shown once. Its id is {key.id}; send it as `Authorization: Bearer ...`.", file=sys.stderr)
    return 0


def _budget(options: argparse.Namespace, budget: str) -> BudgetOptions | None:
    """The budget that was asked for; None for that of the settings."""
    found = BudgetOptions(*(getattr(options, f"{budget.partition('_')[0]}_{what}") for what in _SPENT))
    return None if found == BudgetOptions() else found


def _list(file: KeyFile, _options: argparse.Namespace) -> int:
    now = time.time()
    print(f"{'ID':12}  {'OWNER':20}  {'MADE':10}  {'STATE':18}  ALLOWS")
    for key in file.read():
        print(f"{key.id:12}  {key.owner:20}  {_date(key.created)}  {_state(key, now):18}  {_allows(key.grants)}")
    return 0


def _revoke(file: KeyFile, options: argparse.Namespace) -> int:
    key_id = options.id.split("-")[1] if options.id.startswith("sg-") else options.id
    if file.revoke(key_id, time.time()):
        return 0
    print(f"sluicegate keys: there is no key {key_id}; `sluicegate keys list` shows all.", file=sys.stderr)
    return 1


def _reporting(action: _Action) -> Callable[[argparse.Namespace], int]:
    """`action` with the file found for it, and told what went wrong with that: 1, or 2 where no file is named."""

    def run(options: argparse.Namespace) -> int:
        try:
            path = options.file or read(config_of(options)).access.keys
            if path is None:
                print("sluicegate keys: name the file, --file FILE or access.keys in the settings.", file=sys.stderr)
                return 2
            return action(KeyFile(path), options)
        except (BadSettings, KeyFileError) as error:
            print(f"sluicegate keys: {error}", file=sys.stderr)
            return 2 if isinstance(error, BadSettings) else 1

    return run


def _state(key: Key, now: float) -> str:
    if key.revoked is not None:
        return f"revoked {_date(key.revoked)}"
    if key.expires is None:
        return "good"
    return f"{'good until' if key.is_good(now) else 'expired'} {_date(key.expires)}"


def _allows(grants: Grants) -> str:
    words = [f"{name}: {','.join(names) or 'none'}" for name, names in _lists(grants) if names is not None]
    words += _numbers("", grants.rates)
    words += [*_numbers("a run: ", grants.run_budget), *_numbers("a day: ", grants.day_budget)]
    return "; ".join([*words, *([] if grants.detach else ["no detach"])]) or "all"


def _numbers(whose: str, limits: Rates | BudgetOptions | None) -> list[str]:
    known = dataclasses.asdict(limits) if limits is not None else {}
    return [f"{whose}{name.replace('_', ' ')}: {most:,}" for name, most in known.items() if most is not None]


def _lists(grants: Grants) -> tuple[tuple[str, tuple[str, ...] | None], ...]:
    return ("models", grants.models), ("tools", grants.tools)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _name(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise argparse.ArgumentTypeError("must have visible characters only")
    return text


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def _amount(text: str) -> float:
    amount = float(text)
    if not 0 < amount < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return amount


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days < 100_000:
        raise argparse.ArgumentTypeError("must be a number of days, more than 0")
    return days
