"""Settings for people to read: what is in force, and the reference of all of them."""

import dataclasses
import json
import typing
from enum import Enum
from typing import Any

from pydantic import TypeAdapter

from .model import NESTED, PREFIX, Settings
from .names import Leaf, is_union, leaves

_LONG = 10_000  # from here on, digits in groups are easier to read


def effective(settings: Settings) -> str:
    """Return every setting in force as TOML, comments with its default where that is another."""
    tables: dict[str, list[str]] = {}
    for leaf in leaves():
        value = _value(settings, leaf)
        if value is None:
            continue
        note = "" if value == leaf.default else f"  # default {_toml(leaf.default)}" if _has_default(leaf) else ""
        tables.setdefault(".".join(leaf.path[:-1]), []).append(f"{leaf.path[-1]} = {_toml(value)}{note}")
    return "\n\n".join("\n".join([*([f"[{name}]"] if name else []), *lines]) for name, lines in tables.items())


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
        if leaf.members:
            sections[f"`[[{leaf.name}]]`"] = [f"{_row(member, known)} |" for member in leaf.members]
    head = "| name | what | default | | in the environment |\n|---|---|---|---|---|"
    return "\n\n".join("\n".join([f"## {title}", "", head, *rows]) for title, rows in sections.items())


def _row(leaf: Leaf, known: dict[str, Any]) -> str:
    default = f"`{_toml(leaf.default)}`" if _has_default(leaf) and leaf.default not in (None, ()) else "-"
    return f"| `{leaf.path[-1]}` | {_kind(leaf.kind)} | {default} | {_description(leaf, known)} |"


def _value(settings: Settings, leaf: Leaf) -> Any:
    value: Any = settings
    for name in leaf.path:
        value = getattr(value, name, None)
    return value


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
        node = _resolved(node, known["$defs"])["properties"][name]
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
