"""The mapping of providers' errors to our codes: real names of many providers, and what must never leak."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.wire.upstream.faults import fault, safe, unreadable

RATE, CONTEXT, FILTER = ErrorCode.RATE_LIMITED, ErrorCode.CONTEXT_LENGTH, ErrorCode.CONTENT_FILTER
UPSTREAM, TIMEOUT = ErrorCode.UPSTREAM_ERROR, ErrorCode.TIMEOUT


@pytest.mark.parametrize(
    ("kind", "code", "status", "expected", "retryable"),
    [
        # OpenAI and Azure
        ("insufficient_quota", "insufficient_quota", 429, RATE, False),
        ("tokens", "rate_limit_exceeded", 429, RATE, True),
        ("requests", "", 429, RATE, True),
        ("invalid_request_error", "context_length_exceeded", 400, CONTEXT, False),
        ("invalid_request_error", "string_above_max_length", 400, CONTEXT, False),
        ("invalid_request_error", "content_policy_violation", 400, FILTER, False),
        ("", "content_filter", 400, FILTER, False),
        ("server_error", "", None, UPSTREAM, True),
        ("", "server_error", None, UPSTREAM, True),
        ("invalid_request_error", "invalid_api_key", 401, UPSTREAM, False),
        ("invalid_request_error", "model_not_found", 404, UPSTREAM, False),
        ("invalid_request_error", "", None, UPSTREAM, False),
        ("", "bio_policy", None, FILTER, False),
        ("", "vector_store_timeout", None, TIMEOUT, True),
        ("", "data_residency_mismatch", None, UPSTREAM, False),
        ("engine_overloaded_error", "", 429, UPSTREAM, True),
        # Anthropic
        ("rate_limit_error", "", 200, RATE, True),
        ("overloaded_error", "", 200, UPSTREAM, True),
        ("api_error", "", 500, UPSTREAM, True),
        ("authentication_error", "", 401, UPSTREAM, False),
        ("permission_error", "", 403, UPSTREAM, False),
        ("not_found_error", "", 404, UPSTREAM, False),
        ("billing_error", "", 402, RATE, False),
        ("timeout_error", "", 504, TIMEOUT, True),
        ("request_too_large", "", 413, CONTEXT, False),
        # Compatible servers and gateways
        ("exceed_context_size_error", "400", None, CONTEXT, False),
        ("RESOURCE_EXHAUSTED", "429", None, RATE, True),
        ("DEADLINE_EXCEEDED", "504", None, TIMEOUT, True),
        ("UNAVAILABLE", "503", None, UPSTREAM, True),
        ("PERMISSION_DENIED", "403", None, UPSTREAM, False),
        ("invalid_request_error", "tool_use_failed", 400, UPSTREAM, True),
        ("", "data_inspection_failed", 400, FILTER, False),
        ("BadRequestError", "400", None, UPSTREAM, False),
        ("ContextWindowExceededError", "", 400, CONTEXT, False),
        ("RateLimitError", "", None, RATE, True),
        ("ThrottlingException", "", None, RATE, True),
        # Only a number
        ("", "429", None, RATE, True),
        ("529", "", None, UPSTREAM, True),
        ("", "", 408, TIMEOUT, True),
        ("", "", 413, CONTEXT, False),
        ("", "", 418, UPSTREAM, False),
        ("", "", 500, UPSTREAM, True),
        ("", "402", None, RATE, False),
        ("", "", 302, UPSTREAM, True),
        # Nobody has heard of it
        ("", "", None, UPSTREAM, True),
        ("strange", "thing", None, UPSTREAM, True),
    ],
)
def test_names_and_numbers(kind: str, code: str, status: int | None, expected: ErrorCode, retryable: bool) -> None:
    found = fault(kind, code, status)
    assert (found.code, found.retryable) == (expected, retryable)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("This model's maximum context length is 8192 tokens.", CONTEXT),
        ("prompt is too long: 200001 tokens > 200000 maximum", CONTEXT),
        ("The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).", CONTEXT),
        ("the request exceeds the available context size", CONTEXT),
        ("This model's maximum prompt length is 131072 but the request contains 140000 tokens.", CONTEXT),
        ("Your prompt was flagged as potentially violating our usage policy.", FILTER),
        ("triggering Azure OpenAI's content management policy", FILTER),
        ("Unknown parameter: 'foo'.", UPSTREAM),
    ],
)
def test_messages_tell_where_names_are_vague(message: str, expected: ErrorCode) -> None:
    for kind in ("", "invalid_request_error", "server_error", "BadRequestError"):
        assert fault(kind, "", 400, message).code is expected
    assert fault("", "rate_limit_exceeded", 400, message).code is RATE
    assert fault("overloaded_error", message=message).code is UPSTREAM


def test_raw_is_the_most_telling_name() -> None:
    assert fault("invalid_request_error", "model_not_found").raw == "model_not_found"
    assert fault("server_error", "500").raw == "server_error"
    assert fault("", "500").raw == "500"
    assert fault("api_error").raw == "api_error"


@given(st.text(), st.text(), st.none() | st.integers(), st.text())
def test_no_words_of_the_provider_get_out(kind: str, code: str, status: int | None, message: str) -> None:
    ours = {fault(*known).message for known in [("",), ("overloaded",), ("rate_limit",), ("timeout",), ("invalid",)]}
    ours |= {fault(*known).message for known in [("quota",), ("context_length",), ("safety",), ("tool_use_failed",)]}
    found = fault(kind, code, status, message)
    assert found.message in ours
    assert len(found.raw) <= 64
    assert found.raw == safe(found.raw)
    assert set(found.raw) <= set(kind) | set(code)


def test_names_are_cut_to_a_safe_alphabet() -> None:
    assert safe('a\n\u00e9<b> "c"._-9') == "abc._-9"
    assert safe("x" * 1000) == "x" * 64


def test_unreadable() -> None:
    error = unreadable("json")
    assert (error.code, error.retryable, error.raw) == (UPSTREAM, True, "json")


def test_a_reason_is_made_of_plain_words() -> None:
    for raw in ("insufficient_quota", "overloaded_error", "a"):
        assert RunError(ErrorCode.UPSTREAM_ERROR, "x", raw=raw).reason == raw
    for raw in ("", "sk-93ab", "Invalid", "a__b", "x" * 21, "a_b_c_d_e_f_g", "529"):
        assert RunError(ErrorCode.UPSTREAM_ERROR, "x", raw=raw).reason == ""
