"""Errors before the first byte: a true HTTP status and a JSON body that names what is wrong and how to mend it."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from quart import Response
from werkzeug.exceptions import HTTPException

from ..machine.errors import ErrorCode, RunError

STATUS = {
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.CONTEXT_LENGTH: 400,
    ErrorCode.UPSTREAM_ERROR: 502,
    ErrorCode.TIMEOUT: 504,
    ErrorCode.BUDGET_EXCEEDED: 402,
    ErrorCode.TOOL_LOOP: 500,
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.CANCELLED: 499,
    ErrorCode.SHUTTING_DOWN: 503,
    ErrorCode.REPLICA_LOST: 503,
    ErrorCode.INTERNAL: 500,
}
_SAID = {
    404: "There is nothing here; POST /chat starts a run.",
    405: "This method is not allowed here.",
    408: "The body did not arrive in time.",
    413: "The body is too large (max_body_bytes).",
}

# What is said to browsers with every answer: to take it for what it is called, and not to keep it.
SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
MAX_MESSAGE = 500  # characters; a message may quote what the client sent


class ProblemInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """`field` is the path of the part of the request that is wrong, such as `messages[0].content`."""

    code: ErrorCode
    message: str
    field: str = ""
    retryable: bool = False
    retry_after_ms: int | None = None


class Refusal(NamedTuple):
    """A whole HTTP response; names of headers in lower case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Problem(Exception):
    """An answer that is an error; `respond` makes the HTTP response."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str = "",
        code: ErrorCode = ErrorCode.INVALID_REQUEST,
        headers: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        retryable = retry_after_ms is not None
        self.info = ProblemInfo(code, message[:MAX_MESSAGE], field[:MAX_MESSAGE], retryable, retry_after_ms)

    def respond(self) -> Response:
        """Return the HTTP response of this problem."""
        response = _response(self.status, self.info)
        for name, value in self.headers.items():
            response.headers[name] = value
        return response


def problem_of(error: HTTPException) -> Problem:
    """Return what is answered where Quart raises `error`, in our words."""
    status = error.code or 500
    allowed = {name: value for name, value in error.get_headers() if name.lower() == "allow"}
    return Problem(status, _SAID.get(status, f"{error.name}."), headers=allowed)


def respond_run_error(error: RunError) -> Response | None:
    """Return the HTTP response of a run that failed before its first word; None if a stream with status 200 shall tell
    it: a filtered answer is an outcome, not a fault of request, provider or service.
    """
    if error.code is ErrorCode.CONTENT_FILTER:
        return None
    status = STATUS[error.code]
    # A provider that is overloaded, not broken: 503 tells proxies and clients to come back.
    if error.code is ErrorCode.UPSTREAM_ERROR and error.retryable and not error.truncated:
        status = 503
    return _response(status, _info(error))


def refusal_of(error: RunError, more_headers: Mapping[str, str] | None = None) -> Refusal:
    """Return the same as `respond_run_error` gives, as plain bytes: for those who answer without Quart. Not for
    CONTENT_FILTER.
    """
    body = msgspec.json.encode({"error": _info(error)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode(), value.encode()) for name, value in {**SAFE, **(more_headers or {})}.items()]
    if error.retry_after_ms is not None:
        headers.append((b"retry-after", _seconds(error.retry_after_ms).encode()))
    return Refusal(STATUS[error.code], headers, body)


def _info(error: RunError) -> ProblemInfo:
    return ProblemInfo(error.code, error.message, "", error.retryable, error.retry_after_ms)


def _seconds(milliseconds: int) -> str:
    return str(-(-milliseconds // 1000))


def _response(status: int, info: ProblemInfo) -> Response:
    response = Response(msgspec.json.encode({"error": info}), status, SAFE, content_type="application/json")
    if info.retry_after_ms is not None:
        response.headers["Retry-After"] = _seconds(info.retry_after_ms)
    return response
