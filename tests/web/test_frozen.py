"""Pages that the browser froze for half a minute: on thaw the answer is there, or goes on, or is said to be lost.

All are frozen at once, so that the half minute passes once.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from .browser import Line, Served, ask, expect_whole, numbers, serving, unaltered_chromium, until

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]

FROZEN: Final = 30.0
RATE: Final = 30
LONG: Final = 2000  # words, too many for the time
NOTING = """
window.frozen = {};
for (const name of ["freeze", "resume"]) document.addEventListener(name, () => (frozen[name] = Date.now()));
"""


@dataclass
class Thawed:
    """Pages that were frozen, by what happened meanwhile, and what was seen while they were."""

    whole: Page
    growing: Page
    cut: Page
    gone: Page
    restarted: Page
    shared: Page
    follower: Page
    runs_left: int
    followed: int
    opened: int
    service: Served


@pytest.fixture(scope="module")
def thawed() -> Iterator[Thawed]:
    with ExitStack() as stack:
        patient = stack.enter_context(serving("--grace", "60"))
        strict = stack.enter_context(serving("--grace", "5"))
        crashing = stack.enter_context(serving())
        slow, short = (stack.enter_context(closing(Line(served.port))) for served in (patient, strict))
        context = stack.enter_context(unaltered_chromium()).contexts[0]
        whole = started(context, patient.url, f"say 300 words at {RATE}")
        growing = started(context, patient.url, f"say {LONG} words at {RATE}")
        cut = started(context, slow.url, f"say {LONG} words at {RATE}")
        gone = started(context, short.url, f"say {LONG} words at {RATE}")
        restarted = started(context, crashing.url, f"say {LONG} words at {RATE}")
        shared = started(context, patient.url, f"say {LONG} words at {RATE}")
        follower = context.new_page()
        follower.goto(shared.url)
        expect(follower.locator(".answer")).to_contain_text("word 19.")
        pages = (whole, growing, cut, gone, restarted, shared)
        opened = patient.observed()["opened"]
        for page in pages:
            set_state(page, "frozen")
        slow.cut()
        short.cut()
        port = crashing.port
        crashing.kill()
        crashing.start(port)
        before = max(numbers(follower))
        time.sleep(FROZEN)
        followed = max(numbers(follower)) - before
        runs_left = patient.observed()["runs"]
        until(lambda: strict.observed()["runs"] == 0)
        for page in pages:
            set_state(page, "active")
        for page in pages:
            slept: int = page.evaluate("() => frozen.resume - frozen.freeze")
            assert slept >= 1000 * FROZEN
        yield Thawed(whole, growing, cut, gone, restarted, shared, follower, runs_left, followed, opened, patient)


def set_state(page: Page, state: str) -> None:
    """Freeze the page, as a browser does in the background, or thaw it."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Page.setWebLifecycleState", {"state": state})
    devtools.detach()


def started(context: BrowserContext, url: str, question: str) -> Page:
    """A page on which an answer has begun."""
    page = context.new_page()
    page.add_init_script(NOTING)
    page.goto(url)
    ask(page, question)
    expect(page.locator(".answer")).to_contain_text("word 9.")
    return page


def test_an_answer_that_ended_meanwhile_is_there(thawed: Thawed) -> None:
    assert thawed.runs_left == 3
    expect_whole(thawed.whole, 300)


def test_an_answer_that_goes_on_is_read_on(thawed: Thawed) -> None:
    expect(thawed.growing.get_by_role("button", name="Stop")).to_be_attached()
    expect_whole(thawed.growing, LONG, 90)


def test_a_connection_that_was_lost_meanwhile_is_read_on(thawed: Thawed) -> None:
    expect_whole(thawed.cut, LONG, 90)


def test_an_answer_that_was_given_up_is_said_to_be(thawed: Thawed) -> None:
    expect(thawed.gone.locator(".ended")).to_contain_text("Stopped. What had come is kept.", timeout=20_000)
    expect(thawed.gone.locator(".answer")).to_contain_text("word 9.")


def test_a_server_that_restarted_has_lost_the_answer_and_that_is_said(thawed: Thawed) -> None:
    page = thawed.restarted
    expect(page.locator(".ended.failed")).to_contain_text(
        "Connection lost. The answer is not complete.", timeout=20_000
    )
    page.bring_to_front()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".answer")).to_contain_text("word 19.")


def test_another_tab_read_on_and_the_one_that_was_frozen_follows(thawed: Thawed) -> None:
    assert thawed.followed > RATE * FROZEN / 4  # two words a number, and some seconds until it reads itself
    for page in (thawed.shared, thawed.follower):
        expect_whole(page, LONG, 90)
    assert thawed.service.observed() == {"opened": thawed.opened, "closed": thawed.opened, "runs": 0}
