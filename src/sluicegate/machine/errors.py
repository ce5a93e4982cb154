"""Every way in which a run can end badly: stable codes for clients, exceptions for ourselves."""

import re
from enum import StrEnum
from typing import Final

import msgspec

_WORDS: Final = re.compile(r"[a-z]{1,20}(_[a-z]{1,20}){0,5}")  # such as insufficient_quota


class ErrorCode(StrEnum):
    """The codes that clients see on every wire. They never change their meaning."""

    RATE_LIMITED = "RATE_LIMITED"
    CONTEXT_LENGTH = "CONTEXT_LENGTH"
    CONTENT_FILTER = "CONTENT_FILTER"
    UPSTREAM_ERROR = "UPSTREAM_ERROR"
    TIMEOUT = "TIMEOUT"
    BUDGET_EXCEEDED = "BUDGET_EXCEEDED"
    TOOL_LOOP = "TOOL_LOOP"
    INVALID_REQUEST = "INVALID_REQUEST"
    UNAUTHORIZED = "UNAUTHORIZED"
    OVERLOADED = "OVERLOADED"
    CANCELLED = "CANCELLED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    REPLICA_LOST = "REPLICA_LOST"
    INTERNAL = "INTERNAL"


class RunError(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run ended without an answer, in words that may be shown to anybody.

    `message` is always ours: a provider's text never gets in here, it may hold keys or prompts. `raw` is the
    provider's own error type or code, cut to a safe alphabet; wires do not send it.
    """

    code: ErrorCode
    message: str
    retryable: bool = False
    retry_after_ms: int | None = None
    truncated: bool = False
    raw: str = ""

    @property
    def reason(self) -> str:
        """`raw` for logs and traces; "" if it is not made of plain words: a key might stand in its place."""
        return self.raw if _WORDS.fullmatch(self.raw) else ""


class SluicegateError(Exception):
    """Base of all exceptions that sluicegate raises on purpose."""


class LocalProtocolError(SluicegateError):
    """We broke our own rules: a bug in sluicegate. Ends the run with INTERNAL, loudly."""


class RemoteProtocolError(SluicegateError):
    """The provider broke the rules of its own wire. Ends the run with UPSTREAM_ERROR."""


class LimitExceeded(SluicegateError):
    """A limit was reached; `limit` is the name of the option that sets it."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit
