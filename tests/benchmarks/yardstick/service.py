"""A target as a running process, and the load generator against it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

import msgspec

from . import proc
from .provider import HOST, STOP_SECONDS, Provider, free_port, wait_listening
from .targets import Target

START_SECONDS = 60.0
LOAD_SECONDS = 90.0  # that the load generator may take, whatever it was told
LOG_TAIL = 500


class Link(Enum):
    """How a target reaches the provider."""

    CLEAR = auto()
    TLS = auto()


class Quantiles(msgspec.Struct, frozen=True):
    """Of a number of times, in milliseconds."""

    n: int
    p50: float
    p99: float


class Gaps(msgspec.Struct, frozen=True):
    """Of the times between two reads that completed an event, in microseconds."""

    n: int
    p50: float
    p99: float


class OpenLoop(msgspec.Struct, frozen=True):
    """What became of the runs that were due in a window of so many seconds."""

    window_s: float
    arrived: int
    good: int
    refused: int
    failed: int
    late_first: int
    late_gap: int
    no_slot: int


class Dropped(NamedTuple):
    """A request that a client gave up: its number, when, and the marks that it had seen."""

    bid: int
    at_ns: int
    marks: int


class Load(msgspec.Struct, frozen=True):
    """What the clients saw. `ticks` are marks in the text, one in every eighth token."""

    finished: int
    ok: int
    errors: int
    unfinished: int
    events: int
    ticks: int
    wall_s: float
    ttft_ms: Quantiles
    total_ms: Quantiles
    refused_ms: Quantiles
    gap_us: Gaps
    open_loop: OpenLoop
    aborts: list[Dropped]

    @property
    def tokens(self) -> int:
        return self.ticks * 8


class Asked(NamedTuple):
    """The plan of a request: the model's name tells the provider how to reply."""

    model: str
    clients: int
    requests: int
    seconds: float
    options: tuple[str, ...] = ()


class NotStarted(Exception):
    """The target ended or did not listen in time; the message ends with its log."""


class Service:
    """A running target. `pid` is its process, or the provider's where the clients ask the provider itself."""

    def __init__(self, target: Target, pid: int, port: int, load: Path, scratch: Path) -> None:
        self.target = target
        self.pid = pid
        self._port = port
        self._load = load
        self._scratch = scratch

    def load(self, asked: Asked) -> tuple[Load, float]:
        """Let the clients ask; return what they saw, and the CPU seconds that the target spent meanwhile."""
        before = proc.cpu_seconds(self.pid)
        done = subprocess.run(self._command(asked), capture_output=True, timeout=LOAD_SECONDS, check=True)
        return msgspec.json.decode(done.stdout, type=Load), proc.cpu_seconds(self.pid) - before

    @contextmanager
    def loading(self, asked: Asked) -> Iterator[None]:
        """Let the clients ask for as long as the context lasts; they are killed at its end."""
        with subprocess.Popen(self._command(asked), stdout=subprocess.DEVNULL) as clients:
            try:
                yield
            finally:
                clients.kill()

    def _command(self, asked: Asked) -> list[str]:
        body = self._scratch / f"body-{self.target.name}-{asked.model}.json"
        body.write_text(self.target.body.replace("{model}", asked.model))
        path = self.target.path.replace("{model}", asked.model)
        command = [str(self._load), "--port", str(self._port), "--path", path, "--body", str(body)]
        command += ["-c", str(asked.clients), "-r", str(asked.requests), "--max-time", str(asked.seconds)]
        command += ["--header", self.target.header] if self.target.header else []
        return [*command, *asked.options]


class Starter:
    """Starts targets for one provider; `home` is where everything is installed."""

    def __init__(self, provider: Provider, home: Path, scratch: Path) -> None:
        self.provider = provider
        self._home = home
        self._scratch = scratch
        self._started = 0

    @contextmanager
    def running(self, target: Target, link: Link = Link.CLEAR) -> Iterator[Service]:
        """Run the target as long as the context lasts; raises NotStarted. It listens when the context is entered."""
        load = self._home / "bin" / "load"
        if not target.command:
            yield Service(target, self.provider.pid, self.provider.port, load, self._scratch)
            return
        self._started += 1
        name, port = f"{target.name}-{self._started}", free_port()
        log = self._scratch / f"{name}.log"
        command, env = self._filled(target, link, port, self._scratch / f"state-{name}")
        with log.open("wb") as out, subprocess.Popen(
            command, cwd=self._home / "peers", env=env, stdout=out, stderr=out, start_new_session=True
        ) as child:  # fmt: skip
            try:
                if not wait_listening(port, child, START_SECONDS):
                    raise NotStarted(f"{target.name} did not start: {log.read_text(errors='replace')[-LOG_TAIL:]}")
                yield Service(target, child.pid, port, load, self._scratch)
            finally:
                _end(child)

    def _filled(self, target: Target, link: Link, port: int, state: Path) -> tuple[list[str], dict[str, str]]:
        tls = link is Link.TLS
        up_port = self.provider.tls_port if tls else self.provider.port
        up = f"{'https' if tls else 'http'}://{HOST}:{up_port}"
        python = self._home / target.name / "bin" / "python"
        values = {"port": port, "up": up, "up_port": up_port, "home": self._home, "python": python, "state": state}
        env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
        env |= {"PORT": str(port), "UP": up, "UP_PORT": str(up_port)}
        env |= {name: value.format(**values) for name, value in target.env.items()}
        if tls:
            authority = str(self.provider.certificates.authority)
            env |= {"NODE_EXTRA_CA_CERTS": authority, "SSL_CERT_FILE": authority}
        return [part.format(**values) for part in target.command], env


def _end(child: "subprocess.Popen[bytes]") -> None:
    for pid in reversed(proc.tree(child.pid)):
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
