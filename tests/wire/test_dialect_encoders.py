"""The three dialects as encoders, read by the official SDKs: an encoder and our own decoder cannot merely agree.

What goes in is a reply as values (`Told`), what comes out is what the SDK's own accumulator makes of the bytes. Every
event is also validated against the SDK's model of it, and every body against the order of its wire.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

import httpx2
import msgspec
import pytest
import trio
from anthropic import APIStatusError, AsyncAnthropic
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import APIError, AsyncOpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel

from sluicegate.machine.deltas import (
    CallDelta,
    CallEnd,
    End,
    Failure,
    Finish,
    FinishReason,
    PartEnd,
    ProviderDelta,
    ReasoningDelta,
    RefusalDelta,
    SignatureDelta,
    Started,
    TextDelta,
    UsageDelta,
)
from sluicegate.machine.errors import ErrorCode, LocalProtocolError, RunError
from sluicegate.wire.downstream import anthropic_messages, openai_chat
from sluicegate.wire.downstream.anthropic_messages import MessagesEncoder
from sluicegate.wire.downstream.dialect import DialectEncoder, Spoken
from sluicegate.wire.downstream.openai_chat import ChatEncoder
from sluicegate.wire.downstream.openai_responses import ResponsesEncoder
from sluicegate.wire.sse import SseDecoder, SseEvent

# openai's stream leaves its inner generator behind at `[DONE]`, which Trio reports
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'openai:ResourceWarning")

T = TypeVar("T")
Kind = Literal["text", "reasoning", "refusal", "call"]

DIALECTS: dict[str, Callable[[], DialectEncoder]] = {
    "chat": lambda: ChatEncoder("m", reply_id="chatcmpl-1", created=7),
    "responses": lambda: ResponsesEncoder("m", reply_id="resp_1", created=7),
    "messages": lambda: MessagesEncoder("m", reply_id="msg_1", created=7),
}


class Told(msgspec.Struct, frozen=True):
    """A part of a reply; `pieces` are its deltas. `label` is a signature, or the id of a call and its name."""

    kind: Kind
    pieces: tuple[str, ...]
    label: str = ""

    @property
    def whole(self) -> str:
        return "".join(self.pieces)


def encode(dialect: str, deltas: Sequence[Spoken]) -> bytes:
    encoder = DIALECTS[dialect]()
    return b"".join(encoder.encode(delta) for delta in deltas)


def spoken(parts: Sequence[Told]) -> list[list[Spoken]]:
    """The deltas of each part, with the part's place as the key."""
    out: list[list[Spoken]] = []
    for key, part in enumerate(parts):
        match part.kind:
            case "text":
                out.append([TextDelta(piece, key) for piece in ("", *part.pieces)])
            case "reasoning":
                out.append([ReasoningDelta(piece, key) for piece in ("", *part.pieces)])
                out[-1] += [SignatureDelta(part.label, key)] if part.label else []
            case "refusal":
                out.append([RefusalDelta(piece, key) for piece in ("", *part.pieces)])
            case "call":
                out.append([CallDelta(key, f"id-{part.label}-{key}", part.label)])
                out[-1] += [CallDelta(key, arguments=piece) for piece in part.pieces]
    return out


def flat(parts: Sequence[Told], reason: FinishReason, usage: UsageDelta) -> list[Spoken]:
    return [usage, *(delta for part in spoken(parts) for delta in part), Finish(reason, ""), End()]


# --- the SDKs as judges


class Served(httpx2.AsyncBaseTransport):
    """Answers every request with the same bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self.data)


def with_openai(data: bytes, read: Callable[[AsyncOpenAI], Awaitable[T]]) -> T:
    async def run() -> T:
        http = httpx2.AsyncClient(transport=Served(data), trust_env=False)
        async with http, AsyncOpenAI(api_key="k", base_url="http://x/v1", http_client=http, max_retries=0) as client:
            return await read(client)

    return trio.run(run)


async def read_chat(client: AsyncOpenAI) -> tuple[list[ChatCompletionChunk], Any]:
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    chunks = []
    stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}], stream=True)
    async with stream:
        async for chunk in stream:
            chunks.append(chunk)
            state.handle_chunk(chunk)
    return chunks, state.current_completion_snapshot


async def read_responses(client: AsyncOpenAI) -> tuple[list[Any], Any]:
    """The events, and the terminal response as the SDK's own stream helper sees it."""
    async with client.responses.stream(model="m", input="?") as stream:
        events: list[Any] = [event async for event in stream]
    return events, events[-1].response


