"""Foreign exceptions renamed: the SDKs' and httpx2's errors to ours, in this one place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx2
import msgspec

from ..machine.errors import ErrorCode, RunError
from ..wire.upstream.faults import fault
from .base import ProviderError, ProviderRejected, ProviderUnavailable, StreamLost

UNREACHABLE = RunError(ErrorCode.UPSTREAM_ERROR, "The provider cannot be reached.", retryable=True)
PROXY = RunError(ErrorCode.UPSTREAM_ERROR, "The proxy did not connect to the provider.", retryable=True)
SLOW = RunError(ErrorCode.TIMEOUT, "The provider did not answer in time.", retryable=True)
LOST = RunError(ErrorCode.UPSTREAM_ERROR, "The connection to the provider broke off.", retryable=True, truncated=True)
UNAVAILABLE_STATUS = 500
MAX_WAIT_MS = 86_400_000


class SdkErrors(NamedTuple):
    """The exception classes of an official SDK: of a response with an error status, of a timeout, of all else."""

    status: type[Exception]
    timeout: type[Exception]
    other: type[Exception]


@contextmanager
def opening(sdk: SdkErrors) -> Iterator[None]:
    """Rename what sending a request through `sdk` may raise."""
    try:
        yield
    except sdk.timeout as error:
        raise ProviderUnavailable(SLOW) from error
    except sdk.status as error:
        raise _refused(error) from error
    except (sdk.other, httpx2.HTTPError) as error:
        raise ProviderUnavailable(_unreachable(error)) from error


def lost(error: httpx2.HTTPError | httpx2.StreamError) -> StreamLost:
    """Return the name here of what reading a reply may raise."""
    return StreamLost(SLOW if isinstance(error, httpx2.TimeoutException) else LOST)


def _unreachable(error: Exception) -> RunError:
    cause = error.__cause__ or error
    if not isinstance(cause, httpx2.ProxyError):
        return UNREACHABLE
    refused = str(cause).startswith("4")  # its text begins with the status: 407 will not go away, 502 may
    return msgspec.structs.replace(PROXY, retryable=not refused)


def _refused(refusal: Any) -> ProviderError:
    status: int = refusal.status_code
    kind, code, message = _details(refusal.body)
    error = fault(kind, code, status=status, message=message)
    if (wait := _retry_after_ms(refusal.response.headers)) is not None:
        error = msgspec.structs.replace(error, retry_after_ms=wait)
    if status >= UNAVAILABLE_STATUS or error.retryable:
        return ProviderUnavailable(error)
    return ProviderRejected(error, status)


def _details(body: object) -> tuple[str, str, str]:
    """The error's type, code and text from an error body: OpenAI's SDK unwraps `error`, Anthropic's does not."""
    if not isinstance(body, dict):
        return "", "", ""
    inner = body.get("error")
    shown = inner if isinstance(inner, dict) else body
    return str(shown.get("type") or ""), str(shown.get("code") or ""), str(shown.get("message") or "")


def _retry_after_ms(headers: Any) -> int | None:
    for name, scale in (("retry-after-ms", 1.0), ("retry-after", 1000.0)):
        try:
            wait = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if 0 <= wait <= MAX_WAIT_MS:
            return int(wait)
    return None
