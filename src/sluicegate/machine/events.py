"""Events: what a run publishes. Every downstream wire is an encoding of this one sequence.

Order, for every run, transitions aside: RunStarted, then per step StepStarted, the events of its reply, then (where the
model called tools) ToolsStarted and the tools' events; last, exactly one RunDone or RunFailed. A part's events are
bracketed by PartStarted and PartEnded. `part` numbers the parts of one step from 0.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from .deltas import FinishReason, Usage
from .errors import RunError


class PartKind(StrEnum):
    """What a part of a reply is."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    CALL = "call"
    PROVIDER = "provider"


class RunStarted(msgspec.Struct, frozen=True):
    """First event of a run."""

    run_id: str
    model: str


class StepStarted(msgspec.Struct, frozen=True):
    """A request goes to the model; steps count from 1."""

    step: int


class PartStarted(msgspec.Struct, frozen=True, gc=False):
    """A part begins. `call_id` and `name` are set for calls, `name` alone for provider parts (their kind)."""

    part: int
    kind: PartKind
    call_id: str = ""
    name: str = ""


class PartDelta(msgspec.Struct, frozen=True, gc=False):
    """More of an open part; for a call, raw JSON text of its arguments."""

    part: int
    kind: PartKind
    text: str


class PartEnded(msgspec.Struct, frozen=True, gc=False):
    """Nothing more comes for this part."""

    part: int
    kind: PartKind


class CitationAdded(msgspec.Struct, frozen=True, gc=False):
    """A source, in the provider's own JSON."""

    raw: bytes


class CallReady(msgspec.Struct, frozen=True, gc=False):
    """A tool call is complete; `arguments` is valid JSON text ("{}" for none) and final, whatever the deltas said."""

    part: int
    call_id: str
    name: str
    arguments: str


class CallFault(StrEnum):
    """Why a call cannot run."""

    TRUNCATED = "truncated"
    MALFORMED = "malformed"


class CallBroken(msgspec.Struct, frozen=True, gc=False):
    """A tool call ended with arguments that are not JSON; it is never run. `arguments` is what came."""

    part: int
    call_id: str
    name: str
    arguments: str
    fault: CallFault


class ToolsStarted(msgspec.Struct, frozen=True):
    """The calls of a step begin to run, in the order in which the model made them."""

    calls: tuple[CallReady, ...]


class ToolActivity(msgspec.Struct, frozen=True):
    """What a tool is about to do, in words for people."""

    call_id: str
    name: str
    text: str


class ToolProgress(msgspec.Struct, frozen=True):
    """A tool reports on its way; `data` is JSON."""

    call_id: str
    name: str
    data: msgspec.Raw


class ToolResult(msgspec.Struct, frozen=True):
    """A tool ended; `content` is what the model will see."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


class Machine(StrEnum):
    """The two state machines of a run."""

    RUN = "run"
    REPLY = "reply"


class Transition(msgspec.Struct, frozen=True):
    """A machine is in another state, because of `symbol`. Only of runs that trace; comes before what it causes, but
    behind RunStarted.
    """

    machine: Machine
    source: str
    symbol: str
    target: str


class RunDone(msgspec.Struct, frozen=True):
    """Terminal: the model answered (`stop`) or was cut by a length limit (`length`)."""

    finish_reason: FinishReason
    raw_finish_reason: str
    usage: Usage


class RunFailed(msgspec.Struct, frozen=True):
    """Terminal: everything else, cancellation included. Usage is what was spent until then."""

    error: RunError
    usage: Usage


ReplyEvent: TypeAlias = PartStarted | PartDelta | PartEnded | CitationAdded | CallReady | CallBroken | Transition
Event: TypeAlias = (
    RunStarted
    | StepStarted
    | ReplyEvent
    | ToolsStarted
    | ToolActivity
    | ToolProgress
    | ToolResult
    | RunDone
    | RunFailed
)
Terminal: TypeAlias = RunDone | RunFailed
