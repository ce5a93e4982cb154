"""In which line of a TOML file something is set: the standard library's reader does not say.

Sees tables, arrays of tables and keys at the start of a line, dotted ones too; what is deeper, in inline tables and
arrays, has the place of the key that it belongs to.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

Place: TypeAlias = tuple[str | int, ...]

_TABLE: Final = re.compile(r"\s*(?P<open>\[\[?)\s*(?P<name>[^\]]+?)\s*\]")
_KEY: Final = re.compile(r"""\s*(?P<name>(?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART: Final = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")
_QUOTES: Final = ('"""', "'''")


def line_of(text: str, place: Place) -> int | None:
    """Return the line, from 1 on, that sets `place` or the innermost thing around it; None if nothing does."""
    lines = _lines(text)
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None


def place_of(text: str, dotted: str) -> Place:
    """Return the innermost place that `text` sets of what messages call `dotted`, such as models.m.use[0]; () if it
    sets none. Names may have dots of their own.
    """
    found: Place = ()
    longest = 0
    for place in _lines(text):
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:]
        rest = dotted.removeprefix(name)
        if len(name) > longest and rest != dotted and rest[:1] in ("", ".", "["):
            found, longest = place, len(name)
    return found


def _lines(text: str) -> Mapping[Place, int]:
    found: dict[Place, int] = {}
    table: Place = ()
    for number, line in _outside_long_strings(text):
        if header := _TABLE.match(line):
            table = _numbered(found, tuple(_parts(header["name"])), header["open"] == "[[")
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_parts(key["name"])), number)
    return found


def _numbered(found: Mapping[Place, int], names: Place, is_array: bool) -> Place:
    """`names` with the number of the last element behind each name that is an array of tables."""
    place: Place = ()
    for index, name in enumerate(names):
        place = (*place, name)
        count = 0
        while (*place, count) in found:
            count += 1
        if is_array and index == len(names) - 1:
            return (*place, count)
        if count:
            place = (*place, count - 1)
    return place


def _outside_long_strings(text: str) -> Iterator[tuple[int, str]]:
    closing = ""
    for number, line in enumerate(text.splitlines(), 1):
        if closing:
            closing = "" if closing in line else closing
            continue
        yield number, line
        closing = next((quotes for quotes in _QUOTES if line.count(quotes) % 2), "")


def _parts(name: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(name)]
