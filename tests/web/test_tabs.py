"""One conversation in several tabs: one of them reads, all of them show it, and none starves another."""

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from playwright.sync_api import BrowserContext, Error, Page, expect

from .browser import Served, ask, expect_whole, until

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]

SLOTS = 5  # as in client/slots.ts


@pytest.fixture
def opened(context: BrowserContext, served: Served) -> Callable[..., Page]:
    def open_page(url: str = served.url) -> Page:
        page = context.new_page()
        page.goto(url)
        expect(page.get_by_label("Your message")).to_be_visible()
        return page

    return open_page


def streams(served: Served) -> tuple[int, int]:
    """How many streams the provider has opened, and how many of them are open."""
    seen = served.observed()
    return seen["opened"], seen["opened"] - seen["closed"]


def test_the_address_names_the_conversation_and_new_chat_leaves_it(opened: Callable[..., Page]) -> None:
    page, other = opened(), opened()
    assert re.fullmatch(r".*/#chat=[0-9a-f]{32}", page.url)
    assert other.url != page.url
    ask(page, "hello")
    expect(page.locator(".usage")).to_be_visible()
    expect(other.locator(".message")).to_have_count(0)
    second = opened(page.url)
    expect(second.locator(".message")).to_have_count(2)
    before = page.url
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".message")).to_have_count(0)
    until(lambda: page.url != before)
    expect(second.locator(".message")).to_have_count(2)
    ask(page, "and you?")
    expect(page.locator(".usage")).to_be_visible()
    expect(second.locator(".message")).to_have_count(2)
    page.goto(before)
    expect(page.locator(".message")).to_have_count(2)


def test_a_second_tab_follows_as_it_grows(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    before, _ = streams(served)
    ask(page, "say 300 words at 80")
    expect(page.locator(".answer")).to_contain_text("word 9.")
    second = opened(page.url)
    for number in (29, 69, 109):
        expect(second.locator(".answer")).to_contain_text(f"word {number}.")
        expect(second.get_by_role("button", name="Stop")).to_be_visible()
    for tab in (page, second):
        expect_whole(tab, 300)
    assert streams(served) == (before + 1, 0)


def test_the_reader_is_closed_and_the_other_reads_on(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    before, _ = streams(served)
    ask(page, "say 300 words at 80")
    second = opened(page.url)
    expect(second.locator(".answer")).to_contain_text("word 9.")
    page.close(run_before_unload=True)
    expect_whole(second, 300)
    assert streams(served) == (before + 1, 0)


def test_the_reader_crashes_and_the_other_reads_on(context: BrowserContext, served: Served) -> None:
    page = context.new_page()
    page.goto(served.url)
    before, _ = streams(served)
    ask(page, "say 300 words at 80")
    second = context.new_page()
    second.goto(page.url)
    expect(second.locator(".answer")).to_contain_text("word 9.")
    with page.expect_event("crash"), suppress(Error):
        page.goto("chrome://crash")
    expect_whole(second, 300)
    assert streams(served) == (before + 1, 0)


def test_the_last_tab_that_is_closed_stops_the_answer(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    before, _ = streams(served)
    ask(page, "say 5000 words at 50")
    second, third = opened(page.url), opened(page.url)
    for tab in (second, third):
        expect(tab.locator(".answer")).to_contain_text("word 9.")
    for tab, last in ((third, 29), (page, 59)):
        tab.close(run_before_unload=True)
        expect(second.locator(".answer")).to_contain_text(f"word {last}.")
        assert streams(served) == (before + 1, 1)
    second.close(run_before_unload=True)
    until(lambda: streams(served) == (before + 1, 0), 1)


def test_stop_from_the_tab_that_follows(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    ask(page, "say 5000 words at 50")
    second = opened(page.url)
    expect(second.locator(".answer")).to_contain_text("word 9.")
    second.get_by_role("button", name="Stop").click()
    until(lambda: streams(served)[1] == 0, 1)
    for tab in (page, second):
        expect(tab.locator(".ended")).to_contain_text("Stopped.")
        expect(tab.get_by_role("button", name="Send")).to_be_visible()
    second.get_by_role("button", name="Try again").click()
    for tab in (page, second):
        expect(tab.locator(".message")).to_have_count(2)
        expect(tab.locator(".answer")).to_contain_text("word 9.")
    page.get_by_role("button", name="Stop").click()
    until(lambda: streams(served)[1] == 0, 1)


def test_of_two_questions_at_the_same_moment_one_is_kept_to_be_sent_again(opened: Callable[..., Page]) -> None:
    page = opened()
    second = opened(page.url)
    for tab, text in ((page, "say 200 words at 100"), (second, "say 100 words at 100")):
        tab.get_by_label("Your message").fill(text)
        tab.evaluate(
            """() => {
                const channel = new BroadcastChannel("test");
                channel.onmessage = () => document.querySelector("form").requestSubmit();
            }"""
        )
    third = opened()
    third.evaluate("() => new BroadcastChannel('test').postMessage('now')")
    for tab in (page, second):
        expect(tab.locator(".usage")).to_be_visible()
        expect(tab.locator(".message")).to_have_count(2)
    kept = [tab for tab in (page, second) if tab.get_by_label("Your message").input_value()]
    assert len(kept) == 1
    expect(kept[0].locator(".refused")).to_contain_text("Another tab asked first.")
    kept[0].get_by_role("button", name="Send").click()
    for tab in (page, second):
        expect(tab.locator(".message")).to_have_count(4)
        expect(tab.locator(".usage")).to_have_count(2)
    expect(kept[0].locator(".refused")).to_have_count(0)


def test_tabs_beyond_the_connections_of_a_browser_say_that_they_wait(
    opened: Callable[..., Page], served: Served
) -> None:
    tabs = [opened() for _ in range(SLOTS)]
    for number, tab in enumerate(tabs, 1):
        ask(tab, "say 5000 words at 20")
        until(lambda: streams(served)[1] == number)  # noqa: B023 - called at once
    sixth, seventh = opened(), opened()
    for tab in (sixth, seventh):
        ask(tab, "say 10 words at 50")
        expect(tab.locator(".status")).to_have_text("Waiting: other tabs hold all connections to this server.")
    tabs[0].get_by_role("button", name="Stop").click()
    for tab in (sixth, seventh):
        expect(tab.locator(".answer")).to_contain_text("word 4")
        expect(tab.locator(".usage")).to_be_visible()
    assert streams(served)[1] == SLOTS - 1
    for tab in tabs[1:]:
        tab.get_by_role("button", name="Stop").click()
    until(lambda: streams(served)[1] == 0)


def test_many_tabs_of_one_conversation_take_one_connection(opened: Callable[..., Page], served: Served) -> None:
    page = opened()
    before, _ = streams(served)
    ask(page, "say 600 words at 60")
    others = [opened(page.url) for _ in range(SLOTS + 2)]
    for tab in others:
        expect(tab.locator(".answer")).to_contain_text("word 9.")
    assert streams(served) == (before + 1, 1)
    apart = opened()
    ask(apart, "say 10 words at 50")
    expect(apart.locator(".usage")).to_be_visible()
    for tab in (page, *others):
        expect_whole(tab, 600)
