"""The settings by name: `run.stall_seconds` is the field `stall_seconds` of the table `[run]`."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias, cast

from .model import Settings

Path: TypeAlias = tuple[str, ...]
ANY: Final = "NAME"  # stands in a path for the name that a table is given where it is set


class Leaf(NamedTuple):
    """One setting: where it is, what its room says of it, and its default (`dataclasses.MISSING` for none)."""

    path: Path
    kind: Any
    default: Any

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def members(self) -> "tuple[Leaf, ...]":
        """The settings of each of its tables, for an array of tables and for tables by name."""
        origin, arguments = typing.get_origin(self.kind), typing.get_args(self.kind)
        if origin not in (tuple, dict) or not dataclasses.is_dataclass(table := arguments[origin is dict]):
            return ()
        return tuple(_of_table(cast(type, table), (*self.path, ANY) if origin is dict else self.path))


def names_in(table: Path) -> list[str]:
    """Return the names of what may stand in `table`, or in each table of that array."""
    depth = len(table)
    return list(
        dict.fromkeys(
            leaf.path[depth]
            for leaf in with_members(leaves())
            if len(leaf.path) > depth and _is_called(table, leaf.path[:depth])
        )
    )


@cache
def leaves() -> tuple[Leaf, ...]:
    """Return every setting that is not a table of others, in the order in which they are defined."""
    return tuple(_of_settings())


def path_of(name: str) -> Path:
    """Return the path of the setting that `name` means: the whole, or only its end where that is clear.

    Raises ValueError saying which names there are.
    """
    wanted = tuple(name.split("."))
    found = [leaf.path for leaf in leaves() if leaf.path[-len(wanted) :] == wanted]
    exact = [path for path in found if path == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        raise ValueError(f"{name!r} may mean {' or '.join('.'.join(path) for path in found)}; write one of these")
    if any(ANY in leaf.path and _is_called(wanted, leaf.path) for leaf in with_members(leaves())):
        return wanted
    raise ValueError(f"there is no setting {name!r}; the names are {', '.join(leaf.name for leaf in leaves())}")


def with_members(found: Iterable[Leaf]) -> Iterator[Leaf]:
    """Yield each of `found`, and behind it the settings of its tables."""
    for leaf in found:
        yield leaf
        yield from with_members(leaf.members)


def _is_called(path: Path, pattern: Path) -> bool:
    return len(path) == len(pattern) and all(each in (name, ANY) for name, each in zip(path, pattern, strict=True))


def _of_settings() -> Iterator[Leaf]:
    for name, field in Settings.model_fields.items():
        table = _table(field.annotation)
        if table is None:
            yield Leaf((name,), field.annotation, field.default)
        else:
            yield from _of_table(table, (name,))


def _of_table(table: type, before: Path) -> Iterator[Leaf]:
    kinds = typing.get_type_hints(table, include_extras=True)
    for field in dataclasses.fields(table):
        inner = _table(kinds[field.name])
        if inner is None:
            yield Leaf((*before, field.name), kinds[field.name], field.default)
        else:
            yield from _of_table(inner, (*before, field.name))


def is_union(kind: Any) -> bool:
    """Whether `kind` is a choice of types, however written."""
    return isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union


def _table(kind: Any) -> type | None:
    """The class of options that `kind` is, or may be."""
    choices = typing.get_args(kind) if is_union(kind) else (kind,)
    return next((each for each in choices if isinstance(each, type) and dataclasses.is_dataclass(each)), None)
