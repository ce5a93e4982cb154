"""What a docstring says for the model: the purpose of the function and of each parameter."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import docstring_parser


class Documentation(NamedTuple):
    """The description of a function, and those of its parameters by name."""

    description: str
    parameters: Mapping[str, str]


def read(function: Callable[..., Any]) -> Documentation:
    """Return what the docstring of `function` says, in google, numpy or reST style; empty where there is none."""
    text = inspect.getdoc(function) or ""
    try:
        parsed = docstring_parser.parse(text)
    except Exception:  # ParseError, and an IndexError for some mixtures of styles
        return Documentation(text.strip(), MappingProxyType({}))
    about = "\n\n".join(part.strip() for part in (parsed.short_description, parsed.long_description) if part)
    described = {p.arg_name: p.description.strip() for p in parsed.params if p.description}
    return Documentation(about, MappingProxyType(described))
