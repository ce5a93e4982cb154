"""How smooth the page is: `python -m tests.benchmarks.browser [--rounds 5] [--write]`.

Chromium without a window, and so without a graphics card, on the cores on which the service and its provider run as
well. In each round a fresh page gets each answer once; the figures are medians. A frame is the time between two calls
of requestAnimationFrame while the answer comes, a long task one of over 50 ms, as the browser tells them. `--write`
puts the figures, and the size of what the page loads, into specs/performance.md.
"""

import argparse
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from playwright.sync_api import Browser, CDPSession, expect

from tests import shared
from tests.benchmarks import page
from tests.web.browser import Served, ask, chromium, serving

PAGE: Final = shared.CHECKOUT / "specs" / "performance.md"
BUILT: Final = shared.CHECKOUT / "src/sluicegate/web/static"
ANSWERS: Final = {
    "20,000 words of prose at 2,000 a second": "say 20000 words at 2000",
    "200 sections of Markdown (lists, tables, code) at 2,000 words a second": "write 200 sections at 2000",
    "500 words at 50 a second": "say 500 words at 50",
}
GOAL_MS: Final = 50
GOAL_KIB: Final = 200
WATCHING: Final = """() => {
    window.watched = {frames: 0, renders: 0, longest: 0, tasks: []};
    let last = performance.now();
    const frame = (now) => {
        watched.frames++;
        watched.longest = Math.max(watched.longest, now - last);
        last = now;
        requestAnimationFrame(frame);
    };
    requestAnimationFrame((now) => { last = now; requestAnimationFrame(frame); });
    new PerformanceObserver((list) => watched.tasks.push(...list.getEntries().map((entry) => entry.duration)))
        .observe({type: "longtask"});
    new MutationObserver(() => watched.renders++)
        .observe(document.getElementById("root"), {childList: true, characterData: true, subtree: true});
}"""
COLUMNS: Final = ("frames", "renders", "longest frame, ms", "long tasks", "longest task, ms", "MiB held")


def measured(browser: Browser, served: Served, question: str) -> tuple[float, ...]:
    """One answer in a fresh page: what COLUMNS name."""
    shown = browser.new_page()
    shown.goto(served.url)
    devtools = shown.context.new_cdp_session(shown)
    ask(shown, "say 20 words at 1000")
    expect(shown.locator(".usage")).to_be_visible()
    before = _held(devtools)
    shown.evaluate(WATCHING)
    ask(shown, question)
    # Not with `expect`, which describes the whole page to itself again and again, in the page's own thread.
    shown.wait_for_selector(".message:nth-child(4) .usage", timeout=120_000)
    found = shown.evaluate("() => watched")
    held = _held(devtools) - before
    shown.close()
    tasks = found["tasks"]
    return found["frames"], found["renders"], found["longest"], len(tasks), max(tasks, default=0), held


def _held(devtools: CDPSession) -> float:
    devtools.send("HeapProfiler.collectGarbage")
    size: float = devtools.send("Runtime.getHeapUsage")["usedSize"]
    return size / 1024 / 1024


def sizes() -> Iterator[tuple[str, float]]:
    """What the page loads, each with its KiB as it is sent, compressed."""
    for path in sorted(path for path in BUILT.rglob("*") if path.is_file()):
        yield path.suffix.removeprefix("."), len(gzip.compress(path.read_bytes(), 9)) / 1024


def table(rounds: dict[str, list[tuple[float, ...]]]) -> list[str]:
    """Return the lines of the figures: median, and the worst in brackets."""
    lines = [f"| answer | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    for name, found in rounds.items():
        cells = [f"{median(each):.0f} ({max(each):.0f})" for each in zip(*found, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.browser")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    rounds: dict[str, list[tuple[float, ...]]] = {name: [] for name in ANSWERS}
    with serving() as served, chromium() as browser:
        version = browser.version
        for _ in range(options.rounds):
            for name, question in ANSWERS.items():
                rounds[name].append(measured(browser, served, question))
    parts = list(sizes())
    text = "\n".join(
        [
            *page.conditions(f"python -m tests.benchmarks.browser --rounds {options.rounds} --write"),
            f"- Chromium {version} without a window; median of {options.rounds} rounds, in brackets the most",
            f"- goals: no frame longer than {GOAL_MS} ms, less than {GOAL_KIB} KiB to load",
            "",
            *table(rounds),
            "",
            f"The page loads {sum(size for _, size in parts):.0f} KiB, compressed: "
            + ", ".join(f"{size:.0f} KiB of {kind}" for kind, size in parts)
            + ".",
        ]
    )
    print(text)
    if options.write:
        page.put(Path(PAGE), "browser", text)


if __name__ == "__main__":
    main()