async def read_messages(client: AsyncAnthropic) -> Any:
    async with client.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "?"}]) as stream:
        return await stream.get_final_message()


def with_anthropic(data: bytes) -> Any:
    async def run() -> Any:
        http = httpx2.AsyncClient(transport=Served(data), trust_env=False)
        async with http, AsyncAnthropic(api_key="k", base_url="http://x", http_client=http, max_retries=0) as client:
            return await read_messages(client)

    return trio.run(run)


# --- the wires' own order, and the SDK's models of every event


def events_of(data: bytes) -> list[SseEvent]:
    assert b"\r" not in data
    decoder = SseDecoder(1 << 20)
    events = [event for event in decoder.feed(data) if isinstance(event, SseEvent)]
    assert decoder.eof() == []
    return events


def models(union: Any) -> dict[str, type[BaseModel]]:
    classes = get_args(get_args(union)[0])
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in classes}


RESPONSE_EVENTS = models(ResponseStreamEvent)
MESSAGE_EVENTS = models(RawMessageStreamEvent)


def check_chat(data: bytes) -> None:
    *events, last = [event.data for event in events_of(data)]
    if "error" in json.loads(last if last != b"[DONE]" else b"{}"):
        return
    assert last == b"[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(event) for event in events]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] != []
    finished = next(at for at, chunk in enumerate(chunks) if chunk.choices and chunk.choices[0].finish_reason)
    assert all(chunk.choices == [] and chunk.usage for chunk in chunks[finished + 1 :])
    assert len(chunks) - finished <= 2
    begun = [
        call for c in chunks for choice in c.choices for call in choice.delta.tool_calls or () if call.id is not None
    ]
    assert [call.index for call in begun] == list(range(len(begun)))


def check_responses(data: bytes) -> None:
    events = [json.loads(event.data) for event in events_of(data)]
    assert [event.event for event in events_of(data)] == [event["type"] for event in events]
    distinct = {(event["type"], event.get("item", {}).get("type")): event for event in events}
    for event in distinct.values():
        code = (event.get("response", {}).get("error") or {}).get("code")
        if code != "context_length_exceeded":  # the API sends it, the SDK's enumeration lacks it
            RESPONSE_EVENTS[event["type"]].model_validate(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] in {"response.completed", "response.incomplete", "response.failed"}
    added: dict[int, Any] = {}
    done: dict[int, Any] = {}
    for event in events[2:-1]:
        index = event["output_index"]
        assert index not in done
        if event["type"] == "response.output_item.added":
            assert index == len(added)
            added[index] = event["item"]
        elif event["type"] == "response.output_item.done":
            done[index] = event["item"]
        else:
            assert added[index]["id"] == event["item_id"]
    assert events[-1]["response"]["output"] == [done[index] for index in sorted(done)]
    assert events[-1]["type"] == "response.failed" or added.keys() == done.keys()


def check_messages(data: bytes) -> None:
    events = [json.loads(event.data) for event in events_of(data)]
    assert [event.event for event in events_of(data)] == [event["type"] for event in events]
    kinds = [event["type"] for event in events]
    if kinds[-1] == "error":
        assert kinds.count("error") == 1
        kinds.pop()
    else:
        assert kinds[-1] == "message_stop"
        assert kinds.count("message_stop") == 1
        assert 1 <= kinds.count("message_delta") <= 2
        assert set(kinds[kinds.index("message_delta") :]) == {"message_delta", "message_stop"}
    assert kinds[:2] in ([], ["message_start", "ping"])
    opened: list[int] = []
    closed: set[int] = set()
    for event in events:
        if event["type"] in MESSAGE_EVENTS and "compaction" not in json.dumps(event):
            MESSAGE_EVENTS[event["type"]].model_validate(event)
        if event["type"] == "content_block_start":
            assert event["index"] == len(opened)
            opened.append(event["index"])
        elif event["type"] == "content_block_delta":
            assert event["index"] in opened
            assert event["index"] not in closed
        elif event["type"] == "content_block_stop":
            assert event["index"] not in closed
            closed.add(event["index"])
    assert kinds == [] or "message_stop" not in kinds or closed == set(opened)


