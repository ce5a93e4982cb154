"""Where a tool runs, and how the process of an isolated one finds its function again."""

import enum
import os
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

MIN_MEMORY_BYTES = 268_435_456
FILE_MODULE = "sluicegate_tools_file_"


class Isolation(enum.StrEnum):
    """Where the function of a tool runs."""

    TASK = "task"
    """Async in a task of its run, sync in a thread."""
    PROCESS = "process"
    """In a process of its own, which is killed with all that it started."""


IsolationName: TypeAlias = Isolation | Literal["task", "process"]


class Place(NamedTuple):
    """Where a function can be imported from; `file` is "" unless the module was loaded from a path."""

    module: str
    file: str
    qualname: str


def isolation_of(where: str, name: IsolationName) -> Isolation:
    """Return the isolation of that name. Raises ValueError for another."""
    try:
        return Isolation(name)
    except ValueError:
        known = ", ".join(repr(one.value) for one in Isolation)
        raise ValueError(f"{where}: isolation={name!r} is not one of {known}") from None


def checked_memory(where: str, isolation: Isolation, memory_bytes: int | None) -> int | None:
    """Return `memory_bytes`. Raises ValueError where it is too small to start with, or has no process to bound."""
    if memory_bytes is None:
        return None
    if isolation is not Isolation.PROCESS:
        raise ValueError(f'{where}: memory_bytes needs isolation="process"')
    if memory_bytes < MIN_MEMORY_BYTES:
        raise ValueError(f"{where}: memory_bytes={memory_bytes!r} must be at least {MIN_MEMORY_BYTES} bytes, or None")
    return memory_bytes


def place_of(where: str, function: Callable[..., Any]) -> Place:
    """Return where to import `function` from. Raises ValueError or TypeError, naming the cure, if from nowhere."""
    if not hasattr(os, "pidfd_open"):
        raise ValueError(f'{where}: isolation="process" needs Linux')
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    cure = 'isolation="process" needs a function that can be imported; define it with def at the top of a module'
    if not isinstance(module, str) or not isinstance(qualname, str):
        raise TypeError(f"{where}: it is not a function; {cure}")
    if "<" in qualname:
        raise ValueError(f"{where}: it is a lambda or is defined inside a function; {cure}")
    if module == "__main__":
        raise ValueError(f"{where}: it is defined in the program itself; {cure} and import it from there")
    file = os.path.abspath(str(sys.modules[module].__file__)) if module.startswith(FILE_MODULE) else ""
    return Place(module, file, qualname)


def find(place: Place) -> object:
    """Return what stands at `place` in its module, which has been imported; None where there is nothing."""
    found: object = sys.modules.get(place.module)
    for name in place.qualname.split("."):
        found = getattr(found, name, None)
    return found
