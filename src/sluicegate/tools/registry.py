"""The tools that a run may use, by name."""

from collections.abc import Iterable, Iterator
from typing import Any

from ..machine.history import ToolSpec
from .context import ToolOutcome
from .function import Tool, function_at
from .text import plain


class Registry:
    """An immutable set of tools with unique names, in the order given. Raises ValueError for a name used
    twice, and for an isolated tool that its process could not import.
    """

    def __init__(self, tools: Iterable[Tool[..., Any]] = ()) -> None:
        self._tools: dict[str, Tool[..., Any]] = {}
        for entry in tools:
            if entry.name in self._tools:
                raise ValueError(f"two tools are named {entry.name!r}; give one of them another, @tool(name=...)")
            if entry.place is not None and function_at(entry.place) is not entry.function:
                module, _, qualname = entry.place
                raise ValueError(
                    f"tool {qualname}: another process would not find it as {qualname} in the module {module}; "
                    "define it there under that name"
                )
            self._tools[entry.name] = entry
        self._specs = tuple(entry.spec for entry in self)
        self.eager = frozenset(entry.name for entry in self if entry.eager)

    def __iter__(self) -> Iterator[Tool[..., Any]]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def get(self, name: str) -> Tool[..., Any] | None:
        """Return the tool of that name, or None."""
        return self._tools.get(name)

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return what the model is told of the tools; always the same objects, encoded once."""
        return self._specs

    def unknown(self, name: str) -> ToolOutcome:
        """Return the error result for a call of a tool that does not exist: it lists those that do."""
        available = ", ".join(self._tools) or "none"
        return ToolOutcome(f"There is no tool named {plain(name, 64)!r}. Available tools: {available}.", is_error=True)
