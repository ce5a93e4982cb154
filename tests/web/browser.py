"""Chromium, the service for it, and a line between them that can be cut."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Final, TypeVar
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

T = TypeVar("T")
PATIENCE: Final = 30.0
# No look-ups of its own; as root it runs without a sandbox of its own.
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Served:
    """The service of `tests.web.served` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def start(self, port: int = 0) -> None:
        """Start it, on that port."""
        command = [sys.executable, "-m", "tests.web.served", "--port", str(port), *self._arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("serves "):
                self.url = line.split()[1]
                return
        raise AssertionError("it did not start")

    def kill(self) -> None:
        """Kill it, as a crash would."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def observed(self) -> dict[str, int]:
        """Return how many streams the provider opened and closed, and how many runs are live."""
        with urlopen(f"{self.url}/observed") as answer:  # noqa: S310 - our own address
            found: dict[str, int] = json.load(answer)
        return found


class Line:
    """A way to a port of this machine on which everything can be cut off, and for a while kept off."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.is_open = True
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def close(self) -> None:
        """Cut, and listen no more."""
        self.is_open = False
        self.cut()
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
                if not self.is_open:
                    near.close()
                    continue
                far = socket.create_connection(self._to)
            except OSError:
                return
            self._pairs.append((near, far))
            threading.Thread(target=_relay, args=(near, far), daemon=True).start()


def _relay(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    with near, far, contextlib.suppress(OSError, ValueError):
        while True:
            for ready in select.select([near, far], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                other[ready].sendall(data)


@contextmanager
def serving(*arguments: str) -> Iterator[Served]:
    """A service that is up."""
    served = Served(*arguments)
    served.start()
    try:
        yield served
    finally:
        served.kill()


def _program() -> str:
    """The Chromium that `CHROMIUM` names, or of the machine; skips without one, and in CI fails."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None and os.environ.get("CI"):
        pytest.fail("Chromium is not installed", pytrace=False)
    if path is None:
        pytest.skip("Chromium is not installed")
    return path


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium, without a window."""
    path = _program()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def unaltered_chromium() -> Iterator[Browser]:
    """The same, whose pages are hidden and frozen as those of any browser: Playwright's own are always shown."""
    path = _program()
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile, sync_playwright() as playwright:
        own = ("--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank")
        process = subprocess.Popen([path, *ARGUMENTS, *own], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            address = next(line.split()[-1] for line in process.stderr if line.startswith("DevTools listening on"))
            browser = playwright.chromium.connect_over_cdp(address, no_defaults=True)
            yield browser
            browser.close()
        finally:
            process.terminate()
            process.wait()
            process.stderr.close()


def until(found: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Return what `found` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return result


def ask(page: Page, text: str) -> None:
    """Type a question, and send it."""
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def numbers(page: Page) -> list[int]:
    """Return the words of the page's only answer, by their numbers."""
    said = "\n".join(page.locator(".answer .md").all_inner_texts())
    return [int(number) for number in re.findall(r"word (\d+)", said)]


def expect_whole(page: Page, words: int, seconds: float = 15) -> None:
    """Wait for the end of `say {words} words`: each came once, in order."""
    expect(page.locator(".usage")).to_be_visible(timeout=1000 * seconds)
    assert numbers(page) == list(range(words // 2))
