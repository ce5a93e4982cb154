"""What a run takes in besides deltas, and what it asks of its driver besides publishing events."""

from typing import TypeAlias

import msgspec

from .deltas import Delta
from .errors import RunError
from .events import CallReady, Event, ToolActivity, ToolProgress
from .history import Request


class Begin(msgspec.Struct, frozen=True):
    """Go."""


class UpstreamFailed(msgspec.Struct, frozen=True):
    """The request could not be sent, was refused, or its connection broke."""

    error: RunError


class ToolDone(msgspec.Struct, frozen=True):
    """A tool ended. `part` names the call within its step; `content` is what the model shall see."""

    part: int
    content: str
    is_error: bool = False


class ToolNote(msgspec.Struct, frozen=True):
    """A running tool has something to tell the client."""

    event: ToolActivity | ToolProgress


class Cancel(msgspec.Struct, frozen=True):
    """Somebody ends the run: a client that left, a stop, a deadline, a drain. `error` says who."""

    error: RunError


Input: TypeAlias = Begin | Delta | UpstreamFailed | ToolDone | ToolNote | Cancel


class OpenUpstream(msgspec.Struct, frozen=True):
    """Send this request and feed the decoded reply back. The upstream of the step before is finished with."""

    step: int
    request: Request


class StartTools(msgspec.Struct, frozen=True):
    """Run these calls, in parallel, and report each with `ToolDone`."""

    calls: tuple[CallReady, ...]


Output: TypeAlias = Event | OpenUpstream | StartTools
