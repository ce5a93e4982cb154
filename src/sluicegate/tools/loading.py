"""Load tools from where a deployment names them: "package.module:attribute" or "path/to/file.py:attribute"."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

from ..machine.errors import SluicegateError
from .function import Tool
from .isolation import FILE_MODULE
from .registry import Registry

_EXPECTED = "a Tool, a typed function, a list or tuple of them, a Registry, or a function returning one of these"
_MANY = (list, tuple, Sequence, Iterable)


class ToolLoadError(SluicegateError):
    """The tools of a deployment cannot be loaded; the message names the place and the cure."""


def load(target: str) -> Registry:
    """Return the tools that `target` names, a module being searched in the current directory too.

    The attribute may be a Tool, a typed function (which becomes one), a list or tuple of them, a Registry, or a
    function without parameters that returns such; that one is called if its return annotation says so or is missing.
    Raises ToolLoadError; what the module itself raises on import is its cause. Blocking: for start-up.
    """
    place, colon, attribute = target.rpartition(":")
    if not colon or not place or not attribute:
        raise ToolLoadError(f"{target!r} does not name tools; write module:attribute, for example my_tools:tools")
    found: Any = _import(place)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ToolLoadError(f"{place!r} has no attribute {attribute!r}; check the name after the colon") from None
    try:
        return _registry(target, _made(target, found))
    except (TypeError, ValueError, NameError) as error:
        raise ToolLoadError(f"{target!r}: {error}") from error


def _import(place: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            raise ToolLoadError(
                f"no module named {error.name!r}; run from its directory, install it, or check the name"
            ) from None
        raise ToolLoadError(f"{place!r} needs the module {error.name!r}, which is not installed") from error
    except FileNotFoundError as error:
        raise ToolLoadError(f"no file {place!r}; the path is taken from the current directory") from error
    except Exception as error:
        raise ToolLoadError(f"importing {place!r} failed with {type(error).__name__}: {error}") from error


def import_file(path: Path) -> ModuleType:
    """Import the Python file at `path` as a module and return it; raises what the file raises."""
    name = f"{FILE_MODULE}{path.stem}"
    loader = SourceFileLoader(name, str(path))
    spec = ModuleSpec(name, loader, origin=str(path))
    spec.has_location = True  # so that it has a __file__
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickling and annotations look a function's module up there
    loader.exec_module(module)
    return module


def _made(target: str, found: object) -> object:
    if isinstance(found, Tool) or not callable(found) or not _is_factory(found):
        return found
    try:
        made = found()
    except Exception as error:
        raise ToolLoadError(f"{target!r} failed with {type(error).__name__}: {error}") from error
    if inspect.iscoroutine(made):
        made.close()
        raise ToolLoadError(f"{target!r} is async; make the tools in a plain function")
    if isinstance(made, Registry | Tool | list | tuple):
        return made
    raise ToolLoadError(
        f"{target!r} returned a {type(made).__name__}, not tools; if it is a tool itself, annotate what it returns"
    )


def _is_factory(function: Callable[..., Any]) -> bool:
    signature = inspect.signature(function, eval_str=True)
    if signature.parameters:
        return False
    returned = signature.return_annotation
    if returned is signature.empty:
        return True
    kind = get_origin(returned) or returned
    if kind in _MANY:
        inner = get_args(returned)[:1]
        return not inner or (get_origin(inner[0]) or inner[0]) in (Tool, Callable, Any)
    return inspect.isclass(kind) and issubclass(kind, Tool | Registry)


def _registry(target: str, found: object) -> Registry:
    if isinstance(found, Registry):
        return found
    return Registry([_tool(target, entry) for entry in (found if isinstance(found, list | tuple) else [found])])


def _tool(target: str, entry: object) -> Tool[..., Any]:
    if isinstance(entry, Tool):
        return entry
    if callable(entry) and not inspect.isclass(entry):
        return Tool(entry)
    raise ToolLoadError(f"{target!r} holds a {type(entry).__name__}; it should be {_EXPECTED}")
