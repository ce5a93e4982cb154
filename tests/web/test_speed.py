"""A fast answer: no more renders than frames of the display, and memory that does not grow with what was shown."""

import pytest
from playwright.sync_api import Browser, expect

from .browser import Served, ask

pytestmark = [pytest.mark.once, pytest.mark.sockets, pytest.mark.xdist_group("browser")]

COUNTING = """
window.counted = {frames: 0, renders: 0};
const frame = () => { counted.frames++; requestAnimationFrame(frame); };
requestAnimationFrame(frame);
document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(() => counted.renders++)
        .observe(document.getElementById("root"), {childList: true, characterData: true, subtree: true});
});
"""
TOKENS = 20_000
MIB = 1024 * 1024


def test_a_fast_answer_renders_once_a_frame_at_most_and_holds_little(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    page.add_init_script(COUNTING)
    page.goto(served.url)
    devtools = page.context.new_cdp_session(page)

    def held() -> float:
        devtools.send("HeapProfiler.collectGarbage")
        size: float = page.evaluate("() => performance.memory.usedJSHeapSize")
        return size / MIB

    ask(page, "say 20 words at 1000")
    expect(page.locator(".usage")).to_be_visible()
    before = held()
    start: dict[str, int] = page.evaluate("() => ({...counted})")
    ask(page, f"say {TOKENS} words at 2000")
    expect(page.locator(".message")).to_have_count(4)
    expect(page.locator(".message:last-child .usage")).to_be_visible(timeout=60_000)
    end: dict[str, int] = page.evaluate("() => counted")
    frames, renders = end["frames"] - start["frames"], end["renders"] - start["renders"]
    assert renders <= frames + 2  # one for what was typed, one for what was sent
    assert renders >= 50
    assert f"word {TOKENS // 2 - 1}" in page.locator(".message:last-child").inner_text()
    assert held() - before < 24
    page.close()
