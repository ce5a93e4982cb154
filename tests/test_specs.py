"""The pages of specs/: generated ones are current, and what the others claim of code and tests is true."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.reply_table import TABLE as REPLY_TABLE
from sluicegate.machine.run_table import TABLE as RUN_TABLE
from sluicegate.machine.table import arrows
from sluicegate.service.problems import STATUS
from sluicegate.wire.downstream import native
from tests import specs
from tests.checklist import ITEMS

ROOT = specs.FOLDER.parent
TOLD_BY_AN_EVENT = {ErrorCode.CONTENT_FILTER: 200}


def page(name: str) -> str:
    return (specs.FOLDER / name).read_text(encoding="utf-8")


def rows(text: str, first: str) -> list[list[str]]:
    """The cells of every row of the Markdown tables of `text` whose first cell matches `first`."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in cells if re.fullmatch(first, row[0].strip("`"))]


@pytest.mark.parametrize("name", specs.generated())
def test_generated_pages_are_current(name: str) -> None:
    assert page(name) == specs.generated()[name], "run `python -m tests.specs`"


@pytest.mark.parametrize(("name", "table"), [("reply.mmd", REPLY_TABLE), ("run.mmd", RUN_TABLE)])
def test_a_diagram_shows_every_arrow_once(name: str, table: Any) -> None:
    shown = [
        (edge[1], symbol, edge[2])
        for line in page(name).splitlines()
        if (edge := re.fullmatch(r" +(\w+) --> (\w+): (.+)", line))
        for symbol in edge[3].split(", ")
    ]
    expected = [(state, symbol, arrow.target) for state, symbol, arrow in arrows(specs.plain(table))]
    assert sorted(shown) == sorted(expected)


def test_the_tables_show_every_arrow_with_its_actions() -> None:
    text = page("tables.md")
    for table in (REPLY_TABLE, RUN_TABLE):
        for state, symbol, arrow in arrows(specs.plain(table)):
            assert f"| {state} | {symbol} | {arrow.target} | {', '.join(arrow.actions) or '-'} |" in text


@cache
def defined_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_invariant_is_proved_by_tests_that_exist() -> None:
    found = rows(page("invariants.md"), r"I\d+")
    assert [row[0] for row in found] == [f"I{n}" for n in range(1, len(found) + 1)]
    for name, sentence, tests in found:
        assert sentence.endswith("."), name
        nodes = re.findall(r"`([^`]+)`", tests)
        assert nodes, f"{name} has no test"
        for node in nodes:
            file, _, test = node.partition("::")
            assert (ROOT / file).is_file(), f"{name}: no file {file}"
            assert test in defined_in(ROOT / file), f"{name}: no test {node}"


def test_every_item_of_the_checklist_has_tests_that_exist() -> None:
    assert len(ITEMS) == 19
    for item in ITEMS:
        assert item.tests
        for node in item.tests:
            file, _, test = node.partition("::")
            assert test in defined_in(ROOT / file), f"no test {node}"


def test_every_code_stands_in_the_page_with_its_status() -> None:
    found = {row[0].strip("`"): row[1] for row in rows(page("wire.md"), r"[A-Z_]{6,}")}
    assert found.keys() == set(ErrorCode)
    for code in ErrorCode:
        status = TOLD_BY_AN_EVENT.get(code) or STATUS[code]
        assert re.match(rf"{status}\b", found[code]), f"{code}: {found[code]}, should be {status}"


def test_every_key_of_a_frame_stands_in_the_page() -> None:
    text = page("wire.md")
    named = {row[0].strip("`") for row in rows(text, r"[a-z_]+")}
    for frame in native.FRAMES:
        first = frame.__struct_encode_fields__[0]
        assert first in named, first
        for key in frame.__struct_encode_fields__:
            assert f"`{key}`" in text, key


def test_every_word_of_the_glossary_stands_once_and_in_use() -> None:
    words = [row[0] for row in rows(page("glossary.md"), r".+") if not row[0].startswith(("-", "word", "verb"))]
    assert len(words) == len(set(words))
    sources = " ".join(path.read_text(encoding="utf-8").lower() for path in ROOT.glob("src/**/*.py"))
    for word in words:
        for each in re.sub(r"[`*]", "", word).split(", "):
            assert each.rstrip("_").removesuffix("_nowait") in sources, f"{each} is in no source"
