"""What goes wrong in a tool, in words for the model; with or without a fault for the log."""


class ToolError(Exception):
    """Raised by a tool to tell the model what went wrong: `message` is shown to it as it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ToolFault(ToolError):
    """What is told to the model and logged as well, because somebody should mend it."""


class ResultError(ToolFault):
    """The tool's result cannot be shown to the model."""


class ProcessEnded(ToolFault):
    """The process of a tool ended without giving a result."""


class ProcessFailed(ToolFault):
    """The tool failed in its process; the message is what the process said of it."""
