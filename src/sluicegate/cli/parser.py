"""The arguments of every command."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version

from ..providers.dialects import DIALECTS
from ..wire.upstream.profiles import PROFILES
from .chat import run_chat
from .check import add_check
from .deploy import add_deploy
from .keys import add_keys
from .replay import run_replay
from .serve import run_serve
from .settings import add_settings
from .usage import add_usage


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the parsed arguments; `run` is the command's function. Exits with status 2 on bad ones."""
    parser = argparse.ArgumentParser(
        prog="sluicegate", description="Stream LLM replies, run their tools, stop at once."
    )
    parser.add_argument("--version", action="version", version=f"sluicegate {version('sluicegate')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Uses OPENAI_API_KEY and ANTHROPIC_API_KEY (and their *_BASE_URL) where they are "
        "set, else the embedded scripted provider, which needs no key and no network.",
    )
    add_settings(serve)
    serve.set_defaults(run=run_serve)

    add_check(
        commands.add_parser(
            "check",
            help="check the settings, and try the providers",
            description="Read the settings as serve would, print what is in force, secrets left out, and ask each "
            "provider for its models, which costs nothing.",
        )
    )
    add_deploy(commands.add_parser("deploy", help="print configuration for nginx, systemd, Grafana or Prometheus"))
    add_keys(commands.add_parser("keys", help="make, list and revoke API keys"))
    add_usage(
        commands.add_parser(
            "usage",
            help="print what runs have cost",
            description="Read the spool, also beside a running service, and print what each owner, key and model came "
            "to on each day.",
        )
    )

    chat = commands.add_parser("chat", help="talk to a running service from the terminal")
    chat.add_argument("--url", default="http://127.0.0.1:8000", help="where the service is (default %(default)s)")
    chat.add_argument("--model", default="", help="model to ask for")
    chat.add_argument("--system", default="", help="instructions for the model")
    chat.add_argument("message", nargs="*", help="say this and leave; without it, a conversation")
    chat.set_defaults(run=run_chat)

    replay = commands.add_parser(
        "replay",
        help="decode recorded provider streams",
        description="Feed recorded provider bytes through decoder and machine; print one JSON line for each file.",
    )
    replay.add_argument("--dialect", choices=DIALECTS, required=True)
    replay.add_argument(
        "--profile", choices=sorted(PROFILES), default="auto", help="quirks of a compatible server (default automatic)"
    )
    replay.add_argument("--pieces", type=_positive, metavar="N", help="feed N bytes at a time (default: all at once)")
    replay.add_argument("--trace", action="store_true", help="print each transition instead")
    replay.add_argument("files", nargs="+", metavar="FILE", help="a recorded stream, - for standard input")
    replay.set_defaults(run=run_replay)
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