CHECKS = {"chat": check_chat, "responses": check_responses, "messages": check_messages}


# --- any reply, in all three dialects

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
pieces = st.lists(words, max_size=4).map(tuple)
json_objects = st.dictionaries(words, st.none() | st.booleans() | st.integers(-9999, 9999) | words, max_size=3)


@st.composite
def told_calls(draw: st.DrawFn) -> Told:
    whole = json.dumps(draw(json_objects), ensure_ascii=draw(st.booleans()))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    cut = tuple(whole[a:b] for a, b in zip((0, *cuts), (*cuts, len(whole)), strict=True) if a < b)
    return Told("call", draw(st.sampled_from([cut, ()])), draw(names))


parts_of_a_reply = st.lists(
    st.builds(Told, st.sampled_from(["text", "refusal"]), pieces)
    | st.builds(Told, st.just("reasoning"), pieces, st.sampled_from(["", "c2ln"]))
    | told_calls(),
    max_size=5,
)
figures = st.none() | st.integers(0, 10**6)
usages = st.builds(UsageDelta, st.integers(0, 999), st.integers(0, 999), figures, figures, figures)
reasons = st.sampled_from([FinishReason.STOP, FinishReason.TOOL_CALLS])


def of_kind(parts: Sequence[Told], kind: Kind) -> str:
    return "".join(part.whole for part in parts if part.kind == kind)


def calls_of(parts: Sequence[Told]) -> list[tuple[str, str, str]]:
    return [(f"id-{p.label}-{key}", p.label, p.whole) for key, p in enumerate(parts) if p.kind == "call"]


@settings(deadline=None, max_examples=60)
@given(parts_of_a_reply, reasons, usages)
def test_the_openai_sdk_reads_any_reply_in_chat_completions(
    parts: list[Told], reason: FinishReason, usage: UsageDelta
) -> None:
    data = encode("chat", flat(parts, reason, usage))
    check_chat(data)
    chunks, whole = with_openai(data, read_chat)
    (choice,) = whole.choices
    assert (choice.message.content or "") == of_kind(parts, "text")
    assert (choice.message.refusal or "") == of_kind(parts, "refusal")
    thoughts = [getattr(c.choices[0].delta, "reasoning_content", "") for c in chunks if c.choices]
    assert "".join(thoughts) == of_kind(parts, "reasoning")
    made = [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls or ()]
    assert made == calls_of(parts)
    assert choice.finish_reason == reason
    assert (whole.id, whole.model, whole.created) == ("chatcmpl-1", "m", 7)
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (usage.input_tokens, usage.output_tokens)
    assert whole.usage.prompt_tokens_details.cached_tokens == usage.cached_tokens
    assert whole.usage.prompt_tokens_details.cache_write_tokens == usage.cache_write_tokens
    assert whole.usage.completion_tokens_details.reasoning_tokens == usage.reasoning_tokens


@pytest.mark.once
@settings(deadline=None, max_examples=60)
@given(parts_of_a_reply, reasons, usages)
def test_the_openai_sdk_reads_any_reply_in_responses(
    parts: list[Told], reason: FinishReason, usage: UsageDelta
) -> None:
    data = encode("responses", flat(parts, reason, usage))
    check_responses(data)
    events, whole = with_openai(data, read_responses)
    assert events[-1].type == "response.completed"
    seen: list[tuple[str, ...]] = []
    for item in whole.output:
        match item.type:
            case "message":
                (content,) = item.content
                seen.append(("refusal", content.refusal) if content.type == "refusal" else ("text", content.text))
            case "reasoning":
                text = "".join(summary.text for summary in item.summary)
                seen.append(("reasoning", text, item.encrypted_content or ""))
            case "function_call":
                seen.append(("call", item.call_id, item.name, item.arguments))
    expected: list[tuple[str, ...]] = []
    for key, part in enumerate(parts):
        match part.kind:
            case "reasoning":
                expected.append(("reasoning", part.whole, part.label))
            case "call":
                expected.append(("call", f"id-{part.label}-{key}", part.label, part.whole))
            case kind:
                expected.append((kind, part.whole))
    assert seen == expected
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == of_kind(parts, "text")
    figures = whole.usage
    assert (figures.input_tokens, figures.output_tokens) == (usage.input_tokens, usage.output_tokens)
    assert figures.input_tokens_details.cached_tokens == (usage.cached_tokens or 0)
    assert figures.input_tokens_details.cache_write_tokens == (usage.cache_write_tokens or 0)
    assert figures.output_tokens_details.reasoning_tokens == (usage.reasoning_tokens or 0)


