"""A new app, by the commands and the files that README.md has for the browser, as they stand there."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, Page, expect

from .browser import Served, until

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]

ROOT: Final = Path(__file__).parents[2]
WEB: Final = ROOT / "src/sluicegate/web"
TEXT: Final = (ROOT / "README.md").read_text(encoding="utf-8")
SERVICE: Final = "http://127.0.0.1:8000"


def block(language: str, needle: str) -> str:
    """The fenced block of that language which has `needle`."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    [found] = [each for each in blocks if needle in each]
    return str(found)


def npm(command: str, folder: Path) -> str:
    """Run a line of the page, with nobody to ask; fail with what it printed if it failed."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def has_registry() -> bool:
    """Whether npm is there, and can get packages."""
    ping = ["npm", "view", "create-vite", "version", "--fetch-retries=0", "--fetch-timeout=10000"]
    return shutil.which("npm") is not None and subprocess.run(ping, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    """The folder of the app, its files as README.md has them, but for the address of the service."""
    if not has_registry():
        reason = "needs npm, and a registry that it can ask"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("new")
    sources = folder / "sluicegate" / WEB.relative_to(ROOT)
    shutil.copytree(WEB, sources, ignore=shutil.ignore_patterns("node_modules", "dist"))
    *setting_up, start = block("sh", "npm create").splitlines()
    assert start.startswith("npm run dev")
    for line in setting_up:
        npm(line, folder)
    app = folder / "my-chat"
    (app / "vite.config.ts").write_text(block("ts", "defineConfig").replace(SERVICE, served.url), encoding="utf-8")
    (app / "src/App.tsx").write_text(block("tsx", "useStreamingChat"), encoding="utf-8")
    (app / "src/bare.ts").write_text(block("ts", "for await").replace("const ", "export const ", 1), encoding="utf-8")
    return app


@pytest.fixture
def page(browser: Browser, app: Path) -> Iterator[Page]:
    """The app under its own server, which passes on what is for the service."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = ["node", "node_modules/vite/bin/vite.js", "--host", "127.0.0.1", "--port", str(port), "--strictPort"]
    with subprocess.Popen(command, cwd=app, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            until(lambda: answers(port))
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            yield page
            page.close()
        finally:
            server.terminate()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_it_builds_by_its_own_rules(app: Path) -> None:
    npm("npm run build", app)
    assert list((app / "dist/assets").glob("*.js"))


def test_it_is_a_chat(page: Page, served: Served) -> None:
    ask(page, "count to 2")
    expect(page.locator("[data-role=assistant]")).to_contain_text("The tool has ended: 2.")
    ask(page, "break")
    expect(page.get_by_role("alert")).to_contain_text("Try again")
    ask(page, "say 5000 words at 50")
    expect(page.locator("[data-role=assistant]").last).to_contain_text("word 3")
    expect(page.get_by_role("status")).to_have_text("streaming")
    page.get_by_role("button", name="Stop").click()
    until(lambda: served.observed()["opened"] == served.observed()["closed"], 1)
