"""What people expect of a chat: keys, focus, scrolling, drafts, and that nothing jumps under their hands."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from .browser import Served, ask, until

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]

LEFT = "(box) => box.scrollHeight - box.scrollTop - box.clientHeight"
VISIBILITY = """
    window.visibility = "visible";
    Object.defineProperty(document, "visibilityState", {get: () => window.visibility});
"""
SHOW = "(state) => { window.visibility = state; document.dispatchEvent(new Event('visibilitychange')); }"


@pytest.fixture
def opened(browser: Browser, served: Served) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_page(**options: Any) -> Page:
        contexts.append(browser.new_context(reduced_motion="reduce", **options))
        page = contexts[-1].new_page()
        page.goto(served.url)
        return page

    yield open_page
    for context in contexts:
        context.close()


def question(page: Page) -> Locator:
    return page.get_by_label("Your message")


def ended(page: Page) -> None:
    expect(page.locator(".answer .usage").last).to_be_visible(timeout=20_000)


def grown(page: Page, word: int) -> None:
    expect(page.locator(".answer").last).to_contain_text(f"word {word}.")


def refuse(page: Page, status: int, code: str, message: str) -> None:
    """Every question from now on is refused."""
    body = json.dumps({"error": {"code": code, "message": message, "retryable": False}})

    def refused(route: Route) -> None:
        route.fulfill(status=status, content_type="application/json", body=body)

    page.route("**/chat", refused)


def test_enter_sends_and_with_shift_it_is_a_new_line(opened: Callable[..., Page]) -> None:
    page = opened()
    question(page).press_sequentially("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    expect(question(page)).to_have_value("one\ntwo")
    page.keyboard.press("Enter")
    expect(page.locator(".asked")).to_have_text("one\ntwo")
    expect(question(page)).to_have_value("")


def test_keys_of_an_input_method_neither_send_nor_stop(opened: Callable[..., Page]) -> None:
    page = opened()
    keyboard = page.context.new_cdp_session(page)

    def compose() -> None:
        keyboard.send("Input.imeSetComposition", {"text": "にほ", "selectionStart": 2, "selectionEnd": 2})

    compose()
    page.keyboard.press("Enter")
    question(page).fill("text")
    question(page).dispatch_event("keydown", {"key": "Enter", "keyCode": 229})  # as Safari has it
    expect(question(page)).to_have_value(re.compile("^text"))
    assert page.locator(".message").count() == 0
    question(page).fill("")
    ask(page, "say 5000 words at 50")
    grown(page, 9)
    compose()
    page.keyboard.press("Escape")
    grown(page, 29)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()


def test_the_focus_is_where_one_goes_on(opened: Callable[..., Page]) -> None:
    page = opened()
    for name in ("What is 6 times 7?", "Ask again", "Edit"):
        page.get_by_role("button", name=name).click()
        expect(question(page)).to_be_focused()
        if name != "Edit":
            ended(page)
    ask(page, "say 5000 words at 50")
    expect(question(page)).to_be_focused()
    grown(page, 9)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".ended.stopped")).to_be_visible()
    expect(question(page)).to_be_focused()
    page.get_by_role("button", name="New chat").click()
    expect(question(page)).to_be_focused()
    page.get_by_role("button", name="Inside").click()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Inside")).to_be_focused()


def test_a_draft_outlives_the_answer_its_end_and_the_page(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "say 5000 words at 50")
    grown(page, 9)
    page.keyboard.type("and then?")
    page.keyboard.press("Enter")  # not while an answer comes
    expect(question(page)).to_have_value("and then?")
    page.keyboard.press("Escape")
    expect(page.locator(".ended.stopped")).to_be_visible()
    expect(question(page)).to_have_value("and then?")
    page.reload()
    expect(question(page)).to_have_value("and then?")


def test_a_question_that_was_refused_can_be_changed(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "first")
    ended(page)
    refuse(page, 400, "INVALID_REQUEST", "It is too long.")
    ask(page, "second")
    expect(page.locator(".ended.failed")).to_contain_text("It is too long.")
    page.keyboard.type("third")
    page.get_by_role("button", name="Edit").click()
    expect(question(page)).to_have_value("second\n\nthird")
    expect(page.locator(".asked")).to_have_text(["first"])
    page.unroute("**/chat")
    page.keyboard.press("Enter")
    expect(page.locator(".answer").last).to_contain_text("You said 'second")


def test_who_scrolls_up_is_not_dragged_down(opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 500, "height": 400})
    scroller = page.locator(".scroller")
    ask(page, "say 5000 words at 200")
    grown(page, 99)
    assert scroller.evaluate(LEFT) <= 1
    scroller.hover()
    page.mouse.wheel(0, -30)  # a line or two
    latest = page.get_by_role("button", name="To the latest")
    expect(latest).to_be_visible()
    at = scroller.evaluate("(box) => box.scrollTop")
    grown(page, 199)
    assert scroller.evaluate("(box) => box.scrollTop") == at
    latest.click()
    expect(latest).to_be_hidden()
    expect(scroller).to_be_focused()
    for word in (249, 299):
        grown(page, word)
        assert scroller.evaluate(LEFT) <= 1
    page.mouse.wheel(0, -200)
    expect(latest).to_be_visible()

    def arrived() -> bool:
        page.mouse.wheel(0, 1000)
        return latest.is_hidden()

    until(arrived)
    grown(page, 399)
    assert scroller.evaluate(LEFT) <= 1


def test_a_long_draft_does_not_cover_the_end(opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 500, "height": 600})
    ask(page, "say 300 words at 4000")
    ended(page)
    question(page).fill("\n".join(f"line {number}" for number in range(40)))
    box = question(page).bounding_box()
    assert box is not None
    assert 200 < box["height"] <= 0.4 * 600 + 1
    until(lambda: page.locator(".scroller").evaluate(LEFT) <= 1)
    expect(page.get_by_role("button", name="To the latest")).to_be_hidden()


def test_what_is_unfolded_stays_where_it_is(opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 400, "height": 330})
    ask(page, "think")
    ended(page)
    summary = page.locator(".reasoning summary")
    until(lambda: page.locator(".scroller").evaluate(LEFT) <= 1)
    top = summary.bounding_box()
    summary.click()
    expect(page.locator(".reasoning p")).to_be_visible()
    until(lambda: page.locator(".scroller").evaluate(LEFT) > 1)
    assert summary.bounding_box() == top


def test_what_is_selected_stays_so_while_words_come(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "say 5000 words at 100")
    grown(page, 9)
    page.evaluate("""() => {
        const text = document.querySelector(".answer .md p").firstChild;
        getSelection().setBaseAndExtent(text, 7, text, 20);
    }""")
    grown(page, 49)
    assert page.evaluate("() => getSelection().toString()") == "word 1 word 2"


def test_nothing_shifts_from_the_first_word_to_the_end(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "say 60 words at 100")
    grown(page, 9)
    page.evaluate("""() => {
        window.shifts = [];
        new PerformanceObserver((list) => shifts.push(...list.getEntries().map(({value}) => value)))
            .observe({type: "layout-shift"});
        window.below = new Set();
        const height = (place) => document.querySelector(place).getBoundingClientRect().height;
        const look = () => {
            below.add(Math.round(height(".answer") - height(".answer .text")));
            requestAnimationFrame(look);
        };
        look();
    }""")
    ended(page)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert len(page.evaluate("() => [...below]")) == 1
    assert page.evaluate("() => shifts.reduce((sum, each) => sum + each, 0)") < 0.002  # the cursor itself moves


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_page(opened: Callable[..., Page], width: int) -> None:
    page = opened(viewport={"width": width, "height": 700})
    for text in ("tour", "w" * 600, "count to 1"):
        ask(page, text)
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=20_000)
    for summary in page.locator("summary").all():
        summary.click()
    page.get_by_role("button", name="Inside").click()
    for place in ("html", ".scroller", ".message .answer >> nth=0", ".panel"):
        box = page.locator(place).first
        assert box.evaluate("(box) => box.scrollWidth - box.clientWidth") <= 0, place


def test_fingers_have_room(opened: Callable[..., Page]) -> None:
    page = opened(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    ask(page, "tour")
    ended(page)
    ask(page, "count to 1")
    expect(page.locator(".answer .usage")).to_have_count(2)
    page.get_by_role("button", name="Inside").click()
    found = page.locator("button:visible, select:visible, summary:visible, textarea:visible")
    boxes = found.evaluate_all(
        "(all) => all.map((each) => [each.textContent, each.getBoundingClientRect()])"
        ".map(([text, {width, height}]) => [text, width, height])"
    )
    assert len(boxes) >= 12
    assert [box for box in boxes if box[1] < 44 or box[2] < 44] == []


def test_the_title_tells_of_an_answer_that_nobody_saw_come(opened: Callable[..., Page]) -> None:
    page = opened()
    page.context.add_init_script(VISIBILITY)
    page.reload()
    ask(page, "say 10 words at 1000")
    ended(page)
    expect(page).to_have_title("sluicegate")
    for text, title in (("say 12 words at 1000", "Answer ready"), ("break", "The model's provider failed")):
        page.evaluate(SHOW, "hidden")
        ask(page, text)
        expect(page).to_have_title(f"{title} · sluicegate")
        page.evaluate(SHOW, "visible")
        expect(page).to_have_title("sluicegate")
        page.evaluate(SHOW, "hidden")
        expect(page).to_have_title("sluicegate")


def test_until_words_come_the_page_says_that_it_waits(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    ask(page, "hang")
    until(lambda: served.observed()["runs"] > 0)
    expect(page.locator(".status")).to_have_text("Waiting for the first word…")
    expect(page.get_by_role("status")).to_have_text("Waiting for the first word…")
    expect(page.locator(".waiting")).to_be_visible()


def test_a_call_is_seen_while_it_is_written(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "half a call")
    expect(page.locator(".tool pre").first).to_be_visible()
    expect(page.locator(".tool pre").first).to_have_text('{"to": 12, "sec')
    expect(page.locator(".tool-state")).to_have_text("writing arguments…")


def test_without_a_key_the_settings_open_and_can_be_closed(opened: Callable[..., Page]) -> None:
    page = opened()
    key = page.get_by_label("API key")
    refuse(page, 401, "UNAUTHORIZED", "An API key is needed.")
    ask(page, "hello")
    expect(page.locator(".ended.failed")).to_contain_text(re.compile("Not allowed.*settings", re.DOTALL))
    expect(key).to_be_visible()
    page.get_by_role("button", name="Settings").click()
    expect(key).to_be_hidden()
    page.route("**/models", lambda route: route.fulfill(status=401, body="{}"))
    page.reload()
    expect(key).to_be_visible()
    page.get_by_role("button", name="Settings").click()
    expect(key).to_be_hidden()


def test_letters_that_run_from_right_to_left_begin_at_the_right(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "שלום עולם")
    ended(page)
    assert page.locator(".asked").evaluate("(each) => getComputedStyle(each).direction") == "rtl"
    question(page).fill("مرحبا")
    assert question(page).evaluate("(each) => each.matches(':dir(rtl)')")