@pytest.mark.once
@settings(deadline=None, max_examples=60)
@given(parts_of_a_reply, reasons, usages)
def test_the_anthropic_sdk_reads_any_reply(parts: list[Told], reason: FinishReason, usage: UsageDelta) -> None:
    data = encode("messages", flat(parts, reason, usage))
    check_messages(data)
    whole = with_anthropic(data)
    seen: list[tuple[object, ...]] = []
    for block in whole.content:
        match block.type:
            case "text":
                seen.append(("text", block.text))
            case "thinking":
                seen.append(("reasoning", block.thinking, block.signature))
            case "tool_use":
                seen.append(("call", block.id, block.name, block.input))
    expected: list[tuple[object, ...]] = []
    for key, part in enumerate(parts):
        match part.kind:
            case "reasoning":
                expected.append(("reasoning", part.whole, part.label))
            case "call":
                expected.append(("call", f"id-{part.label}-{key}", part.label, json.loads(part.whole or "{}")))
            case _:
                expected.append(("text", part.whole))
    assert seen == expected
    refused = reason is FinishReason.STOP and any(part.kind == "refusal" for part in parts)
    assert whole.stop_reason == ("refusal" if refused else "end_turn" if reason is FinishReason.STOP else "tool_use")
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (usage.input_tokens, usage.output_tokens)
    assert whole.usage.cache_read_input_tokens == (usage.cached_tokens or 0)
    assert whole.usage.cache_creation_input_tokens == (usage.cache_write_tokens or 0)
    thinking = whole.usage.output_tokens_details
    assert (thinking and thinking.thinking_tokens) == usage.reasoning_tokens


@pytest.mark.parametrize("ends", [False, True])
def test_interleaved_calls_keep_their_arguments_apart(ends: bool) -> None:
    deltas: list[Spoken] = [
        CallDelta(0, "a", "first", '{"x"'),
        CallDelta(1, "b", "second"),
        CallDelta(0, arguments=":1}"),
        CallDelta(arguments='{"y":2}'),
        *([CallEnd(0), CallEnd(1), CallEnd(1)] if ends else []),
        End(),
    ]
    _, chat = with_openai(encode("chat", deltas), read_chat)
    assert [call.function.arguments for call in chat.choices[0].message.tool_calls] == ['{"x":1}', '{"y":2}']
    assert chat.choices[0].finish_reason == "tool_calls"
    _, response = with_openai(encode("responses", deltas), read_responses)
    assert [item.arguments for item in response.output] == ['{"x":1}', '{"y":2}']
    message = with_anthropic(encode("messages", deltas))
    assert [block.input for block in message.content] == [{"x": 1}, {"y": 2}]
    assert message.stop_reason == "tool_use"


# --- finish reasons

ENDINGS = {
    FinishReason.STOP: ("stop", "completed", None, "end_turn"),
    FinishReason.LENGTH: ("length", "incomplete", "max_output_tokens", "max_tokens"),
    FinishReason.TOOL_CALLS: ("tool_calls", "completed", None, "tool_use"),
    FinishReason.CONTENT_FILTER: ("content_filter", "incomplete", "content_filter", "refusal"),
    FinishReason.CONTEXT_LENGTH: ("length", "incomplete", "max_output_tokens", "model_context_window_exceeded"),
    FinishReason.PAUSE: ("stop", "completed", None, "pause_turn"),
}


