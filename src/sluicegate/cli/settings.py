"""`--set NAME=VALUE`: any number, switch, choice or text of the rooms' options, checked at once."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import msgspec

from ..providers.sdk import UpstreamOptions
from ..runtime.options import RunOptions
from ..server.options import ServerOptions
from ..service.options import ServiceOptions

_WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_ARGUMENTS = frozenset({"host", "port", "dialect", "default_model"})  # which are arguments of their own
_ROOMS = (RunOptions, ServiceOptions, ServerOptions, UpstreamOptions)

T = TypeVar("T", bound=msgspec.Struct)


class Setting(NamedTuple):
    """One option by name, of the type that its room wants."""

    name: str
    value: float | bool | str


def _rooms_by_field() -> dict[str, tuple[type[msgspec.Struct], Any]]:
    return {
        field.name: (room, field.type)
        for room in _ROOMS
        for field in msgspec.structs.fields(room)
        if _words(field.type) and field.name not in _ARGUMENTS
    }


def _words(kind: Any) -> str | None:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return _WORDS.get(kind)


def parse_setting(text: str) -> Setting:
    """Return the setting that `text`, NAME=VALUE, means. Raises ValueError saying what is wrong and what is right."""
    name, equals, value = text.partition("=")
    fields = _rooms_by_field()
    if not equals or name not in fields:
        raise ValueError(f"{text!r}: must be NAME=VALUE; the names are {', '.join(sorted(fields))}")
    room, kind = fields[name]
    try:
        found: float | bool | str = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        raise ValueError(f"{name}: must be {_words(kind)}, not {value!r}") from None
    if not isinstance(found, str) and not found >= 0:  # nor NaN
        raise ValueError(f"{name}: must not be less than 0, is {value}")
    room(**{name: found})  # has its own say
    return Setting(name, found)


def apply(settings: Iterable[Setting], options: T) -> T:
    """Return `options` with those of `settings` that it has."""
    known = {setting.name: setting.value for setting in settings if setting.name in options.__struct_fields__}
    return msgspec.structs.replace(options, **known)
