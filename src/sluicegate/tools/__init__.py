"""Tools: typed Python functions that a model may call, and the registry that a run finds them in."""

from .context import ToolContext, ToolOutcome
from .decorator import tool
from .faults import ToolError
from .function import Tool
from .isolation import Isolation
from .loading import ToolLoadError, load
from .registry import Registry
from .threads import abandoned_threads

__all__ = [
    "Isolation",
    "Registry",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolLoadError",
    "ToolOutcome",
    "abandoned_threads",
    "load",
    "tool",
]