@pytest.mark.parametrize("reason", FinishReason)
def test_every_finish_reason_has_its_word_on_every_wire(reason: FinishReason) -> None:
    chat_word, status, incomplete, stop_reason = ENDINGS[reason]
    deltas: list[Spoken] = [TextDelta("Hi", 0), PartEnd(0), TextDelta("cut", 1), Finish(reason, "of no wire"), End()]
    chunks, _ = with_openai(encode("chat", deltas), read_chat)
    assert chunks[-1].choices[0].finish_reason == chat_word
    data = encode("responses", deltas)
    check_responses(data)
    response = json.loads(events_of(data)[-1].data)["response"]
    assert response["status"] == status
    assert (response["incomplete_details"] or {}).get("reason") == incomplete
    assert [item["status"] for item in response["output"]] == ["completed", status]
    data = encode("messages", deltas)
    check_messages(data)
    message = with_anthropic(data)
    assert message.stop_reason == stop_reason
    assert (message.stop_details is not None) == (stop_reason == "refusal")


@pytest.mark.parametrize(
    ("dialect", "raw"), [("chat", "function_call"), ("messages", "stop_sequence"), ("responses", "steered")]
)
def test_a_providers_own_word_is_kept_where_the_wire_has_it(dialect: str, raw: str) -> None:
    assert f'"{raw}"'.encode() in encode(dialect, [Finish(FinishReason.STOP, raw), End()])


# --- errors

CHAT_ERRORS = {
    ErrorCode.RATE_LIMITED: ("rate_limit_exceeded", "rate_limit_exceeded"),
    ErrorCode.CONTEXT_LENGTH: ("invalid_request_error", "context_length_exceeded"),
    ErrorCode.UPSTREAM_ERROR: ("server_error", "server_error"),
    ErrorCode.TIMEOUT: ("timeout", "timeout"),
    ErrorCode.TOOL_LOOP: ("server_error", "tool_loop"),
}
RESPONSES_ERRORS = {
    ErrorCode.RATE_LIMITED: "rate_limit_exceeded",
    ErrorCode.CONTEXT_LENGTH: "context_length_exceeded",
    ErrorCode.INVALID_REQUEST: "invalid_prompt",
}
MESSAGES_ERRORS = {
    ErrorCode.RATE_LIMITED: "rate_limit_error",
    ErrorCode.CONTEXT_LENGTH: "invalid_request_error",
    ErrorCode.TIMEOUT: "timeout_error",
    ErrorCode.OVERLOADED: "overloaded_error",
    ErrorCode.UNAUTHORIZED: "authentication_error",
    ErrorCode.UPSTREAM_ERROR: "api_error",
}
OPENINGS: dict[str, list[Spoken]] = {"at once": [], "midway": [Started(), TextDelta("Hi"), CallDelta(0, "c", "f", "{")]}


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("code", [code for code in ErrorCode if code is not ErrorCode.CONTENT_FILTER])
def test_every_error_reaches_the_sdks_and_is_the_last(opening: str, code: ErrorCode) -> None:
    deltas = [*OPENINGS[opening], Failure(RunError(code, "Sorry."))]
    data = encode("chat", deltas)
    check_chat(data)
    with pytest.raises(APIError) as chat:
        with_openai(data, read_chat)
    body: Any = chat.value.body
    assert body["message"] == "Sorry."
    assert (body["type"], body["code"]) == CHAT_ERRORS.get(code, (body["type"], body["code"]))
    assert events_of(data)[-1].data == openai_chat.encode_error(RunError(code, "Sorry."))

    data = encode("responses", deltas)
    check_responses(data)
    response = with_openai(data, read_responses)[1]
    assert response.status == "failed"
    assert (response.error.code, response.error.message) == (RESPONSES_ERRORS.get(code, "server_error"), "Sorry.")

    data = encode("messages", deltas)
    check_messages(data)
    with pytest.raises(APIStatusError) as messages:
        with_anthropic(data)
    answer: Any = messages.value.body
    assert answer["error"]["message"].endswith("Sorry.")
    assert answer["error"]["type"] == MESSAGES_ERRORS.get(code, answer["error"]["type"])
    assert events_of(data)[-1].data == anthropic_messages.encode_error(RunError(code, "Sorry."))


def test_a_retryable_provider_error_is_an_overload_in_the_words_of_anthropic() -> None:
    body = anthropic_messages.encode_error(RunError(ErrorCode.UPSTREAM_ERROR, "Busy.", retryable=True))
    assert json.loads(body) == {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}


