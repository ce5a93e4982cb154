"""Deltas: what a decoder makes of a provider's bytes, and the only thing that `Reply` receives.

A delta says what the wire said and nothing more: no accumulation, no guess. `key` is the provider's own name for the
part within its reply (Anthropic's block index, Chat Completions' tool index, Responses' item) or None where the wire
has none; Reply maps it to a part. *Total* deltas repeat all that a part holds so far (a wire's "done" events, servers
that send cumulative text); Reply takes what is new in them. `Raw` fields are the provider's own JSON, kept verbatim
because it has to go back unchanged in the next step.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec

from .errors import RunError

Key: TypeAlias = int | str | None


class FinishReason(StrEnum):
    """Why a reply ended, in one vocabulary for all providers."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    CONTEXT_LENGTH = "context_length"
    PAUSE = "pause"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens of one reply or of a whole run. `input_tokens` is the figure that the provider calls so."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


class Started(msgspec.Struct, frozen=True, gc=False):
    """The provider began its reply. May be repeated; the model is a claim of the provider."""

    model: str = ""


class TextDelta(msgspec.Struct, frozen=True, gc=False):
    """More text; "" opens the part (or does nothing where it is open)."""

    text: str
    key: Key = None


class TextTotal(msgspec.Struct, frozen=True, gc=False):
    """All the text of this part so far."""

    text: str
    key: Key = None


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False):
    """More of the model's reasoning; "" opens the part. `raw`: a provider's reasoning detail, to be sent back as is."""

    text: str
    key: Key = None
    raw: bytes = b""


class ReasoningTotal(msgspec.Struct, frozen=True, gc=False):
    """All the text of this reasoning part so far."""

    text: str
    key: Key = None


class SignatureDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of the signature of the open reasoning part; pieces are concatenated (case 74)."""

    signature: str
    key: Key = None


class RefusalDelta(msgspec.Struct, frozen=True, gc=False):
    """More of the words in which the model refuses."""

    text: str
    key: Key = None


class RefusalTotal(msgspec.Struct, frozen=True, gc=False):
    """All the text of this refusal part so far."""

    text: str
    key: Key = None


class CitationDelta(msgspec.Struct, frozen=True, gc=False):
    """A source for the text near it, verbatim."""

    raw: bytes
    key: Key = None


class CallDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a client tool call. `call_id`, `name` and `arguments` are "" where the wire says nothing."""

    key: Key = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    raw: bytes = b""


class CallTotal(msgspec.Struct, frozen=True, gc=False):
    """A client tool call with all its arguments so far (a "done" event, or a cumulative server's delta)."""

    key: Key = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    raw: bytes = b""


class CallEnd(msgspec.Struct, frozen=True, gc=False):
    """The wire's explicit end of a tool call: its arguments are complete."""

    key: Key = None


class ProviderDelta(msgspec.Struct, frozen=True, gc=False):
    """A part that the provider runs or owns itself: web search, code execution, MCP, redacted thinking, compaction.

    The first delta of a key carries `raw`, the verbatim block or item, and its `kind`. Later ones add `fragment`, the
    streamed rest of the block's own field (an Anthropic server tool's `input`, a compaction's `content`); a later
    non-empty `raw` replaces the earlier one (Responses sends the item again when it is done).
    """

    key: Key = None
    kind: str = ""
    raw: bytes = b""
    fragment: str = ""


class PartEnd(msgspec.Struct, frozen=True, gc=False):
    """The wire's explicit end of a text, reasoning, refusal or provider part."""

    key: Key = None


class UsageDelta(msgspec.Struct, frozen=True, gc=False):
    """Usage so far, cumulative, never to be added up. A field is None where this event does not say it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class Finish(msgspec.Struct, frozen=True, gc=False):
    """The finish reason. `raw` is the provider's word. The stream may end at any time after it (Chat Completions)."""

    reason: FinishReason
    raw: str


class FinishNotice(msgspec.Struct, frozen=True, gc=False):
    """The finish reason on a wire whose explicit end has yet to come (Anthropic): EOF before that is truncation."""

    reason: FinishReason
    raw: str


class End(msgspec.Struct, frozen=True, gc=False):
    """The wire's explicit end: `[DONE]`, `message_stop`, a terminal `response.*`."""


class Failure(msgspec.Struct, frozen=True):
    """The provider reported an error inside its stream, or sent what cannot be read."""

    error: RunError


class Eof(msgspec.Struct, frozen=True, gc=False):
    """The upstream closed its body. Always the last input."""


Delta: TypeAlias = (
    Started
    | TextDelta
    | TextTotal
    | ReasoningDelta
    | ReasoningTotal
    | SignatureDelta
    | RefusalDelta
    | RefusalTotal
    | CitationDelta
    | CallDelta
    | CallTotal
    | CallEnd
    | ProviderDelta
    | PartEnd
    | UsageDelta
    | Finish
    | FinishNotice
    | End
    | Failure
    | Eof
)
