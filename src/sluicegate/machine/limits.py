"""Limits of one run, as the machine enforces them. Time is not among them: the machine has no clock."""

import msgspec

from .errors import ErrorCode, RunError


class ReplyLimits(msgspec.Struct, frozen=True):
    """Caps on one reply. All sizes are UTF-8 bytes."""

    reply_bytes: int = 4 * 1024 * 1024
    argument_bytes: int = 256 * 1024
    calls_per_step: int = 32


class RunLimits(msgspec.Struct, frozen=True):
    """Caps on one run; `repeated_steps` equal steps in a row (same calls, same results) end it."""

    steps: int = 16
    repeated_steps: int = 3
    reply: ReplyLimits = ReplyLimits()


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
