"""Processes of a benchmark: started on loopback, spoken to by lines, ended with it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0  # seconds for a process that was told to end
SERVE = (sys.executable, "-c", "import sys; from sluicegate.cli import main; sys.exit(main())", "serve", "--port", "0")


@contextmanager
def process(
    command: list[str], env: Mapping[str, str] = os.environ, errors: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[str]"]:
    """Run `command` as long as the context lasts; its standard error goes to the descriptor `errors`."""
    with subprocess.Popen(
        command, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                raise


def line(child: "subprocess.Popen[str]") -> str:
    """Return the next line that `child` prints."""
    assert child.stdout is not None
    return child.stdout.readline()


@contextmanager
def serving(
    provider_port: int, errors: int = subprocess.DEVNULL, **settings: float
) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run `sluicegate serve`, with these settings, for the provider on that port of loopback; yields the process and
    the service's port.
    """
    env = {**os.environ, "OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": f"http://127.0.0.1:{provider_port}/v1"}
    env.pop("ANTHROPIC_API_KEY", None)
    chosen = [f"--set={name}={value}" for name, value in settings.items()]
    with process([*SERVE, *chosen], env, errors) as service:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/chat", line(service))
        assert found is not None
        yield service, int(found[1])


def resident(pid: int) -> int:
    """Return how many bytes of memory a process occupies (RSS)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
