"""Foreign exceptions renamed: the SDKs' and httpx2's errors to ours, in this one place."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import msgspec
import openai

from ..machine.errors import ErrorCode, RunError
from ..wire.upstream.faults import fault
from .base import ProviderError, ProviderRejected, ProviderUnavailable, StreamLost

UNREACHABLE = RunError(ErrorCode.UPSTREAM_ERROR, "The provider cannot be reached.", retryable=True)
SLOW = RunError(ErrorCode.TIMEOUT, "The provider did not answer in time.", retryable=True)
LOST = RunError(ErrorCode.UPSTREAM_ERROR, "The connection to the provider broke off.", retryable=True, truncated=True)
UNAVAILABLE_STATUS = 500


@contextmanager
def opening() -> Iterator[None]:
    """Rename what sending a request may raise."""
    try:
        yield
    except (openai.APITimeoutError, anthropic.APITimeoutError) as error:
        raise ProviderUnavailable(SLOW) from error
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        raise _refused(error.status_code, error.response, error.body) from error
    except (openai.APIError, anthropic.APIError, httpx2.HTTPError) as error:
        raise ProviderUnavailable(UNREACHABLE) from error


@contextmanager
def reading() -> Iterator[None]:
    """Rename what reading a reply may raise."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise StreamLost(SLOW) from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise StreamLost(LOST) from error


def _refused(status: int, response: Any, body: object) -> ProviderError:
    kind, code, message = _details(body)
    error = fault(kind, code, status=status, message=message)
    if (wait := _retry_after_ms(response.headers)) is not None:
        error = msgspec.structs.replace(error, retry_after_ms=wait)
    if status >= UNAVAILABLE_STATUS or error.retryable:
        return ProviderUnavailable(error)
    return ProviderRejected(error, status)


def _details(body: object) -> tuple[str, str, str]:
    """The error's type, code and text from an error body: OpenAI's SDK unwraps `error`, Anthropic's does not."""
    if isinstance(body, dict):
        inner = body.get("error")
        shown = inner if isinstance(inner, dict) else body
        return str(shown.get("type") or ""), str(shown.get("code") or ""), str(shown.get("message") or "")
    return "", "", ""


def _retry_after_ms(headers: Any) -> int | None:
    for name, scale in (("retry-after-ms", 1.0), ("retry-after", 1000.0)):
        try:
            wait = float(headers.get(name, ""))
        except ValueError:
            continue
        if 0 <= wait * scale <= 86_400_000:
            return int(wait * scale)
    return None
