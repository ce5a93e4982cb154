"""The line of a setting: files are written by a simple writer that notes the line of each thing."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.settings.places import line_of

NAMES = st.sampled_from(["a", "b", "c-d", "e_f", "g h", "ü", "1"])
VALUES = st.one_of(st.integers(), st.booleans(), st.sampled_from(["x = 1", "[t]", "# no", "[[t]]"]))
TREES = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=3),
    lambda inner: st.dictionaries(NAMES, st.one_of(VALUES, inner, st.lists(inner, min_size=1, max_size=3)), max_size=4),
    max_leaves=12,
)


class Writer:
    """Writes nested tables as TOML, one thing in a line, and notes the place and line of each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.places: dict[tuple[str | int, ...], int] = {}

    def write(self, tree: dict[str, Any], place: tuple[str | int, ...] = ()) -> None:
        for name, value in tree.items():
            if not isinstance(value, dict | list):
                self._line(f"{quoted(name)} = {written(value)}", (*place, name))
        for name, value in tree.items():
            if isinstance(value, dict):
                self._line(f"[{header((*place, name))}]", (*place, name))
                self.write(value, (*place, name))
            elif isinstance(value, list):
                for index, each in enumerate(value):
                    self._line(f"[[{header((*place, name))}]]", (*place, name, index))
                    self.write(each, (*place, name, index))

    def _line(self, line: str, place: tuple[str | int, ...]) -> None:
        self.lines.append(line)
        self.places[place] = len(self.lines)


def quoted(name: str) -> str:
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else f'"{name}"'


def header(place: tuple[str | int, ...]) -> str:
    return ".".join(quoted(name) for name in place if isinstance(name, str))


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"""\n{value}\\\n"""' if isinstance(value, str) else str(value)


@given(TREES)
def test_everything_is_found_in_its_line(tree: dict[str, Any]) -> None:
    writer = Writer()
    writer.write(tree)
    text = "\n".join(writer.lines)
    assert tomllib.loads(text) == tree
    begins = {}
    for number, line in enumerate(writer.lines, 1):
        begins[number] = 1 + sum(each.count("\n") + 1 for each in writer.lines[: number - 1])
        assert line
    for place, number in writer.places.items():
        assert line_of(text, place) == begins[number], place


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("", ("a",), None),
        ("# a = 1\n a = 2", ("a",), 2),
        ("[a]\nb = {c = 1}", ("a", "b", "c"), 2),
        ("[a]\nb = 1", ("a", "missing"), 1),
        ("a.b.c = 1", ("a", "b", "c"), 1),
        ("[ a . 'b' ] # x\nc = 1", ("a", "b", "c"), 2),
        ("[a]\nb = [\n 1,\n 2,\n]\nc = 3", ("a", "b", 1), 2),
        ("[a]\nb = [\n 1,\n 2,\n]\nc = 3", ("a", "c"), 6),
        ("[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 1", ("a", 1, "c", "d"), 6),
    ],
)
def test_other_ways_to_write(text: str, place: tuple[str | int, ...], line: int | None) -> None:
    assert line_of(text, place) == line
