"""Limits of one run, as the machine enforces them. Time is not among them: the machine has no clock."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .errors import ErrorCode, RunError
from .quantities import DOCUMENTED, Bytes, Count


@dataclass(frozen=True)
class ReplyLimits:
    """Caps on one reply. All sizes are UTF-8 bytes."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    reply_bytes: Bytes = 4 * 1024 * 1024
    """Text, reasoning and tool calls of one reply together."""
    argument_bytes: Bytes = 256 * 1024
    """The arguments of one tool call."""
    calls_per_step: Count = 32
    """Tool calls in one reply."""


@dataclass(frozen=True)
class RunLimits:
    """Caps on one run."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    steps: Count = 16
    """Requests to the model."""
    repeated_steps: Count = 3
    """So many equal steps in a row (the same calls with the same results) end the run."""
    reply: ReplyLimits = field(default_factory=ReplyLimits)


def reply_too_large(limits: ReplyLimits) -> RunError:
    """The error of a reply over `reply_bytes`."""
    return RunError(
        ErrorCode.BUDGET_EXCEEDED, f"The reply is longer than {limits.reply_bytes} bytes (limit reply_bytes)."
    )


def arguments_too_large(limits: ReplyLimits) -> RunError:
    """The error of a tool call over `argument_bytes`."""
    return RunError(
        ErrorCode.BUDGET_EXCEEDED,
        f"The arguments of a tool call are longer than {limits.argument_bytes} bytes (limit argument_bytes).",
    )


def too_many_calls(limits: ReplyLimits) -> RunError:
    """The error of a reply with more calls than `calls_per_step`."""
    return RunError(
        ErrorCode.TOOL_LOOP,
        f"The model asked for more than {limits.calls_per_step} tool calls in one step (limit calls_per_step).",
    )


def too_many_steps(limits: RunLimits) -> RunError:
    """The error of a run that wants more than `steps` requests to the model."""
    return RunError(ErrorCode.TOOL_LOOP, f"The model was still calling tools after {limits.steps} steps (limit steps).")


def no_progress(limits: RunLimits) -> RunError:
    """The error of a run that does the same thing over and over."""
    return RunError(
        ErrorCode.TOOL_LOOP,
        f"The model made the same tool calls {limits.repeated_steps} times in a row and got the same results "
        "(limit repeated_steps).",
    )