@pytest.mark.parametrize("before", [[], [TextDelta("Hi")], [TextDelta("Hi"), Finish(FinishReason.STOP, "")]])
def test_a_content_filter_ends_each_wire_as_its_own_filter_does(before: list[Spoken]) -> None:
    deltas = [*before, Failure(RunError(ErrorCode.CONTENT_FILTER, "No."))]
    finished = len(before) == 2
    chunks, _ = with_openai(encode("chat", deltas), read_chat)
    assert chunks[-1].choices[0].finish_reason == ("stop" if finished else "content_filter")
    response = with_openai(encode("responses", deltas), read_responses)[1]
    assert response.status == ("completed" if finished else "incomplete")
    assert with_anthropic(encode("messages", deltas)).stop_reason == ("end_turn" if finished else "refusal")


# --- what only one wire has


def test_provider_parts_go_out_verbatim_to_anthropic() -> None:
    search = b'{"type":"server_tool_use","id":"s","name":"web_search","input":{}}'
    result = b'{"type":"web_search_tool_result","tool_use_id":"s","content":[]}'
    deltas: list[Spoken] = [
        ProviderDelta(0, "server_tool_use", search),
        ProviderDelta(0, fragment='{"query":'),
        ProviderDelta(0, fragment='"x"}'),
        PartEnd(0),
        ProviderDelta(1, "web_search_tool_result", result),
        TextDelta("Found."),
        End(),
    ]
    data = encode("messages", deltas)
    check_messages(data)
    message = with_anthropic(data)
    assert [block.type for block in message.content] == ["server_tool_use", "web_search_tool_result", "text"]
    assert message.content[0].input == {"query": "x"}
    assert result in data
    chunks, _ = with_openai(encode("chat", deltas), read_chat)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Found."


def test_a_compaction_streams_its_own_kind_of_delta() -> None:
    data = encode("messages", [ProviderDelta(0, "compaction", b'{"type":"compaction"}', "Short."), End()])
    check_messages(data)
    assert b'"delta":{"type":"compaction_delta","content":"Short."}' in data


def test_responses_sends_a_provider_item_again_when_it_is_done() -> None:
    begun, done = (
        b'{"type":"web_search_call","id":"ws","status":"%s"}' % word for word in (b"in_progress", b"completed")
    )
    deltas: list[Spoken] = [
        ProviderDelta(0, "web_search_call", begun),
        ProviderDelta(0, fragment="ignored"),
        ProviderDelta(0, raw=done),
        TextDelta("Found."),
        PartEnd(),
        PartEnd(0),
        PartEnd(0),
        End(),
    ]
    data = encode("responses", deltas)
    events = [json.loads(event.data) for event in events_of(data)]
    items = [(e["type"], e["item"]["status"]) for e in events if e.get("item", {}).get("id") == "ws"]
    assert items == [("response.output_item.added", "in_progress"), ("response.output_item.done", "completed")]
    _, response = with_openai(data, read_responses)
    assert [item.type for item in response.output] == ["web_search_call", "message"]


def test_signature_pieces_stay_pieces_for_anthropic_and_are_joined_for_responses() -> None:
    deltas: list[Spoken] = [SignatureDelta("ab"), SignatureDelta("cd"), CallDelta(0, "c", "f"), End()]
    assert encode("messages", deltas).count(b'"type":"signature_delta"') == 2
    assert b'"encrypted_content":"abcd"' in encode("responses", deltas)
    assert b"ab" not in encode("chat", [SignatureDelta("ab"), End()])


def test_usage_after_the_finish_is_told_once_more() -> None:
    deltas: list[Spoken] = [
        UsageDelta(input_tokens=3),
        Started("other"),
        Started("ignored"),
        TextDelta("Hi"),
        Finish(FinishReason.STOP, ""),
        UsageDelta(output_tokens=1),
        UsageDelta(output_tokens=5),
        End(),
    ]
    for dialect in DIALECTS:
        CHECKS[dialect](encode(dialect, deltas))
    assert encode("messages", deltas).count(b"event: message_delta") == 2
    message = with_anthropic(encode("messages", deltas))
    assert (message.model, message.usage.input_tokens, message.usage.output_tokens) == ("other", 3, 5)
    chat = with_openai(encode("chat", deltas), read_chat)[1]
    assert (chat.model, chat.usage.total_tokens) == ("other", 8)
    assert with_openai(encode("responses", deltas), read_responses)[1].usage.total_tokens == 8


