"""A run as the GenAI conventions of OpenTelemetry see it: an agent that asks models (chats) and runs tools."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from ..machine.deltas import FinishReason, Usage
from ..machine.errors import RunError
from ..machine.events import RunFailed
from ..machine.price import CacheCount
from ..providers.options import ProviderOptions, Via
from ..runtime.driver import Driver
from ..runtime.record import Attempt, CallOutcome, StepRecord, ToolRecord

OTHER: Final = "_OTHER"  # what the conventions call what has no name
_MAX_TEXT = 256


class Chat(msgspec.Struct, frozen=True):
    """One request to a provider, times as Trio's. `first_word` is None where it had none, `usage` where nothing was
    spent; tokens of its cache are within `input_tokens`.
    """

    step: int
    span_id: str
    provider: str
    model: str
    said_model: str
    began: float
    ended: float
    first_word: float | None
    finish_reason: FinishReason | None
    error: RunError | None
    usage: Usage | None


def failure_of(driver: Driver) -> RunError | None:
    """Return how the run failed, None if it did not."""
    terminal = driver.run.terminal
    return terminal.error if isinstance(terminal, RunFailed) else None


def chats_of(driver: Driver, providers: Mapping[str, str]) -> Iterator[Chat]:
    """Return each request of a run that has ended. `providers` has the conventions' names of those that are set."""
    for step in driver.record.steps:
        for attempt in step.attempts:
            yield _chat(driver, step, attempt, providers)


def _chat(driver: Driver, step: StepRecord, attempt: Attempt, providers: Mapping[str, str]) -> Chat:
    candidate, is_last = attempt.candidate, attempt is step.attempts[-1]
    error, ended = attempt.error, attempt.ended
    if error is None:
        ended = step.ended
        if step.finish_reason is None:
            error = failure_of(driver)
    return Chat(
        step=step.number,
        span_id=attempt.span_id,
        provider=providers.get(candidate.gate.name, candidate.gate.name),
        model=sendable(candidate.model),
        said_model=sendable(attempt.model),
        began=attempt.began,
        ended=end_of(driver) if ended is None else ended,
        first_word=attempt.ended if attempt.error is None else None,
        finish_reason=step.finish_reason if is_last else None,
        error=error,
        usage=_whole(step.usage, candidate.cache_count) if is_last and step.usage is not None else None,
    )


def end_of(driver: Driver) -> float:
    """Return when the run ended."""
    record = driver.record
    return record.began if record.ended is None else record.ended


def tool_error(call: ToolRecord, driver: Driver) -> str:
    """Return the conventions' `error.type` of a call, "" for none."""
    match call.outcome:
        case CallOutcome.OK:
            return ""
        case CallOutcome.ERROR:
            return "tool_error"
        case CallOutcome.CANCELLED:
            failure = failure_of(driver)
            return OTHER if failure is None else failure.code


def whole_usage(chats: list[Chat]) -> tuple[int, int]:
    """Return the input and output tokens of all of `chats`."""
    used = [chat.usage for chat in chats if chat.usage is not None]
    return sum(usage.input_tokens for usage in used), sum(usage.output_tokens for usage in used)


def sendable(text: str) -> str:
    """Return what a client or a provider wrote as a short text that can be encoded: one that cannot would take all
    others of its batch with it.
    """
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode()


def provider_names(providers: Mapping[str, ProviderOptions]) -> dict[str, str]:
    """Return what the conventions call each provider: whose API it speaks."""
    return {name: _provider_name(options) for name, options in providers.items()}


def _provider_name(options: ProviderOptions) -> str:
    match options.via:
        case Via.AZURE:
            return "azure.ai.openai"
        case Via.VERTEX:
            return "gcp.vertex_ai"
        case Via.SCRIPTED:
            return "scripted"
        case Via.DIRECT:
            return "anthropic" if options.dialect == "anthropic" else "openai"


def _whole(usage: Usage, count: CacheCount) -> Usage:
    """`usage` with the tokens of the cache among its input, whichever way its provider counts."""
    if count is CacheCount.INSIDE:
        return usage
    cached = usage.cached_tokens + usage.cache_write_tokens
    return msgspec.structs.replace(usage, input_tokens=usage.input_tokens + cached)
