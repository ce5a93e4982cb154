"""The hook of the tutorial that this project grew from, unchanged, against the running service."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests import shared

from .browser import Served, until

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]

WEB = Path(__file__).parents[2] / "src" / "sluicegate" / "web"
APP = """
import { createRoot } from "react-dom/client";
import { useStreamingChat } from "./useStreamingChat";

function App() {
  const { messages, isStreaming, sendMessage, abort } = useStreamingChat({
    apiUrl: "/chat",
    onError: (error) => ((window as any).failed = error),
    onComplete: (text) => ((window as any).complete = text),
  });
  return (
    <>
      <button onClick={() => sendMessage((document.getElementById("question") as HTMLInputElement).value)}>Ask</button>
      <input id="question" />
      <button onClick={abort}>Abort</button>
      <p id="state">{isStreaming ? "streaming" : "idle"}</p>
      {messages.map((message, at) => <p key={at} className={message.role}>{message.content}</p>)}
    </>
  );
}
createRoot(document.getElementById("root")!).render(<App />);
"""
PAGE = '<!doctype html><title>x</title><div id="root"></div><script type="module" src="./main.tsx"></script>'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hook as the tutorial prints it, in an app that Vite builds."""
    text = shared.require("seed/streaming-llm-responses.txt").read_text(encoding="utf-8")
    begin = text.index("// hooks/useStreamingChat.ts")
    hook = text[begin : text.index("\n}\n", begin) + 3]
    while "return { messages, isStreaming, sendMessage, abort };" not in hook:
        hook = text[begin : text.index("\n}\n", begin + len(hook)) + 3]
    folder = tmp_path_factory.mktemp("tutorial")
    for name, content in {"index.html": PAGE, "main.tsx": APP, "useStreamingChat.ts": hook}.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "node_modules").symlink_to(WEB / "node_modules")
    vite = str(WEB / "node_modules" / ".bin" / "vite")
    subprocess.run([vite, "build", "--outDir", "built", "--base", "./", "--logLevel", "error"], cwd=folder, check=True)
    return folder / "built"


@pytest.fixture
def page(browser: Browser, served: Served, built: Path) -> Iterator[Page]:
    """The app, under the address of the service."""

    def give(route: Route) -> None:
        path = built / route.request.url.removeprefix(f"{served.url}/tutorial/")
        route.fulfill(path=path if path.is_file() else built / "index.html")

    page = browser.new_page()
    page.route(f"{served.url}/tutorial/**", give)
    page.goto(f"{served.url}/tutorial/")
    yield page
    page.close()


def ask(page: Page, text: str) -> None:
    page.locator("#question").fill(text)
    page.get_by_role("button", name="Ask").click()


def test_it_shows_an_answer(page: Page) -> None:
    ask(page, "say 60 words at 100")
    expect(page.locator(".assistant")).to_contain_text("word 3")
    expect(page.locator("#state")).to_have_text("idle")
    complete = page.evaluate("() => window.complete")
    assert complete.split()[-2:] == ["word", "29."]
    assert page.evaluate("() => window.failed") is None


def test_it_goes_on_with_a_conversation_and_with_tools(page: Page) -> None:
    ask(page, "count to 2")
    expect(page.locator(".assistant")).to_contain_text("The tool has ended: 2.")
    expect(page.locator("#state")).to_have_text("idle")
    ask(page, "say 4 words at 100")
    expect(page.locator(".assistant").last).to_contain_text("word 1")


def test_it_hears_of_an_error(page: Page) -> None:
    ask(page, "break")
    expect(page.locator("#state")).to_have_text("idle")
    assert page.evaluate("() => window.failed.code") == "UPSTREAM_ERROR"


def test_its_abort_ends_the_stream_at_the_provider(page: Page, served: Served) -> None:
    ask(page, "say 5000 words at 50")
    expect(page.locator(".assistant")).to_contain_text("word 3")
    page.get_by_role("button", name="Abort").click()
    until(lambda: served.observed()["opened"] == served.observed()["closed"], 1)
