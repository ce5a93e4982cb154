"""The one mapping from providers' errors to our codes, for errors inside a stream and for refused requests alike.

Providers name the same trouble in many ways (`rate_limit_error`, `RateLimitError`, `RESOURCE_EXHAUSTED`, 429), so names
are compared without case and punctuation, by the words within them, the most telling word first.
"""

import re
from enum import Enum
from typing import Final

from ...machine.errors import ErrorCode, RunError


class _Kind(Enum):
    """What an error means for us: a code, our words for it, and whether the same request may succeed later."""

    QUOTA = (ErrorCode.RATE_LIMITED, "The provider account has no quota left.", False)
    CONTEXT = (ErrorCode.CONTEXT_LENGTH, "The conversation is too long for the model.", False)
    FILTERED = (ErrorCode.CONTENT_FILTER, "The provider's content filter stopped the reply.", False)
    RATE = (ErrorCode.RATE_LIMITED, "The provider limits the rate of requests.", True)
    TIMEOUT = (ErrorCode.TIMEOUT, "The provider took too long.", True)
    OVERLOADED = (ErrorCode.UPSTREAM_ERROR, "The provider is overloaded.", True)
    BAD_CALL = (ErrorCode.UPSTREAM_ERROR, "The model wrote a tool call that the provider cannot read.", True)
    REFUSED = (ErrorCode.UPSTREAM_ERROR, "The provider refused the request.", False)
    FAILED = (ErrorCode.UPSTREAM_ERROR, "The provider failed.", True)


# Order matters: "insufficient_quota" comes with status 429, "invalid_request_error" with almost anything.
_WORDS: Final = {
    _Kind.QUOTA: "quota billing insufficientbalance insufficientcredit paymentrequired creditlimit",
    _Kind.CONTEXT: "contextlength contextwindow contextsize stringabovemaxlength requesttoolarge inputtokens",
    _Kind.FILTERED: "contentfilter contentpolicy policyviolation biopolicy aipolicy usagepolicy safety moderation "
    "datainspection prohibitedcontent sensitivecontent guardrail",
    _Kind.RATE: "ratelimit toomanyrequests resourceexhausted throttl slowdown",
    _Kind.TIMEOUT: "timeout timedout deadlineexceeded",
    _Kind.OVERLOADED: "overload unavailable capacity systemresource",
    _Kind.BAD_CALL: "toolusefailed outputparsefailed malformedfunctioncall",
    _Kind.REFUSED: "authentication unauthorized unauthenticated apikey permission forbidden accessdenied notfound "
    "doesnotexist invalid badrequest unsupported unprocessable failedprecondition outofrange residency",
    _Kind.FAILED: "server internal apierror badgateway upstream connection network",
}
_WORD_LISTS: Final = tuple((kind, tuple(words.split())) for kind, words in _WORDS.items())

_STATUS: Final = {
    402: _Kind.QUOTA,
    408: _Kind.TIMEOUT,
    409: _Kind.FAILED,
    413: _Kind.CONTEXT,
    429: _Kind.RATE,
    503: _Kind.OVERLOADED,
    504: _Kind.TIMEOUT,
    524: _Kind.TIMEOUT,
    529: _Kind.OVERLOADED,
}

# For names that say no more than "bad request" or "server error". Phrases of OpenAI, Azure, Anthropic, Google, Mistral,
# vLLM, SGLang and llama.cpp.
_CONTEXT_TELL: Final = re.compile(
    r"context[ _-](length|window|size|limit)|(prompt|input) is too long|too many input tokens|maximum prompt length"
    r"|input token count|maximum number of (input )?tokens|reduce the length",
    re.IGNORECASE,
)
_FILTER_TELL: Final = re.compile(
    r"content (filter|management|policy)|usage polic|safety (system|filter)|flagged|inappropriate content",
    re.IGNORECASE,
)
_VAGUE: Final = frozenset({_Kind.REFUSED, _Kind.FAILED})
_TELLING_CHARS: Final = 2_000
_RAW_CHARS: Final = 64
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_PUNCTUATION: Final = re.compile(r"[^a-z0-9]+")


def fault(kind: str, code: str = "", status: int | None = None, message: str = "") -> RunError:
    """Return the error that clients see for a provider's `error.type`, `error.code` and HTTP status.

    A number in `kind` or `code` counts as a status (gateways send it so); a status below 400 says nothing (errors
    inside a stream come under 200). `message` is only inspected, where the names are vague, and never copied. What
    nobody has heard of is an UPSTREAM_ERROR worth a retry.
    """
    said = status if status is not None and status >= 400 else _number(code) or _number(kind)
    found = _by_name(code) or _by_name(kind) or _by_status(said)
    if found is None or found in _VAGUE:
        found = _by_message(message[:_TELLING_CHARS]) or found or _Kind.FAILED
    error_code, words, retryable = found.value
    named = kind if not code or (_number(code) and kind) else code
    return RunError(error_code, words, retryable=retryable, raw=safe(named))


def unreadable(what: str) -> RunError:
    """Return the error for bytes that are not the provider's wire; `what` is our own name of the trouble."""
    return RunError(ErrorCode.UPSTREAM_ERROR, "The provider sent what cannot be read.", retryable=True, raw=safe(what))


def safe(name: str) -> str:
    """Return a provider's short name without anything but letters, digits, `_`, `.` and `-`, at most 64 characters."""
    return _UNSAFE.sub("", name[: 4 * _RAW_CHARS])[:_RAW_CHARS]


def _by_name(name: str) -> _Kind | None:
    plain = _PUNCTUATION.sub("", name[: 4 * _RAW_CHARS].lower())
    return next((kind for kind, words in _WORD_LISTS if any(word in plain for word in words)), None)


def _by_status(status: int | None) -> _Kind | None:
    if status is None:
        return None
    return _STATUS.get(status) or (_Kind.REFUSED if status < 500 else _Kind.FAILED)


def _by_message(message: str) -> _Kind | None:
    if _CONTEXT_TELL.search(message):
        return _Kind.CONTEXT
    return _Kind.FILTERED if _FILTER_TELL.search(message) else None


def _number(name: str) -> int | None:
    return int(name) if len(name) == 3 and name.isascii() and name.isdigit() and "400" <= name <= "599" else None
