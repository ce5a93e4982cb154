"""What is wrong with settings, in words: the name, where it was set, what is right."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from ..machine.errors import SluicegateError
from .names import leaves, names_in
from .places import Place

_NUMBERS: Final = {
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
}
_BOUNDS: Final = {
    "greater_than": ("must be more than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}
_CHOICES: Final = ("literal_error", "enum")
_UNKNOWN: Final = ("extra_forbidden", "unexpected_keyword_argument")
_TABLES: Final = ("dataclass_type", "model_type", "dict_type")


class BadSettings(SluicegateError):
    """Settings that cannot be used; the message has a line for each fault."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


def in_words(error: Mapping[str, Any]) -> str:
    """Return what a validation error of the settings library means. Values are told only where no secret can be."""
    kind, context = error["type"], error.get("ctx", {})
    name = ".".join(str(part) for part in error["loc"])
    if kind in _NUMBERS:
        return f"{name}: {_NUMBERS[kind]}, is {error['input']!r}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{name}: {words} {context[key]:g}, is {error['input']!r}"
    if kind in _CHOICES:
        return f"{name}: must be {context['expected']}, is {error['input']!r}"
    if kind in _UNKNOWN:
        return f"{name}: there is no such setting{_suggestion(error['loc'])}"
    if kind in _TABLES:
        return f"{name}: must be a table, [{name}]"
    if kind == "missing":
        return f"{name}: is missing; set it"
    if kind == "value_error":
        return _own_words(name, str(context["error"]))
    return f"{name}: {error['msg'].removeprefix('Input ').lower()}"


def _own_words(name: str, message: str) -> str:
    """What a room says itself names the field already, but not the table."""
    return f"{name}.{message}" if name else message


def _suggestion(place: Place) -> str:
    table, name = tuple(part for part in place[:-1] if isinstance(part, str)), str(place[-1])
    known = names_in(table)
    elsewhere = [leaf.name for leaf in leaves() if leaf.path[-1] == name]  # the right name in the wrong table
    close = elsewhere or get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(known)}" if known else ""
