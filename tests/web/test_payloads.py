"""What a hostile model or tool says is text: nothing of it runs, and nobody else is asked for anything."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from tests.security.rows import COUNTS

from .browser import Served, ask

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]

PAYLOADS: Final[list[str]] = json.loads(
    (Path(__file__).parents[2] / "src/sluicegate/web/test/markdownPayloads.json").read_text(encoding="utf-8")
)
HOSTILE: Final = Path(__file__).with_name("hostile.js").read_text(encoding="utf-8")
TEXTS: Final = """(answer) => {
    const texts = (selector) => [...answer.querySelectorAll(selector)].map((each) => each.textContent);
    return {
        reasoning: texts(".reasoning p"), refusal: texts(".refusal"), note: texts(".note"), name: texts(".tool-name"),
        given: texts(".tool dd:first-of-type"), result: texts(":is(.tool.done, .tool.failed) dd:last-of-type"),
        detail: texts(".detail"),
    };
}"""
SCRIPTED: Final = "([reads, payload]) => { window.reads = window[reads](payload); }"


class Watched:
    """A page, and whatever ran in it, tried to, or asked anybody but the service.

    What the policy of the page held off counts as well: text must not get so far.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self._wrong: list[str] = []
        page.on("request", lambda request: None if request.url.startswith(f"{url}/") else self._note(request.url))
        page.on("dialog", lambda dialog: self._note(dialog.message))
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("console", self._hear)
        page.context.on("page", lambda other: self._note(f"opened {other.url}"))
        page.add_init_script(HOSTILE)

    def _note(self, what: str) -> None:
        self._wrong.append(what)

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"} and "status of 400" not in said.text:
            self._note(said.text)

    def check(self) -> None:
        found: list[str] = self.page.evaluate("() => [...strangers(), ...signs]")
        assert self._wrong + found == []

    def answer(self, reads: str, payload: str) -> None:
        """Ask, and have the page read what `reads` of hostile.js yields."""
        self.page.evaluate(SCRIPTED, [reads, payload])
        ask(self.page, "x")

    def start_anew(self) -> None:
        self.page.get_by_role("button", name="New chat").click()
        expect(self.page.locator(".message")).to_have_count(0)


@pytest.fixture
def watched(browser: Browser, served: Served) -> Iterator[Watched]:
    page = browser.new_page(reduced_motion="reduce")
    watched = Watched(page, served.url)
    page.goto(served.url)
    yield watched
    page.close()


def test_split_at_every_character_and_every_byte(watched: Watched) -> None:
    words = read = 0
    for payload in PAYLOADS:
        watched.answer("split", payload)
        expect(watched.page.locator(".usage")).to_be_visible(timeout=60_000)
        watched.check()
        splits: dict[str, int] = watched.page.evaluate("() => splits")
        assert splits["words"] == len(payload) + 1
        assert splits["bytes"] >= len(payload.encode())
        assert watched.page.locator(".answer .md").count() == sum(splits.values())
        words, read = words + splits["words"], read + splits["bytes"]
        watched.start_anew()
    assert len(set(PAYLOADS)) >= COUNTS["payloads"]
    assert words >= COUNTS["payload_words"]
    assert read >= COUNTS["payload_reads"]


def test_wherever_an_answer_has_text(watched: Watched, served: Served) -> None:
    page = watched.page
    models = {"models": [{"name": payload} for payload in PAYLOADS], "default": PAYLOADS[0]}
    page.route("**/models", lambda route: route.fulfill(json=models))
    page.goto(served.url)
    page.get_by_role("button", name="Inside").click()
    expect(page.locator(".model option")).to_have_count(len(PAYLOADS))
    for payload in PAYLOADS:
        watched.answer("places", payload)
        page.wait_for_function("() => window.release")
        running = page.locator(".tool.running")
        assert running.locator(".tool-state").text_content() == payload
        assert running.locator(".tool-name").text_content() == payload
        page.evaluate("() => { release(); release = undefined; }")
        expect(page.locator(".ended")).to_be_visible()
        given = {payload: payload}
        said = page.locator(".answer").evaluate(TEXTS)
        assert [read(text) for text in said.pop("given")] == [payload, given, given, given]
        assert said == {
            "reasoning": [payload],
            "refusal": [payload],
            "note": [f"The provider uses {payload}."],
            "name": [payload] * 4,
            "result": [payload] * 2,
            "detail": [payload],
        }
        assert (page.locator(".usage").text_content() or "").startswith(payload)
        framed = [json.loads(text) for text in page.locator(".events code").all_text_contents()]
        assert {"content": payload} in framed
        watched.check()
        watched.start_anew()


def test_wherever_an_answer_that_one_comes_late_to_has_text(watched: Watched) -> None:
    for payload in PAYLOADS:
        watched.answer("late", payload)
        page = watched.page
        page.wait_for_function("() => window.release")
        assert page.locator(".tool.running .tool-state").text_content() == payload
        said = page.locator(".answer").evaluate(TEXTS)
        assert [read(text) for text in said.pop("given")] == [payload] * 2
        assert said == {
            "reasoning": [payload],
            "refusal": [payload],
            "note": [f"The provider uses {payload}."],
            "name": [payload] * 2,
            "result": [payload],
            "detail": [],
        }
        page.evaluate("() => { release(); release = undefined; }")
        expect(page.locator(".usage")).to_be_visible()
        watched.check()
        watched.start_anew()


def test_what_a_provider_and_a_tool_send_character_by_character(watched: Watched) -> None:
    """All the way through the service, whose own words for a provider's error are shown, never the provider's."""
    page = watched.page
    for number, payload in enumerate(PAYLOADS):
        ask(page, f"spell {number}")
        expect(page.locator(".ended.failed")).to_be_visible()
        said = page.locator(".answer").evaluate(TEXTS)
        assert payload in said["result"]
        assert said["reasoning"] == [payload]
        assert said["refusal"] == [payload]
        assert said["name"] == ["echo", payload]
        assert payload not in said["detail"][0]
        watched.check()
        watched.start_anew()


def test_what_a_server_refuses_with_and_what_a_user_asks(watched: Watched) -> None:
    page = watched.page

    def refuse(route: Route) -> None:
        asked = json.loads(route.request.post_data or "")["messages"][-1]["content"]
        route.fulfill(status=400, json={"error": {"code": asked, "message": asked, "field": asked}})

    page.route("**/chat", refuse)
    for payload in PAYLOADS:
        ask(page, payload)
        expect(page.locator(".ended.failed")).to_be_visible()
        assert page.locator(".detail").text_content() == payload.strip()
        assert page.locator(".asked").text_content() == payload.strip()
        watched.check()
        watched.start_anew()


def read(text: str) -> object:
    """JSON, or the text that is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text
