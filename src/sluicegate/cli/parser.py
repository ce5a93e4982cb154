"""The arguments of every command."""

import argparse
from collections.abc import Sequence
from importlib.metadata import version

from ..providers.dialects import DIALECTS
from ..wire.upstream.profiles import PROFILES
from .chat import run_chat
from .replay import run_replay
from .serve import run_serve
from .settings import Setting, parse_setting

MAX_PORT = 65_535


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
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    serve.add_argument(
        "--port", type=_port, default=8000, help="port to listen on, 0 for any free one (default %(default)s)"
    )
    serve.add_argument("--dialect", choices=DIALECTS, default="openai_chat", help="API to speak (default %(default)s)")
    _add_profile(serve)
    serve.add_argument("--model", default="", help="model for requests that name none")
    serve.add_argument(
        "--tools", metavar="MODULE:ATTRIBUTE", help="the tools to offer instead of the three of the demo"
    )
    serve.add_argument("--spool", metavar="DIRECTORY", help="keep what runs cost in files there (default: in memory)")
    serve.add_argument("--certfile", metavar="FILE", help="serve TLS with this certificate chain (PEM)")
    serve.add_argument("--keyfile", metavar="FILE", help="the certificate's private key (PEM)")
    serve.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        type=_setting,
        action="append",
        default=[],
        help="set a limit, such as run_seconds=300, detach=false; an unknown name lists them all",
    )
    serve.set_defaults(run=run_serve)

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
    _add_profile(replay)
    replay.add_argument("--pieces", type=_positive, metavar="N", help="feed N bytes at a time (default: all at once)")
    replay.add_argument("--trace", action="store_true", help="print each transition instead")
    replay.add_argument("files", nargs="+", metavar="FILE", help="a recorded stream, - for standard input")
    replay.set_defaults(run=run_replay)
    return parser.parse_args(arguments)


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", choices=sorted(PROFILES), default="auto", help="quirks of a compatible server (default automatic)"
    )


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be between 0 and {MAX_PORT}")
    return number


def _setting(text: str) -> Setting:
    try:
        return parse_setting(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
