"""The place of a run in a distributed trace. Its ids are drawn up front, so that requests can name them on their way;
what happened is told once it has, by those who observe the run.
"""

import secrets
from collections.abc import Mapping

import msgspec

from ..wire.trace_context import TraceFlags, TraceParent, encode_traceparent

_ALL = 2**64  # of what sampling looks at, the lower half of a trace's id


class Trace(msgspec.Struct, frozen=True):
    """A run within a trace, as the span `span_id`. `parent_id` is whose request it answers, "" where nobody said.
    `state` goes along unread.
    """

    trace_id: str
    span_id: str
    parent_id: str
    flags: TraceFlags
    state: str

    @property
    def is_sampled(self) -> bool:
        """Whether its spans are recorded."""
        return TraceFlags.SAMPLED in self.flags

    def headers(self, span_id: str) -> Mapping[str, str]:
        """Return the headers of a request that the span `span_id` sends."""
        headers = {"traceparent": encode_traceparent(TraceParent(self.trace_id, span_id, self.flags))}
        if self.state:
            headers["tracestate"] = self.state
        return headers


def new_span_id() -> str:
    """Return an id that no other span has."""
    return secrets.token_hex(8)


def begin_trace(parent: TraceParent | None, state: str, sample_ratio: float) -> Trace:
    """Return the place of a run that `parent` asks for. Whether it is sampled, `parent` says; without one, chance does,
    for so large a part of all traces.
    """
    if parent is not None:
        return Trace(parent.trace_id, new_span_id(), parent.span_id, parent.flags, state)
    trace_id = secrets.token_hex(16)
    sampled = int(trace_id[16:], 16) < sample_ratio * _ALL
    flags = TraceFlags.RANDOM | (TraceFlags.SAMPLED if sampled else TraceFlags.NONE)
    return Trace(trace_id, new_span_id(), "", flags, "")
