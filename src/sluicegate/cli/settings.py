"""The arguments that are settings: `--config FILE`, `--set NAME=VALUE`, and a flag for each of the usual ones."""

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..providers.dialects import DIALECTS
from ..providers.proxies import BadProxy
from ..providers.table import BadTable
from ..settings import BadSettings, Settings, names, placed, read
from ..wire.upstream.profiles import PROFILES

CONFIG_VARIABLE = "SLUICEGATE_CONFIG"
_FLAGS: Final = {
    "host": "server.host",
    "port": "server.port",
    "certfile": "server.certfile",
    "keyfile": "server.keyfile",
    "dialect": "upstream.dialect",
    "profile": "upstream.profile",
    "model": "upstream.default_model",
    "tools": "tools",
    "spool": "spool.directory",
}


class Setting(NamedTuple):
    """One setting as it was written; what it may be is checked when all are read."""

    path: names.Path
    value: str


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add every argument that is a setting. None of them has a default: the settings have."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help=f"settings in TOML (default: the file that {CONFIG_VARIABLE} names)"
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on, 0 for any free one (default 8000)")
    parser.add_argument("--dialect", choices=DIALECTS, help="API to speak (default openai_chat)")
    parser.add_argument("--profile", choices=sorted(PROFILES), help="quirks of a compatible server (default auto)")
    parser.add_argument("--model", help="model for requests that name none")
    parser.add_argument(
        "--tools", metavar="MODULE:ATTRIBUTE", help="the tools to offer instead of the three of the demo"
    )
    parser.add_argument("--spool", metavar="DIRECTORY", help="keep what runs cost in files there (default: in memory)")
    parser.add_argument("--certfile", metavar="FILE", help="serve TLS with this certificate chain (PEM)")
    parser.add_argument("--keyfile", metavar="FILE", help="the certificate's private key (PEM)")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        type=_setting,
        action="append",
        default=[],
        help="set anything, such as run_seconds=300 or run.limits.steps=8; an unknown name lists them all",
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings of arguments, environment and file. Raises BadSettings. Blocks while it reads."""
    return read(config_of(options), _arguments(options))


@contextmanager
def placing(options: argparse.Namespace) -> Iterator[None]:
    """Within, what a room finds wrong with settings raises BadSettings, which names the places where they were set."""
    try:
        yield
    except (BadSettings, BadTable, BadProxy) as error:
        faults = error.faults if isinstance(error, BadSettings) else [str(error)]
        file, arguments = config_of(options), _arguments(options)
        raise BadSettings(placed(fault, file, arguments) for fault in faults) from None


def _arguments(options: argparse.Namespace) -> Mapping[str, Any]:
    flags = [
        Setting(names.path_of(name), getattr(options, flag))
        for flag, name in _FLAGS.items()
        if getattr(options, flag) is not None
    ]
    return _nested([*flags, *options.settings])


def config_of(options: argparse.Namespace) -> Path | None:
    """Return the file of settings that arguments or environment name."""
    named = os.environ.get(CONFIG_VARIABLE)
    return options.config or (Path(named) if named else None)


def _setting(text: str) -> Setting:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: must be NAME=VALUE")
    try:
        return Setting(names.path_of(name), value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _nested(settings: Iterable[Setting]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in settings:
        *tables, last = setting.path
        table = found
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = setting.value
    return found
