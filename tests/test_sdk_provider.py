"""A provider behind an official SDK: how its refusals, its odd answers and its broken connections are told."""

from collections.abc import Callable
from typing import Any, cast

import httpx2
import msgspec
import pytest
import trio

from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.machine.reply import Reply
from sluicegate.machine.reply_table import State
from sluicegate.providers.base import ProviderError, ProviderRejected, ProviderUnavailable, StreamLost
from sluicegate.providers.environment import provider_of
from sluicegate.providers.sdk import SdkProvider, UpstreamOptions
from sluicegate.providers.template import Templated

SECRET = "sk-canary-4711"
REQUEST = Request("m", (UserMessage((TextPart("hello"),)),))
WHOLE = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi\nthere"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def provider(answer: Callable[[httpx2.Request], httpx2.Response], dialect: str = "openai_chat") -> SdkProvider:
    transport = httpx2.MockTransport(answer)
    return provider_of(dialect, UpstreamOptions(max_retries=0), transport, SECRET, "http://provider.invalid/v1")


async def reply_of(answer: Callable[[httpx2.Request], httpx2.Response], dialect: str = "openai_chat") -> Reply:
    upstream = provider(answer, dialect)
    reply, decoder = Reply(), upstream.decoder()
    try:
        async with upstream.open(REQUEST) as chunks:
            async for chunk in chunks:
                for delta in decoder.feed(chunk):
                    reply.receive(delta)
            for delta in decoder.eof():
                reply.receive(delta)
    finally:
        await upstream.aclose()
    return reply


@pytest.mark.parametrize("pretty", [False, True])
async def test_case_43_a_json_answer_to_a_streaming_request_is_read(pretty: bool) -> None:
    body = msgspec.json.encode(WHOLE)
    if pretty:
        body = msgspec.json.format(body, indent=2).replace(b"\n", b"\r\n")
    reply = await reply_of(
        lambda _: httpx2.Response(200, content=body, headers={"content-type": "application/json; charset=utf-8"})
    )
    assert reply.state is State.DONE
    assert reply.message().parts == (TextPart("Hi\nthere"),)
    assert reply.usage is not None
    assert reply.usage.output_tokens == 2


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic"])
async def test_case_43_an_error_in_a_json_body_with_status_200_is_an_error(dialect: str) -> None:
    body = msgspec.json.encode(
        {"type": "error", "error": {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": SECRET}}
    )
    reply = await reply_of(
        lambda _: httpx2.Response(200, content=body, headers={"content-type": "application/json"}), dialect
    )
    assert reply.error is not None
    assert reply.error.code is ErrorCode.RATE_LIMITED
    assert SECRET not in repr(reply.error)


REFUSALS = [
    (429, {"retry-after": "7"}, ProviderUnavailable, ErrorCode.RATE_LIMITED, 7000),
    (429, {"retry-after-ms": "250", "retry-after": "7"}, ProviderUnavailable, ErrorCode.RATE_LIMITED, 250),
    (429, {"retry-after": "soon"}, ProviderUnavailable, ErrorCode.RATE_LIMITED, None),
    (429, {"retry-after": "-1"}, ProviderUnavailable, ErrorCode.RATE_LIMITED, None),
    (401, {}, ProviderRejected, ErrorCode.UPSTREAM_ERROR, None),
    (500, {}, ProviderUnavailable, ErrorCode.UPSTREAM_ERROR, None),
    (529, {}, ProviderUnavailable, ErrorCode.UPSTREAM_ERROR, None),
]


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b'{"error": "words sk-canary-4711"}', b"<html>sk-canary-4711"])
@pytest.mark.parametrize(("status", "headers", "kind", "code", "wait"), REFUSALS)
async def test_refusals_are_renamed_and_never_echoed(
    status: int, headers: dict[str, str], kind: type[ProviderError], code: ErrorCode, wait: int | None, body: bytes
) -> None:
    with pytest.raises(ProviderError) as caught:
        await reply_of(lambda _: httpx2.Response(status, content=body, headers=headers))
    assert type(caught.value) is kind
    assert caught.value.error.code is code
    assert caught.value.error.retry_after_ms == wait
    assert SECRET not in repr(caught.value.error) + str(caught.value)


FAULTS = [
    (httpx2.ConnectError("no route"), ErrorCode.UPSTREAM_ERROR),
    (httpx2.ConnectTimeout("slow"), ErrorCode.TIMEOUT),
    (httpx2.ReadTimeout("slow"), ErrorCode.TIMEOUT),
    (httpx2.RemoteProtocolError("gibberish"), ErrorCode.UPSTREAM_ERROR),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS)
async def test_a_provider_that_cannot_be_reached_is_unavailable(fault: Exception, code: ErrorCode) -> None:
    def fail(_: httpx2.Request) -> httpx2.Response:
        raise fault

    with pytest.raises(ProviderUnavailable) as caught:
        await reply_of(fail)
    assert caught.value.error.code is code
    assert caught.value.error.retryable


@pytest.mark.parametrize(("fault", "code"), FAULTS)
async def test_a_connection_that_breaks_in_mid_reply_is_a_lost_stream(fault: Exception, code: ErrorCode) -> None:
    class Breaking(httpx2.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]  # an async generator of bytes, as httpx2 wants it
            yield b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
            raise fault

    with pytest.raises(StreamLost) as caught:
        await reply_of(lambda _: httpx2.Response(200, stream=Breaking()))
    assert caught.value.error.code is code


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic"])
async def test_a_request_made_from_a_template_is_what_the_sdk_builds(
    dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all that goes over the wire, whatever was asked before; a retry is built by the SDK, which counts it."""
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200 if len(asked) % 4 else 500, content=b"data: [DONE]\n\n")

    requests = [Request("m", (UserMessage((TextPart("hello" * size),)),)) for size in (1, 50, 2, 0)]
    traces: list[dict[str, str]] = [
        {"traceparent": "00-1"},
        {"traceparent": "00-2", "tracestate": "a=b"},
        {},
        {"traceparent": "00-4"},
    ]

    async def ask() -> list[tuple[str, str, list[tuple[str, str]], bytes, object]]:
        asked.clear()
        upstream = provider_of(
            dialect, UpstreamOptions(), httpx2.MockTransport(answer), SECRET, "http://provider.invalid/v1?version=7"
        )
        cast(Any, upstream)._client.max_retries = 1  # which ours has not, but its template has to bear
        for request, trace in zip(requests, traces, strict=True):
            async with upstream.open(request, trace):
                pass
        await upstream.aclose()
        return [
            (str(one.url), one.method, sorted(one.headers.multi_items()), one.content, one.extensions["timeout"])
            for one in asked
        ]

    monkeypatch.setattr("anyio.sleep", checkpoint)
    copied = await ask()
    monkeypatch.setattr(Templated, "_build_request", Templated._built_anew)
    monkeypatch.setattr(Templated, "_kept", lambda _client, _what: {})
    assert await ask() == copied
    assert len(copied) == 5
    assert [{name: value for name, value in headers if name.startswith("trace")} for _, _, headers, _, _ in copied] == [
        *traces,
        traces[-1],  # of the retry, too
    ]
    assert [dict(headers)["x-stainless-retry-count"] for _, _, headers, _, _ in copied] == ["0"] * 4 + ["1"]


async def checkpoint(_seconds: float) -> None:
    await trio.lowlevel.checkpoint()
