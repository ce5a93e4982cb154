"""The page as its reader sees it: what is asked comes, and whatever happens to it is said."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from .browser import Line, Served, ask, serving, until

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]


@pytest.fixture
def opened(context: BrowserContext, served: Served) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end it must have asked nobody but the service, and nothing may have been refused."""
    wrong: list[str] = []

    def open_page(url: str = served.url) -> Page:
        page = context.new_page()
        page.on("request", lambda request: None if request.url.startswith(url) else wrong.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(url)
        return page

    yield open_page
    assert wrong == []


def idle(served: Served) -> bool:
    """Whether nothing is left open at the provider, and no run is live."""
    seen = served.observed()
    return seen["opened"] == seen["closed"] and seen["runs"] == 0


def test_an_answer_streams_to_its_end(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "say 60 words at 100")
    answer = page.locator(".answer")
    expect(answer).to_contain_text("word 3")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answer).to_contain_text("word 29.")
    expect(answer.locator(".usage")).to_contain_text(
        re.compile(r"scripted-demo · \d+ tokens in, \d+ out · \$0\.000\d+")
    )
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_label("Your message")).to_be_focused()


def test_stop_closes_the_stream_at_the_provider(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    ask(page, "say 5000 words at 50")
    expect(page.locator(".answer")).to_contain_text("word 3")
    assert not idle(served)
    page.get_by_role("button", name="Stop").click()
    until(lambda: idle(served), 1)
    expect(page.locator(".ended")).to_contain_text("Stopped.")
    expect(page.locator(".answer")).to_contain_text("word 3")
    expect(page.locator(".ended .usage")).to_contain_text("out")


def test_escape_stops_before_the_first_word(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    ask(page, "hang")
    expect(page.locator(".waiting")).to_be_visible()
    until(lambda: not idle(served))
    page.keyboard.press("Escape")
    until(lambda: idle(served), 1)
    expect(page.locator(".ended")).to_contain_text("Stopped.")


def test_a_tab_that_is_closed_stops_its_answer(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    ask(page, "say 5000 words at 50")
    expect(page.locator(".answer")).to_contain_text("word 3")
    page.close(run_before_unload=True)
    until(lambda: idle(served), 1)


def test_a_tool_call_is_shown_as_it_goes(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "count to 4")
    tool = page.locator(".tool")
    expect(tool.locator(".tool-name")).to_have_text("count")
    expect(tool.locator(".tool-state")).to_have_text("Counting to 4")
    expect(tool).to_contain_text(re.compile(r'"at":\d'))
    expect(tool.locator(".tool-state")).to_have_text("done")
    expect(page.locator(".answer")).to_contain_text("The tool has ended: 4.")


def test_a_tool_that_fails_is_no_end(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "fail the tool")
    expect(page.locator(".tool-state")).to_have_text("failed")
    expect(page.locator(".answer")).to_contain_text("The tool has ended")


def test_an_error_in_mid_stream_is_said_and_another_try_is_offered(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "break")
    expect(page.locator(".ended.failed")).to_contain_text("The model's provider failed.")
    expect(page.locator(".answer")).to_contain_text("This will not go")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".message")).to_have_count(2)
    expect(page.locator(".ended.failed")).to_contain_text("The model's provider failed.")


def test_reasoning_is_folded_and_a_refusal_is_read(opened: Callable[..., Page]) -> None:
    page = opened()
    ask(page, "think")
    expect(page.locator(".reasoning summary")).to_have_text("Thought about it")
    expect(page.locator(".reasoning p")).to_be_hidden()
    expect(page.locator(".answer")).to_contain_text("I have thought about it.")
    ask(page, "refuse")
    expect(page.locator(".refusal")).to_have_text("That I will not say.")


def test_a_connection_that_is_cut_is_read_on(opened: Callable[..., Page], served: Served) -> None:
    line = Line(served.port)
    page = opened(line.url)
    ask(page, "say 400 words at 100")
    expect(page.locator(".answer")).to_contain_text("word 9.")
    for number in (49, 99, 149):
        line.cut()
        expect(page.locator(".answer")).to_contain_text(f"word {number}.")
    expect(page.locator(".usage")).to_contain_text("out")
    said = page.locator(".answer .md").all_inner_texts()
    assert re.findall(r"word (\d+)", "\n".join(said)) == [str(number) for number in range(200)]
    line.close()


def test_a_server_that_restarts_has_lost_the_answer_and_that_is_said(browser: Browser) -> None:
    with serving() as served:
        page = browser.new_page()
        page.goto(served.url)
        ask(page, "say 1000 words at 50")
        expect(page.locator(".answer")).to_contain_text("word 9.")
        port = served.port
        served.kill()
        expect(page.locator(".status")).to_have_text("Connection lost. Reconnecting…")
        served.start(port)
        expect(page.locator(".ended.failed")).to_contain_text(
            "Connection lost. The answer is not complete.", timeout=15_000
        )
        expect(page.locator(".answer")).to_contain_text("word 9.")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".answer")).to_contain_text("word 19.")
        page.close()
