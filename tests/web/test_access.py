"""Who does not see hears: what is announced, where the focus is, and that axe finds nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from .browser import Served, ask

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]

AXE = Path(__file__).parents[2] / "src/sluicegate/web/node_modules/axe-core/axe.min.js"
HEARD = """() => {
    window.heard = {log: [], status: []};
    for (const role of Object.keys(heard)) {
        const region = document.querySelector(`[role=${role}]`);
        new MutationObserver((changes) => {
            for (const change of changes) {
                const added = [...change.addedNodes].map((node) => node.textContent);
                heard[role].push(...(role === "log" ? added : [region.textContent]).filter(Boolean));
            }
        }).observe(region, {childList: true, characterData: true, subtree: true});
    }
}"""


@pytest.fixture(params=["light", "dark", "phone"])
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    sizes: dict[str, Any] = {"viewport": {"width": 390, "height": 780}} if request.param == "phone" else {}
    context = browser.new_context(color_scheme="dark" if request.param == "dark" else "light", **sizes)
    yield context
    context.close()


def violations(page: Page) -> list[str]:
    """What axe finds wrong: its rules and the elements."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("() => axe.run()")
    return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found["violations"]]


def empty(page: Page) -> None:
    expect(page.get_by_label("Your message")).to_be_focused()


def waiting(page: Page) -> None:
    ask(page, "hang")
    expect(page.locator(".waiting")).to_be_visible()


def streaming(page: Page) -> None:
    ask(page, "say 5000 words at 50")
    expect(page.locator(".answer")).to_contain_text("word 9.")


def tool(page: Page) -> None:
    ask(page, "count to 50")
    expect(page.locator(".tool.running")).to_contain_text('"at":')


def failed(page: Page) -> None:
    ask(page, "break")
    expect(page.locator(".ended.failed")).to_be_visible()


def stopped(page: Page) -> None:
    streaming(page)
    page.keyboard.press("Escape")
    expect(page.locator(".ended.stopped")).to_be_visible()


def markdown(page: Page) -> None:
    ask(page, "tour")
    expect(page.locator(".usage")).to_be_visible(timeout=20_000)
    page.locator(".reasoning summary").click()


def settings(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("System prompt")).to_be_visible()


def hood(page: Page) -> None:
    page.get_by_role("button", name="Inside").click()
    ask(page, "count to 1")
    expect(page.locator(".usage")).to_be_visible()


STATES: list[Callable[[Page], None]] = [empty, waiting, streaming, tool, failed, stopped, markdown, settings, hood]


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(context: BrowserContext, served: Served, state: Callable[[Page], None]) -> None:
    page = context.new_page()
    page.goto(served.url)
    state(page)
    assert violations(page) == []


def test_what_is_heard_are_sentences_and_the_status(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    page.goto(served.url)
    page.evaluate(HEARD)
    ask(page, "tell 20 sentences")
    expect(page.locator(".usage")).to_be_visible()
    heard: dict[str, list[str]] = page.evaluate("() => heard")
    assert " ".join(heard["log"]) == " ".join(f"This is sentence {at}." for at in range(20))
    assert all(text.endswith(".") for text in heard["log"])
    assert 2 <= len(heard["log"]) <= 10
    assert [text for text, before in zip(heard["status"], ["", *heard["status"]], strict=False) if text != before] == [
        "Sending…",
        "Waiting for the first word…",
        "Answering…",
        "The answer is complete.",
    ]
    page.close()


def test_the_live_regions_in_mid_stream(browser: Browser, served: Served) -> None:
    """As the tree of accessibility has them: nothing of the conversation itself is live."""
    page = browser.new_page()
    page.goto(served.url)
    ask(page, "say 5000 words at 50")
    expect(page.locator("[role=log]")).to_contain_text("word 9.")
    live = page.locator("[aria-live], [role=log], [role=status], [role=alert]")
    places = live.evaluate_all("(all) => all.map((each) => [each.getAttribute('role'), !each.closest('main')])")
    assert places == [["log", True], ["status", True]]
    assert 'log "Answer"' in page.locator("body").aria_snapshot()
    assert "status: Answering…" in page.locator("body").aria_snapshot()
    page.close()
