"""Tools: typed Python functions that a model may call, and the registry that a run finds them in."""

from .context import ToolContext, ToolError, ToolOutcome
from .decorator import tool
from .function import Tool
from .loading import ToolLoadError, load
from .registry import Registry

__all__ = ["Registry", "Tool", "ToolContext", "ToolError", "ToolLoadError", "ToolOutcome", "load", "tool"]
