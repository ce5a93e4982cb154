"""Settings for people to read: what is in force, and the reference of all of them."""

import dataclasses
import json
import re
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import TypeAdapter

from .model import NESTED, PREFIX, Settings
from .names import ANY, Leaf, Path, is_union, leaves

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONG = 10_000  # from here on, digits in groups are easier to read


def effective(settings: Settings) -> str:
    """Return every setting in force as TOML, comments with its default where that is another."""
    tables: dict[Path, list[str]] = {}
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    _show(tables, (), {name: getattr(settings, name) for name in defaults}, defaults)
    return "\n\n".join("\n".join([*([f"[{_name(path)}]"] if path else []), *lines]) for path, lines in tables.items())


def _show(tables: dict[Path, list[str]], path: Path, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Add what is in the table `path` to `tables`, and the tables in it."""
    for name, value in values.items():
        default = defaults.get(name, dataclasses.MISSING)
        if isinstance(value, dict):
            for key, table in value.items():
                _show_options(tables, (*path, name, key), table)
        elif dataclasses.is_dataclass(value):
            _show_options(tables, (*path, name), value)
        elif value is not None:
            known = value != default and default is not dataclasses.MISSING
            note = f"  # default {_toml(default)}" if known and default is not None else ""
            tables.setdefault(path, []).append(f"{name} = {_toml(value)}{note}")


def _show_options(tables: dict[Path, list[str]], path: Path, options: Any) -> None:
    fields = dataclasses.fields(options)
    defaults = {field.name: field.default for field in fields}
    _show(tables, path, {field.name: getattr(options, field.name) for field in fields}, defaults)


def _name(path: Path) -> str:
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in path)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a file of settings."""
    return TypeAdapter(Settings).json_schema()


def reference() -> str:
    """Return the reference of all settings as Markdown."""
    known = schema()
    sections: dict[str, list[str]] = {}
    for leaf in leaves():
        name = ".".join(leaf.path[:-1])
        variable = PREFIX + NESTED.join(leaf.path).upper()
        sections.setdefault(f"`[{name}]`" if name else "At the top", []).append(f"{_row(leaf, known)} `{variable}` |")
        _refer(sections, leaf, known)
    head = "| name | what | default | | in the environment |\n|---|---|---|---|---|"
    return "\n\n".join("\n".join([f"## {title}", "", head, *rows]) for title, rows in sections.items())


def _refer(sections: dict[str, list[str]], leaf: Leaf, known: dict[str, Any]) -> None:
    """Add the sections of the tables in `leaf`."""
    for member in leaf.members:
        name = ".".join(member.path[:-1])
        title = f"`[{name}]`" if ANY in member.path else f"`[[{name}]]`"
        sections.setdefault(title, []).append(f"{_row(member, known)} |")
        _refer(sections, member, known)


def _row(leaf: Leaf, known: dict[str, Any]) -> str:
    default = f"`{_toml(leaf.default)}`" if _has_default(leaf) and leaf.default not in (None, (), {}) else "-"
    return f"| `{leaf.path[-1]}` | {_kind(leaf.kind)} | {default} | {_description(leaf, known)} |"


def _has_default(leaf: Leaf) -> bool:
    return leaf.default is not dataclasses.MISSING


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if dataclasses.is_dataclass(value):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return f"{{{', '.join(f'{name} = {_toml(each)}' for name, each in fields if each is not None)}}}"
    if isinstance(value, int):
        return f"{value:_}" if value >= _LONG else str(value)
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # which TOML wants escaped


def _description(leaf: Leaf, known: dict[str, Any]) -> str:
    """The room's own words about a setting."""
    node = known
    for name in leaf.path:
        inside = _resolved(node, known["$defs"])
        node = inside["additionalProperties"] if name == ANY else inside["properties"][name]
    return " ".join(node.get("description", "").split())


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    for each in [node, node.get("items", {}), *node.get("anyOf", ())]:
        if "$ref" in each:
            found: dict[str, Any] = definitions[each["$ref"].rpartition("/")[2]]
            return found
    return node


def _kind(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        bounds = "".join(_bound(each) for each in arguments[1:])
        return _kind(arguments[0]) + bounds
    if origin is dict:
        return "tables"
    if origin is tuple:
        return "tables" if dataclasses.is_dataclass(arguments[0]) else f"list of {_kind(arguments[0])}s"
    if origin is typing.Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if is_union(kind):
        return " or ".join(_kind(each) for each in arguments if each is not type(None))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{each.value}`" for each in kind)
    return {bool: "true or false", int: "whole number", float: "number"}.get(kind, "text")


def _bound(each: Any) -> str:
    words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
    return "".join(
        f", {word} {value:g}" for name, word in words.items() if (value := getattr(each, name, None)) is not None
    )
