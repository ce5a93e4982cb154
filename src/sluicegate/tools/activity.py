"""A tool's words for people while it runs: "Checking the weather in Paris"."""

import enum
import string
from collections.abc import Collection, Mapping

import msgspec

from .jsontext import argument_fault
from .text import plain

MAX_VALUE_CHARS = 80

_arguments = msgspec.json.Decoder(dict[str, object])


class Activity:
    """A template over the arguments of a tool. Fields are parameter names and nothing else."""

    def __init__(
        self, where: str, name: str, template: str | None, parameters: Collection[str], defaults: Mapping[str, object]
    ) -> None:
        self._generic = f"Running {name}"
        self._defaults = defaults
        self._pieces = _pieces(where, template, parameters) if template is not None else [(self._generic, None)]

    def text(self, arguments: str) -> str:
        """Return the template with `arguments` (JSON text) filled in, values cut to MAX_VALUE_CHARS; never raises.

        Where the arguments are not JSON or lack a field that has no default, the generic "Running <name>".
        """
        text = arguments if arguments.strip() else "{}"
        if argument_fault(text):
            return self._generic
        try:
            values = {**self._defaults, **_arguments.decode(text)}
        except msgspec.DecodeError:
            return self._generic
        shown = []
        for literal, field in self._pieces:
            shown.append(literal)
            if field is not None:
                value = _shown(values.get(field))
                if not value:
                    return self._generic
                shown.append(value)
        return "".join(shown)


def _pieces(where: str, template: str, parameters: Collection[str]) -> list[tuple[str, str | None]]:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{where}: the activity {template!r} is not a template: {error}") from error
    for _, field, specification, conversion in parsed:
        if field is not None and (field not in parameters or specification or conversion):
            fields = ", ".join(f"{{{name}}}" for name in parameters) or "no fields"
            raise ValueError(f"{where}: the activity may use {fields}; {{{field}}} with nothing else is not among them")
    return [(literal, field) for literal, field, _, _ in parsed]


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case enum.Enum():
            return _shown(value.value)
        case str():
            return plain(value, MAX_VALUE_CHARS)
        case _:
            try:
                return plain(msgspec.json.encode(value).decode(), MAX_VALUE_CHARS)
            except (TypeError, ValueError):
                return ""  # a default without a JSON form
