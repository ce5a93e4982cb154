"""Spans of a run that has ended, by the GenAI conventions of OpenTelemetry: `invoke_agent`, in it a `chat` for each
request to a provider and an `execute_tool` for each tool call. Nothing of what is said is in them.
"""

from collections.abc import Container, Iterator, Mapping
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceState
from opentelemetry.trace import TraceFlags as OtelFlags
from opentelemetry.util.types import AttributeValue

from ..machine.deltas import Usage
from ..machine.events import RunDone
from ..runtime.driver import Driver
from ..runtime.record import ToolRecord
from ..runtime.trace import Trace, new_span_id
from .chats import OTHER, Chat, end_of, failure_of, sendable, tool_error, whole_usage

_NANOSECONDS: Final = 1_000_000_000


class Spans:
    """Makes spans of `resource`. `tools` are those that there are: what else a model calls for gets no name of its own.

    They are made whole, for three microseconds each; a tracer that starts and ends them takes fourteen times as long.
    """

    def __init__(self, resource: Resource, scope: InstrumentationScope, tools: Container[str]) -> None:
        self._resource = resource
        self._scope = scope
        self._tools = tools

    def of(self, driver: Driver, trace: Trace, chats: list[Chat]) -> Iterator[ReadableSpan]:
        """Return the spans of a run, its own first."""
        state = TraceState.from_header([trace.state]) if trace.state else None
        parent = _context(trace, trace.parent_id, state, is_remote=True) if trace.parent_id else None
        own = _context(trace, trace.span_id, state)
        yield self._run(driver, own, parent, chats)
        for chat in chats:
            yield self._chat(driver, _context(trace, chat.span_id, state), own, chat)
        for call in driver.record.tools:
            yield self._tool(driver, _context(trace, new_span_id(), state), own, call)

    def _run(self, driver: Driver, own: SpanContext, parent: SpanContext | None, chats: list[Chat]) -> ReadableSpan:
        run, record, failure = driver.run, driver.record, failure_of(driver)
        input_tokens, output_tokens = whole_usage(chats)
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": chats[-1].provider if chats else OTHER,
            "gen_ai.request.model": sendable(run.model),
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
            "sluicegate.run.id": run.run_id,
        }
        if record.cost is not None:
            attributes["sluicegate.cost"] = record.cost
        if isinstance(run.terminal, RunDone):
            attributes["gen_ai.response.finish_reasons"] = (run.terminal.finish_reason,)
        if failure is not None:
            attributes["error.type"] = failure.code
        times = _times(driver, record.began, end_of(driver))
        status = _status("" if failure is None else failure.message)
        return self._span("invoke_agent", SpanKind.INTERNAL, own, parent, attributes, status, times)

    def _chat(self, driver: Driver, own: SpanContext, parent: SpanContext, chat: Chat) -> ReadableSpan:
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": chat.provider,
            "gen_ai.request.model": chat.model,
            "gen_ai.request.stream": True,
            "sluicegate.step": chat.step,
        }
        if chat.said_model:
            attributes["gen_ai.response.model"] = chat.said_model
        if chat.first_word is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = chat.first_word - chat.began
        if chat.finish_reason is not None:
            attributes["gen_ai.response.finish_reasons"] = (chat.finish_reason,)
        if chat.usage is not None:
            attributes.update(_told(chat.usage))
        if chat.error is not None:
            attributes["error.type"] = chat.error.code
            if reason := chat.error.reason:
                attributes["sluicegate.error.reason"] = reason
        times = _times(driver, chat.began, chat.ended)
        status = _status("" if chat.error is None else chat.error.message)
        return self._span(f"chat {chat.model}", SpanKind.CLIENT, own, parent, attributes, status, times)

    def _tool(self, driver: Driver, own: SpanContext, parent: SpanContext, call: ToolRecord) -> ReadableSpan:
        name = call.name if call.name in self._tools else OTHER
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": sendable(call.call_id),
            "sluicegate.step": call.step,
        }
        error = tool_error(call, driver)
        if error:
            attributes["error.type"] = error
        times = _times(driver, call.began, end_of(driver) if call.ended is None else call.ended)
        return self._span(f"execute_tool {name}", SpanKind.INTERNAL, own, parent, attributes, _status(error), times)

    def _span(
        self,
        name: str,
        kind: SpanKind,
        own: SpanContext,
        parent: SpanContext | None,
        attributes: Mapping[str, AttributeValue],
        status: Status,
        times: tuple[int, int],
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            own,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=status,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=self._scope,
        )


def _context(trace: Trace, span_id: str, state: TraceState | None, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote, OtelFlags(trace.flags), state)


def _told(usage: Usage) -> Iterator[tuple[str, AttributeValue]]:
    """What is not there is not told: each attribute takes the exporter's thread 8 microseconds."""
    yield "gen_ai.usage.input_tokens", usage.input_tokens
    yield "gen_ai.usage.output_tokens", usage.output_tokens
    if usage.cached_tokens:
        yield "gen_ai.usage.cache_read.input_tokens", usage.cached_tokens
    if usage.cache_write_tokens:
        yield "gen_ai.usage.cache_creation.input_tokens", usage.cache_write_tokens
    if usage.reasoning_tokens:
        yield "gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens
    if usage.estimated:
        yield "sluicegate.usage.estimated", True


def _status(message: str) -> Status:
    return Status(StatusCode.ERROR, message) if message else Status(StatusCode.UNSET)


def _times(driver: Driver, began: float, ended: float) -> tuple[int, int]:
    """In Unix nanoseconds."""
    unix = driver.record.unix
    return int(unix(began) * _NANOSECONDS), int(unix(ended) * _NANOSECONDS)