def test_usage_is_not_sent_to_a_chat_client_that_did_not_ask() -> None:
    encoder = ChatEncoder("m", reply_id="r", include_usage=False)
    data = b"".join(encoder.encode(delta) for delta in (UsageDelta(1, 1), TextDelta("Hi"), End()))
    assert b"usage" not in data
    assert b'"usage":null' in encode("chat", [TextDelta("Hi"), End()])
    assert b'"choices":[]' not in encode("chat", [TextDelta("Hi"), End()])


# --- any deltas in any order

SOME_KEYS = st.sampled_from([None, 0, 1])
BLOCKS = {
    "chat": b"{}",
    "responses": b'{"type":"web_search_call","id":"ws","status":"completed","action":{"type":"search","query":"q"}}',
    "messages": b'{"type":"server_tool_use","id":"s","name":"web_search","input":{}}',
}


def any_deltas(dialect: str) -> st.SearchStrategy[tuple[str, list[Spoken]]]:
    any_delta: st.SearchStrategy[Spoken] = st.one_of(
        st.builds(Started),
        st.builds(TextDelta, st.sampled_from(["", "t"]), SOME_KEYS),
        st.builds(ReasoningDelta, st.sampled_from(["", "r"]), SOME_KEYS),
        st.builds(RefusalDelta, st.sampled_from(["", "n"]), SOME_KEYS),
        st.builds(SignatureDelta, st.just("s"), SOME_KEYS),
        st.builds(CallDelta, SOME_KEYS, st.just("id"), st.sampled_from(["", "f"]), st.sampled_from(["", "{}"])),
        st.builds(CallEnd, SOME_KEYS),
        st.builds(
            ProviderDelta,
            SOME_KEYS,
            st.sampled_from(["server_tool_use", "compaction"]),
            st.sampled_from([b"", BLOCKS[dialect]]),
            st.sampled_from(["", "{}"]),
        ),
        st.builds(PartEnd, SOME_KEYS),
        st.builds(UsageDelta, figures, figures),
        st.builds(Finish, st.sampled_from(FinishReason), st.just("")),
        st.just(End()),
        st.builds(Failure, st.builds(RunError, st.sampled_from(ErrorCode), st.just("m"))),
    )
    return st.tuples(st.just(dialect), st.lists(any_delta, max_size=12))


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(DIALECTS)).flatmap(any_deltas))
def test_any_order_of_deltas_is_a_legal_body_and_a_refused_delta_changes_nothing(
    reply: tuple[str, list[Spoken]],
) -> None:
    dialect, deltas = reply
    encoder = DIALECTS[dialect]()
    data, taken = b"", []
    for delta in [*deltas, End()]:
        try:
            data += encoder.encode(delta)
        except LocalProtocolError:
            continue
        taken.append(delta)
    assert data == encode(dialect, taken)
    CHECKS[dialect](data)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([End()], TextDelta("late")),
        ([End()], End()),
        ([Failure(RunError(ErrorCode.TIMEOUT, ""))], Started()),
        ([Finish(FinishReason.STOP, "")], TextDelta("late")),
        ([Finish(FinishReason.STOP, "")], CallDelta(0, "c", "f")),
        ([Finish(FinishReason.STOP, "")], Finish(FinishReason.STOP, "")),
        ([], CallDelta(0, arguments="{}")),
        ([], CallDelta(arguments="{}")),
        ([ProviderDelta(0, "k", b"{}")], CallDelta(0, arguments="{}")),
        ([CallDelta(0, "c", "f"), CallEnd()], CallDelta(arguments="{}")),
        ([CallDelta(0, "c", "f")], ProviderDelta(0, fragment="{}")),
    ],
)
def test_what_no_reply_can_say_is_our_bug_and_loud(dialect: str, before: list[Spoken], wrong: Spoken) -> None:
    encoder = DIALECTS[dialect]()
    for delta in before:
        encoder.encode(delta)
    with pytest.raises(LocalProtocolError):
        encoder.encode(wrong)
