"""What is measured: how each target is started and asked, what it is made of, and which scenarios it takes part in."""

import json
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from .results import DIRECT, OURS

STEADY: Final = frozenset({"steady32", "steady64"})
CLIENT_SIDE: Final = frozenset({"ttft1", "sat1", "sat16", "sat128", "paced64", "paced256", "abort", "abort8"})
MUSTS: Final = ("steady32", "steady32_tls", "sat16", "ttft1", "abort", "mem", "tool")
PEER: Final = frozenset({*MUSTS, "steady64", "req8", "sat1", "sat128", "paced64", "abort8"}) - {"steady32_tls"}
CROWDS: Final = frozenset({"paced256", "idle2000", "goodput", "lengths"})
RELAY: Final = STEADY | CLIENT_SIDE | {"mem", "req8"}

_NATIVE = '{"model":"{model}","messages":[{"role":"user","content":"hello bid=@BID@"}]}'
_SIMPLE = '{"messages":[{"role":"user","content":"hello bid=@BID@"}]}'
_UI = json.dumps(
    {
        "id": "c1",
        "trigger": "submit-message",
        "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hello bid=@BID@"}]}],
    }
)
_OPENAI = '{"model":"{model}","stream":true,"messages":[{"role":"user","content":"hello bid=@BID@"}]}'
_UVICORN = ("{python}", "-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "--backlog", "4096")


class Speed(Enum):
    """A slow target gets more time, so that its figures rest on as many tokens."""

    FAST = auto()
    SLOW = auto()


@dataclass(frozen=True)
class Target:
    """`command` and `env` are filled in with str.format: {port} to listen on, {up} the provider's base URL, {up_port}
    its port, {home} where everything is installed, {python} the target's own interpreter, {state} a folder of its own.
    `header` is one more of each request. In `path` and `body` {model} is the model's name, which tells the provider how
    to reply. Without a command the clients ask the provider itself.
    """

    name: str
    command: tuple[str, ...]
    scenarios: frozenset[str]
    body: str = _SIMPLE
    path: str = "/chat?model={model}"
    speed: Speed = Speed.FAST
    packages: tuple[str, ...] = ()
    node_packages: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    header: str = ""


def _serve(
    name: str,
    dialect: str,
    scenarios: frozenset[str],
    env: dict[str, str],
    *more: str,
    header: str = "",
    of: str = OURS,
) -> Target:
    command = (
        f"{{home}}/{of}/bin/sluicegate",
        "serve",
        "--port",
        "{port}",
        "--spool",
        "{state}",
        "--tools",
        "one_tool:tools",
    )
    return Target(name, (*command, "--dialect", dialect, *more), scenarios, _NATIVE, "/chat", env=env, header=header)


def _peer(name: str, command: tuple[str, ...], packages: tuple[str, ...], body: str = _SIMPLE) -> Target:
    return Target(name, command, PEER, body, speed=Speed.SLOW, packages=packages)


_OPENAI_ENV: Final = {"OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": "{up}/v1"}
_ANTHROPIC_ENV: Final = {"ANTHROPIC_API_KEY": "unused", "ANTHROPIC_BASE_URL": "{up}"}
_WIRE: Final = "/v1/chat/completions"
# The AI SDK 7 needs Node 22 or newer; the npm package `node` carries one. The version of the SDK is named, since npm
# takes an older one where it runs on an older Node itself.
_NODE: Final = "{home}/js/node_modules/node/bin/node"
_NODE_PACKAGES: Final = ("node@24", "openai")
_BYTES: Final = RELAY | {"paced256", "lengths"}
_HYPERCORN: Final = (
    "{python}",
    "-m",
    "hypercorn",
    "--bind",
    "127.0.0.1:{port}",
    "-c",
    "hyp.toml",
    "--log-level",
    "warning",
)
_ALL: Final = PEER | CROWDS | {"steady32_tls", "slow"}
GUARDED: Final = "sluicegate-guarded"
BEFORE: Final = "sluicegate-before"  # another commit, which `--before` names
_KEY: Final = "Authorization: Bearer sg-000000000000-not-a-secret-as-it-stands-in-the-test-suite"
DIALECTS: Final = {"sluicegate-responses": "openai_responses", "sluicegate-anthropic": "anthropic"}
DIALECT_SCENARIOS: Final = frozenset({"steady32", "sat16"})
TUTORIAL: Final = "tutorial-js"
FRAMEWORKS: Final = ("fastapi-naive", "agents-sdk", "pydantic-ai", "naive-trio")
DEFAULT: Final = (DIRECT, "rawproxy-c", TUTORIAL, "naive-trio", OURS, *DIALECTS)

TARGETS: Final = {
    target.name: target
    for target in (
        Target(DIRECT, (), CLIENT_SIDE, _OPENAI, _WIRE),
        Target("rawproxy-c", ("{home}/bin/rawproxy", "{port}", "{up_port}"), _BYTES, _OPENAI, _WIRE),
        Target("raw-trio", ("{python}", "raw_trio.py"), RELAY, _OPENAI, _WIRE, packages=("trio",)),
        Target(TUTORIAL, (_NODE, "{home}/js/tutorial.mjs"), _ALL, node_packages=_NODE_PACKAGES),
        Target(
            "ai-sdk7",
            (_NODE, "{home}/js/aisdk.mjs"),
            PEER,
            _UI,
            speed=Speed.SLOW,
            node_packages=(*_NODE_PACKAGES, "ai@7", "@ai-sdk/openai@4", "@ai-sdk/openai-compatible@3", "zod"),
        ),
        _peer("fastapi-naive", (*_UVICORN, "fastapi_naive:app"), ("fastapi", "openai", "uvicorn[standard]")),
        _peer("agents-sdk", (*_UVICORN, "agents_app:app"), ("openai-agents", "fastapi", "uvicorn[standard]")),
        _peer(
            "pydantic-ai",
            (*_UVICORN, "pai:app"),
            ("pydantic-ai-slim[openai,ag-ui]", "starlette", "uvicorn[standard]"),
            _UI,
        ),
        _peer(
            "naive-trio",
            (*_HYPERCORN, "naive_trio:app"),
            ("quart-trio", "hypercorn", "openai", "trio"),
        ),
        _serve(OURS, "openai_chat", _ALL, _OPENAI_ENV),
        *(
            _serve(name, dialect, DIALECT_SCENARIOS, _ANTHROPIC_ENV if dialect == "anthropic" else _OPENAI_ENV)
            for name, dialect in DIALECTS.items()
        ),
        _serve(GUARDED, "openai_chat", PEER, _OPENAI_ENV, "--config", "guarded.toml", header=_KEY),
        _serve(BEFORE, "openai_chat", PEER, _OPENAI_ENV, of=BEFORE),
    )
}  # fmt: skip
