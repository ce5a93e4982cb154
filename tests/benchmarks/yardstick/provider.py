"""The fake provider as a process, in clear text and over TLS, and what it counted."""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import trustme

HOST = "127.0.0.1"
POLL = 0.05
START_SECONDS = 10.0
STOP_SECONDS = 5.0


class Abort(NamedTuple):
    """A stream whose client left before its end: the request's number, its times in ns, tokens sent and left."""

    bid: int
    asked_ns: int
    closed_ns: int
    sent: int
    left: int


class Stats(msgspec.Struct, frozen=True):
    """The counters since the last reset; `open` are the streams under way."""

    open: int
    finished: int
    tokens: int
    tool_second: int
    tool_ok: int
    aborts: list[Abort]


class Certificates(NamedTuple):
    """PEM files: of the authority that clients are to trust, of the provider, and its key."""

    authority: Path
    chain: Path
    key: Path


class Provider:
    """A running provider. `pid` is its process; `port` speaks clear text, `tls_port` TLS."""

    def __init__(self, pid: int, port: int, tls_port: int, certificates: Certificates) -> None:
        self.pid = pid
        self.port = port
        self.tls_port = tls_port
        self.certificates = certificates

    def stats(self) -> Stats:
        """Ask for the counters."""
        return msgspec.json.decode(self._ask("/stats"), type=Stats)

    def reset(self) -> None:
        """Set the counters to zero; streams under way stay open."""
        self._ask("/reset", b"{}")

    def settle(self, seconds: float) -> int:
        """Wait until no stream is under way, at most so long; return how many are."""
        return self.wait_open(0, 0, seconds)

    def wait_open(self, least: int, most: int, seconds: float) -> int:
        """Wait until so many streams are under way, at most so long; return how many are."""
        until = time.monotonic() + seconds
        while not least <= (found := self.stats().open) <= most and time.monotonic() < until:
            time.sleep(POLL)
        return found

    def _ask(self, path: str, data: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", data, timeout=10) as response:
            body: bytes = response.read()
        return body


@contextmanager
def running(program: Path, scratch: Path) -> Iterator[Provider]:
    """Run the provider `program` as long as the context lasts; its certificates are made anew in `scratch`."""
    certificates = _certificates(scratch)
    port, tls_port = free_port(), free_port()
    command = [program, "--port", port, "--tls-port", tls_port]
    command += ["--cert", certificates.chain, "--key", certificates.key]
    with subprocess.Popen([str(part) for part in command]) as child:
        try:
            if not wait_listening(port, child, START_SECONDS):
                raise SystemExit(f"yardstick: the provider did not start: {program}")
            yield Provider(child.pid, port, tls_port, certificates)
        finally:
            child.terminate()
            child.wait(STOP_SECONDS)


def free_port() -> int:
    """Return a port of loopback on which nobody listens now."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
    return port


def wait_listening(port: int, child: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait until `child` listens on `port`; False if it ended or took longer."""
    until = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            time.sleep(POLL)
        else:
            return True
    return False


def _certificates(folder: Path) -> Certificates:
    authority = trustme.CA()
    issued = authority.issue_cert(HOST, "localhost")
    found = Certificates(folder / "authority.pem", folder / "provider.pem", folder / "provider.key")
    authority.cert_pem.write_to_path(str(found.authority))
    issued.private_key_pem.write_to_path(str(found.key))
    for number, part in enumerate(issued.cert_chain_pems):
        part.write_to_path(str(found.chain), append=number > 0)
    return found
