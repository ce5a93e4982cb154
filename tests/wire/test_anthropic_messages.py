"""The Anthropic Messages wire: streamed bytes to replies, histories to request bodies, and both in a circle."""

import base64
import json
from collections.abc import Iterable
from itertools import pairwise, permutations
from typing import Any

import pydantic
import pytest
from anthropic.types.beta.beta_message_param import BetaMessageParam
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from sluicegate.machine.deltas import (
    CallDelta,
    CallEnd,
    CallTotal,
    CitationDelta,
    Delta,
    End,
    Eof,
    Failure,
    FinishNotice,
    FinishReason,
    PartEnd,
    ProviderDelta,
    ReasoningDelta,
    SignatureDelta,
    Started,
    TextDelta,
    UsageDelta,
)
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.events import CallBroken, CallReady
from sluicegate.machine.history import (
    INTERRUPTED,
    AssistantMessage,
    CallPart,
    ImagePart,
    Message,
    ProviderPart,
    ReasoningPart,
    RefusalPart,
    Request,
    SystemMessage,
    TextPart,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from sluicegate.machine.reply import TRUNCATED, Reply
from sluicegate.wire.upstream.anthropic_messages import AnthropicMessagesDecoder
from sluicegate.wire.upstream.anthropic_messages_request import encode_request, encode_vertex_request
from tests import laws
from tests.laws import byte_by_byte, check_split_law, chunkings, near_boundaries, pieces, splits2
from tests.shared import streams
from tests.wire import fold

Event = dict[str, Any]

# -- events and what becomes of them ----------------------------------------------------------------------------------


def sse(*events: Event, named: bool = True, typed: bool = True) -> bytes:
    """The bytes of `events`; without their `event:` lines if not `named`, without `type` in the data if not `typed`."""
    out = b""
    for event in events:
        data = event if typed else {name: value for name, value in event.items() if name != "type"}
        out += f"event: {event['type']}\n".encode() if named else b""
        out += f"data: {json.dumps(data)}\n\n".encode()
    return out


def raw_sse(*events: tuple[str, str | bytes]) -> bytes:
    """Frames of (event name, data), "" for no name."""
    return b"".join(
        (f"event: {name}\n".encode() if name else b"")
        + b"data: "
        + (data if isinstance(data, bytes) else data.encode())
        + b"\n\n"
        for name, data in events
    )


def message_start(content: Iterable[Any] = (), **usage: Any) -> Event:
    usage = usage or {"input_tokens": 17, "output_tokens": 1}
    return {"type": "message_start", "message": {"model": "claude-x", "content": list(content), "usage": usage}}


def start(index: Any, kind: str, **members: Any) -> Event:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **members}}


def piece(index: Any, kind: str, **members: Any) -> Event:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **members}}


def stop(index: Any) -> Event:
    return {"type": "content_block_stop", "index": index}


def finish(reason: str | None, **usage: Any) -> Event:
    event: Event = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}}
    return {**event, "usage": usage} if usage else event


def text(index: int, *texts: str, citations: Iterable[Event] = ()) -> list[Event]:
    return [
        start(index, "text", text=""),
        *(piece(index, "citations_delta", citation=citation) for citation in citations),
        *(piece(index, "text_delta", text=words) for words in texts),
        stop(index),
    ]


def thinking(index: int, words: str, *signatures: str) -> list[Event]:
    return [
        start(index, "thinking", thinking="", signature=""),
        piece(index, "thinking_delta", thinking=words),
        *(piece(index, "signature_delta", signature=signature) for signature in signatures),
        stop(index),
    ]


def tool(index: int, id_: str, name: str, *fragments: str, kind: str = "tool_use", **members: Any) -> list[Event]:
    return [
        start(index, kind, **{"id": id_, "name": name, "input": {}, **members}),
        *(piece(index, "input_json_delta", partial_json=fragment) for fragment in fragments),
        stop(index),
    ]


def whole(index: int, kind: str, **members: Any) -> list[Event]:
    return [start(index, kind, **members), stop(index)]


PING: Event = {"type": "ping"}
MESSAGE_STOP: Event = {"type": "message_stop"}
LOCATION = {
    "type": "char_location",
    "cited_text": "the sky",
    "document_index": 0,
    "document_title": None,
    "start_char_index": 0,
    "end_char_index": 7,
}
SEARCH_RESULT = {
    "type": "web_search_result",
    "title": "Sky",
    "url": "https://example.org/",
    "encrypted_content": "ZW5j/+==",
}


def stream(*parts: Event | list[Event], reason: str | None = "end_turn") -> list[Event]:
    """A whole reply around blocks."""
    events = [message_start()]
    for part in parts:
        events += part if isinstance(part, list) else [part]
    return [*events, finish(reason, output_tokens=21), MESSAGE_STOP]


RICH = stream(
    thinking(0, "Ich denke … 🌊", "c2ln", "bmF0dXJl"),
    PING,
    whole(1, "redacted_thinking", data="b3BhcXVl"),
    text(2, "Let me ", "look 🌊.", citations=[LOCATION]),
    tool(3, "srvtoolu_1", "web_search", "", '{"query":', ' "sky"}', kind="server_tool_use"),
    whole(4, "web_search_tool_result", tool_use_id="srvtoolu_1", content=[SEARCH_RESULT]),
    tool(5, "toolu_1", "weather", "", '{"city": "Köln', '", "days": 3}', caller={"type": "direct"}),
    tool(6, "toolu_2", "now"),
    text(7, "Words after the calls."),
    reason="tool_use",
)


def decode(data: bytes) -> list[Delta]:
    return laws.decode(AnthropicMessagesDecoder(), fold.feed, fold.finish, [data])


def reply_of(data: bytes) -> Reply:
    return fold.reply_of(data, AnthropicMessagesDecoder())


def check_splits(data: bytes, reads: Iterable[list[bytes]] | None = None) -> list[Delta]:
    return check_split_law(AnthropicMessagesDecoder, fold.feed, fold.finish, data, chunkings=reads)


def failure(deltas: list[Delta]) -> Failure:
    """The one failure of `deltas`, checked to be the last thing before the end of input."""
    *before, failed, eof = deltas
    assert isinstance(failed, Failure)
    assert eof == Eof()
    assert not any(isinstance(delta, Failure | Eof | End) for delta in before)
    return failed


# -- cases ------------------------------------------------------------------------------------------------------------


def test_case_09_anthropic_either_name_of_an_event_is_enough() -> None:
    whole_stream = decode(sse(*RICH))
    assert decode(sse(*RICH, named=False)) == whole_stream
    assert decode(sse(*RICH, typed=False)) == whole_stream
    assert whole_stream[-2:] == [End(), Eof()]
    # Where the two disagree the data counts.
    renamed = b"".join(sse(event).replace(b"event: " + event["type"].encode(), b"event: message") for event in RICH)
    assert decode(renamed) == whole_stream


@pytest.mark.parametrize("members", [{"input": {}}, {"input": None}, {"input": ""}, {}], ids=str)
@pytest.mark.parametrize("fragments", [(), ("",), ("", "")], ids=str)
def test_case_21_anthropic_call_without_arguments(members: Event, fragments: tuple[str, ...]) -> None:
    events = tool(0, "toolu_1", "now", *fragments)
    del events[0]["content_block"]["input"]
    events[0]["content_block"].update(members)
    reply = reply_of(sse(*stream(events, reason="tool_use")))
    assert reply.calls == [CallReady(0, "toolu_1", "now", "{}")]
    assert reply.error is None


def test_case_29_anthropic_text_after_a_call_is_kept_in_its_place() -> None:
    for order in permutations(("a", "b", "call")):
        blocks = [
            tool(i, "toolu_1", "f", '{"x": 1}') if what == "call" else text(i, what) for i, what in enumerate(order)
        ]
        reply = reply_of(sse(*stream(*blocks, reason="tool_use")))
        got = tuple("call" if isinstance(p, CallPart) else getattr(p, "text", "") for p in reply.message().parts)
        assert got == order


@pytest.mark.once
def test_case_30_anthropic_every_split_of_a_reply_gives_the_same() -> None:
    deltas = check_splits(sse(*RICH))
    crlf = sse(*RICH).replace(b"\n", b"\r\n")
    assert check_splits(crlf, [byte_by_byte(crlf)]) == deltas
    assert [type(delta) for delta in deltas if isinstance(delta, TextDelta | CallDelta | ProviderDelta)] == [
        ProviderDelta, *[TextDelta] * 3, *[ProviderDelta] * 4, *[CallDelta] * 3, CallDelta, *[TextDelta] * 2,
    ]  # fmt: skip


@pytest.mark.parametrize("closed", [True, False])
def test_case_34_anthropic_call_cut_by_max_tokens_is_not_ready(closed: bool) -> None:
    cut = tool(0, "toolu_1", "f", '{"path": "/et')
    events = cut if closed else cut[:-1]
    for reason in ("max_tokens", "tool_use"):
        reply = reply_of(sse(*stream(events, reason=reason)))
        assert [type(call) for call in reply.calls] == [CallBroken]
        assert reply.finish_reason is FinishReason.LENGTH
        assert reply.raw_finish_reason == reason


def test_case_35_anthropic_truncated_call_is_a_length_finish_and_no_error() -> None:
    reply = reply_of(sse(*stream(text(0, "So:"), tool(1, "toolu_1", "f", '{"a": [1, '), reason="max_tokens")))
    assert reply.error is None
    assert reply.finish_reason is FinishReason.LENGTH
    assert reply.message().parts[0] == TextPart("So:")


def test_case_37_anthropic_only_message_stop_ends_a_reply() -> None:
    data = sse(*RICH)
    terminal = data.rindex(b"}") + 1
    full = decode(data)
    for cut in range(len(data)):
        deltas = decode(data[:cut])
        if cut < terminal:
            assert deltas[-1] == Eof()
            assert deltas[:-1] == full[: len(deltas) - 1]
            assert End() not in deltas
        else:
            # No [DONE] is needed, nor the last blank line.
            assert deltas == full
    reply = reply_of(data[: terminal - 1])
    assert reply.error == TRUNCATED
    assert reply_of(data).error is None


def test_case_40_anthropic_usage_is_cumulative_and_the_first_output_count_a_placeholder() -> None:
    events = [
        message_start(input_tokens=10, output_tokens=9, cache_read_input_tokens=3, cache_creation_input_tokens=4),
        *text(0, "Hi"),
        finish(None, output_tokens=5),
        finish("end_turn", output_tokens=7, input_tokens=12, output_tokens_details={"thinking_tokens": 2}),
        MESSAGE_STOP,
    ]
    assert [delta for delta in decode(sse(*events)) if isinstance(delta, UsageDelta)] == [
        UsageDelta(input_tokens=10, output_tokens=9, cached_tokens=3, cache_write_tokens=4),
        UsageDelta(output_tokens=5),
        UsageDelta(input_tokens=12, output_tokens=7, reasoning_tokens=2),
    ]
    usage = reply_of(sse(*events)).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (12, 7, 3)
    # Repeated late, the placeholder does not come back.
    late = reply_of(sse(*events[:-1], events[0], MESSAGE_STOP)).usage
    assert late is not None
    assert late.output_tokens == 7
    # The placeholder counts while nothing better is known.
    early = reply_of(sse(*events[:2])).usage
    assert early is not None
    assert early.output_tokens == 9


ERRORS = [
    ("overloaded_error", "Overloaded", ErrorCode.UPSTREAM_ERROR, True),
    ("api_error", "Internal server error", ErrorCode.UPSTREAM_ERROR, True),
    ("rate_limit_error", "Slow down", ErrorCode.RATE_LIMITED, True),
    ("timeout_error", "Too slow", ErrorCode.TIMEOUT, True),
    ("authentication_error", "invalid x-api-key", ErrorCode.UPSTREAM_ERROR, False),
    ("permission_error", "no", ErrorCode.UPSTREAM_ERROR, False),
    ("not_found_error", "model: claude-none", ErrorCode.UPSTREAM_ERROR, False),
    ("billing_error", "credit", ErrorCode.RATE_LIMITED, False),
    ("invalid_request_error", "messages: roles must alternate", ErrorCode.UPSTREAM_ERROR, False),
    ("invalid_request_error", "prompt is too long: 300000 tokens > 200000 maximum", ErrorCode.CONTEXT_LENGTH, False),
    ("request_too_large", "Request exceeds the maximum size", ErrorCode.CONTEXT_LENGTH, False),
]


@pytest.mark.parametrize(("kind", "words", "code", "retryable"), ERRORS)
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("named", [True, False])
def test_case_45_anthropic_error_inside_a_200(
    kind: str, words: str, code: ErrorCode, retryable: bool, before: int, named: bool
) -> None:
    error = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}
    reply = [message_start(), *text(0, "Hi")][:before]
    deltas = decode(sse(*reply, error, *stream(text(0, "never read")), named=named))
    failed = failure(deltas).error
    assert (failed.code, failed.retryable, failed.raw) == (code, retryable, kind)
    assert words not in failed.message
    assert deltas[:-2] == decode(sse(*reply))[:-1]


@pytest.mark.parametrize(
    "data",
    [
        '{"error": {"type": "overloaded_error", "message": "secret"}}',
        '{"type": "overloaded_error", "message": "secret"}',
        '{"type": "error", "error": "overloaded_error: secret", "code": 529}',
        '{"type": "error", "message": "secret", "code": 529}',
        '{"type": "error", "error": null}',
        "secret",
        '"secret"',
        b"\xff secret",
        "[" * 100_000,
    ],
    ids=range(9),
)
def test_case_45_anthropic_error_of_any_shape(data: str | bytes) -> None:
    failed = failure(decode(raw_sse(("error", data)))).error
    assert failed.code is ErrorCode.UPSTREAM_ERROR
    assert failed.retryable
    assert "secret" not in failed.message + failed.raw


def test_case_45_anthropic_error_without_any_event_name_or_type() -> None:
    data = '{"error": {"type": "rate_limit_error", "message": ""}, "message": "x"}'
    assert failure(decode(raw_sse(("", data)))).error.code is ErrorCode.RATE_LIMITED
    for harmless in ("null", "false", "{}", '""'):
        assert decode(raw_sse(("message_stop", f'{{"error": {harmless}}}'))) == [End(), Eof()]


# A paused turn: the server's own loop stopped in mid-work and wants the turn back as it is.
PAUSED = stream(
    thinking(0, "Search twice.", "c2ln"),
    text(1, "I search. "),
    tool(2, "srvtoolu_1", "web_search", '{"query": "a"}', kind="server_tool_use"),
    whole(3, "web_search_tool_result", tool_use_id="srvtoolu_1", content=[SEARCH_RESULT]),
    tool(4, "srvtoolu_2", "web_search", "", '{"que', 'ry": "b"}', kind="server_tool_use"),
    reason="pause_turn",
)
PAUSED_CONTENT = [
    {"type": "thinking", "thinking": "Search twice.", "signature": "c2ln"},
    {"type": "text", "text": "I search. "},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "a"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [SEARCH_RESULT]},
    {"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_search", "input": {"query": "b"}},
]
QUESTION = UserMessage((TextPart("Why is the sky blue?"),))


def body_of(*messages: Message, **options: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encode_request(Request("claude-x", messages, **options)))
    return body


def turns_of(*messages: Message) -> list[tuple[str, Any]]:
    return [(message["role"], message["content"]) for message in body_of(*messages)["messages"]]


@pytest.mark.parametrize("word", ["pause_turn", "compaction"])
def test_case_73_anthropic_paused_turn_goes_back_unchanged(word: str) -> None:
    reply = reply_of(sse(*PAUSED[:-2], finish(word), MESSAGE_STOP))
    assert reply.finish_reason is FinishReason.PAUSE
    paused = reply.message()
    assert turns_of(QUESTION, paused) == [
        ("user", [{"type": "text", "text": "Why is the sky blue?"}]),
        ("assistant", PAUSED_CONTENT),
    ]
    # What the next step brings belongs to the same turn, and its calls are answered after it.
    more = reply_of(sse(*stream(text(0, "Now:"), tool(1, "toolu_1", "f", "{}"), reason="tool_use"))).message()
    result = ToolMessage("toolu_1", "f", "done")
    assert turns_of(QUESTION, paused, more, result)[1:] == [
        (
            "assistant",
            [
                *PAUSED_CONTENT,
                {"type": "text", "text": "Now:"},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
            ],
        ),
        ("user", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}]),
    ]


@pytest.mark.parametrize("cuts", [(), (3,), (1, 2, 3, 4, 5)], ids=str)
def test_case_74_anthropic_signature_is_joined_and_goes_back_verbatim(cuts: tuple[int, ...]) -> None:
    signature = "EqQBCgIYAhIM+/=="
    pieces = [signature[a:b] for a, b in zip((0, *cuts), (*cuts, None), strict=True)]
    events = stream(thinking(0, "Hm …", *pieces), whole(1, "redacted_thinking", data="b3BhcXVl"), text(2, "Yes."))
    message = reply_of(sse(*events)).message()
    assert message.parts[0] == ReasoningPart("Hm …", signature)
    assert turns_of(QUESTION, message)[1] == (
        "assistant",
        [
            {"type": "thinking", "thinking": "Hm …", "signature": signature},
            {"type": "redacted_thinking", "data": "b3BhcXVl"},
            {"type": "text", "text": "Yes."},
        ],
    )


def test_case_74_anthropic_signature_without_words_and_words_without_signature() -> None:
    hidden = stream(
        [start(0, "thinking", thinking="", signature="begun"), piece(0, "signature_delta", signature="+rest"), stop(0)]
    )
    message = reply_of(sse(*hidden)).message()
    assert message.parts == (ReasoningPart("", "begun+rest"),)
    assert turns_of(message) == [("assistant", [{"type": "thinking", "thinking": "", "signature": "begun+rest"}])]
    unsigned = reply_of(sse(*stream(thinking(0, "unsigned"), text(1, "x")))).message()
    assert turns_of(unsigned) == [("assistant", [{"type": "text", "text": "x"}])]


def test_case_75_anthropic_server_tools_keep_their_place_beside_client_calls() -> None:
    caller = {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}
    first = stream(
        tool(0, "srvtoolu_1", "code_execution", '{"code": "await weather()"}', kind="server_tool_use"),
        whole(1, "tool_use", id="toolu_1", name="weather", input={"city": "Bonn"}, caller=caller),
        tool(2, "srvtoolu_2", "web_search", '{"query": "x"}', kind="server_tool_use"),
        whole(3, "web_search_tool_result", tool_use_id="srvtoolu_2", content=[SEARCH_RESULT]),
        reason="tool_use",
    )
    result = {"type": "code_execution_result", "stdout": "sunny", "stderr": "", "return_code": 0, "content": []}
    second = stream(
        whole(0, "code_execution_tool_result", tool_use_id="srvtoolu_1", content=result), text(1, "It is sunny.")
    )
    reply = reply_of(sse(*first))
    assert reply.calls == [CallReady(1, "toolu_1", "weather", '{"city": "Bonn"}')]
    got = turns_of(
        QUESTION, reply.message(), ToolMessage("toolu_1", "weather", "sunny"), reply_of(sse(*second)).message()
    )
    assert got[1:] == [
        (
            "assistant",
            [
                {
                    "type": "server_tool_use",
                    "id": "srvtoolu_1",
                    "name": "code_execution",
                    "input": {"code": "await weather()"},
                },
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bonn"}, "caller": caller},
                {"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_2", "content": [SEARCH_RESULT]},
            ],
        ),
        ("user", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]),
        (
            "assistant",
            [
                {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": result},
                {"type": "text", "text": "It is sunny."},
            ],
        ),
    ]


# -- decoding ---------------------------------------------------------------------------------------------------------


def test_each_event_has_its_deltas() -> None:
    assert decode(sse(*RICH)) == [
        Started("claude-x"),
        UsageDelta(input_tokens=17, output_tokens=1),
        ReasoningDelta("", 0),
        ReasoningDelta("Ich denke … 🌊", 0),
        SignatureDelta("c2ln", 0),
        SignatureDelta("bmF0dXJl", 0),
        PartEnd(0),
        ProviderDelta(1, "redacted_thinking", b'{"type": "redacted_thinking", "data": "b3BhcXVl"}'),
        PartEnd(1),
        TextDelta("", 2),
        CitationDelta(json.dumps(LOCATION).encode(), 2),
        TextDelta("Let me ", 2),
        TextDelta("look 🌊.", 2),
        PartEnd(2),
        ProviderDelta(
            3,
            "server_tool_use",
            b'{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}',
        ),
        ProviderDelta(3, fragment='{"query":'),
        ProviderDelta(3, fragment=' "sky"}'),
        PartEnd(3),
        ProviderDelta(
            4,
            "web_search_tool_result",
            json.dumps({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [SEARCH_RESULT]})
            .encode(),
        ),
        PartEnd(4),
        CallDelta(5, "toolu_1", "weather", raw=b'{"type": "tool_use", "id": "toolu_1", "name": "weather", '
                  b'"input": {}, "caller": {"type": "direct"}}'),
        CallDelta(5, arguments='{"city": "Köln'),
        CallDelta(5, arguments='", "days": 3}'),
        CallEnd(5),
        CallDelta(6, "toolu_2", "now", raw=b'{"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}'),
        CallEnd(6),
        TextDelta("", 7),
        TextDelta("Words after the calls.", 7),
        PartEnd(7),
        UsageDelta(output_tokens=21),
        FinishNotice(FinishReason.TOOL_CALLS, "tool_use"),
        End(),
        Eof(),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("pause_turn", FinishReason.PAUSE),
        ("compaction", FinishReason.PAUSE),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("model_context_window_exceeded", FinishReason.CONTEXT_LENGTH),
        ("a_reason_of_next_year", FinishReason.STOP),
    ],
)
def test_stop_reasons(word: str, reason: FinishReason) -> None:
    assert FinishNotice(reason, word) in decode(sse(*stream(text(0, "x"), reason=word)))


def test_a_stop_reason_of_null_finishes_nothing() -> None:
    deltas = decode(sse(message_start(), finish(None), {"type": "message_delta"}, finish("end_turn"), MESSAGE_STOP))
    assert [delta for delta in deltas if isinstance(delta, FinishNotice)] == [
        FinishNotice(FinishReason.STOP, "end_turn")
    ]


def test_nothing_follows_the_end_but_eof() -> None:
    data = sse(*RICH)
    decoder = AnthropicMessagesDecoder()
    full = decoder.feed(data)
    assert decoder.feed(data) == []
    assert [*full, *decoder.eof()] == decode(data + data + b"data: [DONE]\n\n") == decode(data + b"\xff garbage\n\n")


def test_done_ends_only_a_finished_reply() -> None:
    done = raw_sse(("", "[DONE]"))
    unfinished = sse(message_start(), *text(0, "x"))
    assert decode(unfinished + done)[-1:] == [Eof()]
    assert End() not in decode(unfinished + done)
    finished = unfinished + sse(finish("end_turn"))
    assert decode(finished + done)[-2:] == [End(), Eof()]
    assert decode(finished + done.rstrip())[-2:] == [End(), Eof()]
    assert decode(finished)[-2:] == [FinishNotice(FinishReason.STOP, "end_turn"), Eof()]


def test_what_is_unknown_is_skipped() -> None:
    noise = raw_sse(
        ("ping", "not json"), ("heartbeat", "x"), ("vendor_event", '{"type": "vendor_event", "index": 0}'), ("", ""),
        ("message", "  "),
    )  # fmt: skip
    unknown = sse(piece(0, "sparkle_delta", sparkle=1), stop(99), piece(0, "signature_delta", signature="x"),
                  piece(0, "citations_delta"))  # fmt: skip
    data = [sse(event) for event in stream(text(0, "a", "b"))]
    # After the start of the block there is something for the unknown pieces to refer to.
    noisy = noise + data[0] + noise + data[1] + unknown + noise + b"".join(data[2:])
    assert decode(noisy) == decode(b"".join(data))


@pytest.mark.parametrize(
    "events",
    [
        [start(0, "text", text=""), piece(0, "input_json_delta", partial_json="{")],
        [start(0, "text", text=""), piece(0, "thinking_delta", thinking="x")],
        [start(0, "text", text=""), piece(0, "compaction_delta", content="x")],
        [start(0, "thinking", thinking=""), piece(0, "text_delta", text="x")],
        [start(0, "thinking", thinking=""), piece(0, "input_json_delta", partial_json="{")],
        [start(0, "tool_use", id="a", name="b"), piece(0, "text_delta", text="x")],
        [start(0, "server_tool_use", id="a", name="b"), piece(0, "text_delta", text="x")],
        [start(0, "web_search_tool_result"), piece(0, "thinking_delta", thinking="x")],
        [start(0, "redacted_thinking", data="x"), piece(0, "text_delta", text="x")],
        [start(0, "compaction", content=None), piece(0, "input_json_delta", partial_json="{")],
        [piece(0, "text_delta", text="x")],
        [start(0, "text", text=""), piece(1, "text_delta", text="x")],
        [start(0, "tool_use", id="a", name="b"), piece(1, "input_json_delta", partial_json="{")],
        [start(0, "text", text=""), {"type": "content_block_delta", "index": 0, "delta": {"text": "x"}}],
        [start(0, "text", text=""), {"type": "content_block_delta", "index": 0}],
        [{"type": "content_block_start", "index": 0}],
        [{"type": "content_block_start", "index": 0, "content_block": ["text"]}],
        [message_start([{"type": "text", "text": "x"}, "text", {"type": "text", "text": "y"}])],
    ],
    ids=str,
)
def test_what_would_lose_words_is_a_failure(events: list[Event]) -> None:
    failed = failure(decode(sse(*events, *stream(text(0, "never read"))))).error
    assert failed.code is ErrorCode.UPSTREAM_ERROR
    assert failed.retryable


def test_empty_pieces_are_welcome_anywhere() -> None:
    for kind, members in (("text", {"text": ""}), ("tool_use", {"id": "a", "name": "b"}), ("thinking", {}),
                          ("compaction", {})):  # fmt: skip
        empty = [piece(0, "text_delta", text=""), piece(0, "input_json_delta", partial_json=""),
                 piece(0, "thinking_delta", thinking=""), piece(0, "signature_delta", signature="")]  # fmt: skip
        deltas = decode(sse(*stream([start(0, kind, **members), *empty, stop(0)])))
        assert not any(isinstance(delta, Failure) for delta in deltas)
        assert deltas[-2] == End()


def test_blocks_newer_than_this_code_are_kept_and_their_pieces_do_not_hurt() -> None:
    block = {"type": "hologram", "depth": 3}
    events = [start(0, kind="hologram", depth=3), piece(0, "text_delta", text="x"),
              piece(0, "thinking_delta", thinking="x"), piece(0, "input_json_delta", partial_json='{"a": 1}'),
              stop(0)]  # fmt: skip
    message = reply_of(sse(*stream(events))).message()
    assert message.parts == (ProviderPart("hologram", json.dumps(block).encode(), '{"a": 1}'),)
    assert turns_of(message) == [("assistant", [block])]


@pytest.mark.parametrize(
    ("given_input", "arguments"),
    [
        ({"a": 1}, '{"a": 1}'),
        ('{"a": 1}', '{"a": 1}'),
        ({"b": {"c": []}}, '{"b": {"c": []}}'),
    ],
    ids=str,
)
def test_case_19_anthropic_arguments_in_the_start_of_a_call(given_input: Any, arguments: str) -> None:
    begun = start(0, "tool_use", id="toolu_1", name="f", input=given_input)
    ends = [[stop(0)], [], [start(0, "text", text="same index"), stop(0)]]
    for end in ends:
        reply = reply_of(sse(*stream([begun, *end], reason="tool_use")))
        assert reply.calls == [CallReady(0, "toolu_1", "f", arguments)]
    # Even a reply that stops without a word on why: the arguments are not lost.
    deltas = decode(sse(message_start(), begun, MESSAGE_STOP))
    assert CallTotal(0, arguments=arguments) in deltas
    # Deltas that repeat them, or say something else, count alone.
    for fragments in ((arguments,), (arguments[:3], arguments[3:]), ('{"z":', " 9}")):
        pieces = [piece(0, "input_json_delta", partial_json=fragment) for fragment in ("", *fragments)]
        reply = reply_of(sse(*stream([begun, *pieces, stop(0)], reason="tool_use")))
        assert reply.calls == [CallReady(0, "toolu_1", "f", "".join(fragments))]


def test_text_and_citations_in_the_start_of_a_block() -> None:
    begun = start(0, "text", text="The sky", citations=[LOCATION])
    events = [begun, piece(0, "text_delta", text=" is blue."), stop(0)]
    message = reply_of(sse(*stream(events))).message()
    assert message.parts == (TextPart("The sky is blue.", (json.dumps(LOCATION).encode(),)),)
    assert turns_of(message) == [("assistant", [{"type": "text", "text": "The sky is blue.", "citations": [LOCATION]}])]


@pytest.mark.parametrize("where", range(1, 6))
def test_a_repeated_message_start_changes_nothing(where: int) -> None:
    events = stream(text(0, "Hello, ", "World!"))
    once = reply_of(sse(*events))
    for again in (message_start([{"type": "text", "text": "again"}]), {"type": "message_start"}):
        reply = reply_of(sse(*events[:where], again, *events[where:]))
        assert reply.message() == once.message()
        assert reply.usage == once.usage
        assert reply.error is None


def test_indexes_that_begin_anew_are_other_blocks() -> None:
    first = [*text(0, "one"), *tool(1, "toolu_1", "f", '{"a": 1}'), *whole(2, "server_tool_use", id="s1", input={})]
    second = [*text(0, "two"), *tool(1, "toolu_2", "f", '{"a": 2}'), *whole(2, "server_tool_use", id="s2", input={})]
    third = [*tool(0, "toolu_3", "f"), *text(2, "three")]
    reply = reply_of(sse(*stream(first, message_start(), second, message_start(), third, reason="tool_use")))
    assert [call.arguments for call in reply.calls] == ['{"a": 1}', '{"a": 2}', "{}"]
    ((_, content),) = turns_of(reply.message())[:1]
    assert [block.get("text") or block["id"] for block in content] == [
        "one", "toolu_1", "s1", "two", "toolu_2", "s2", "toolu_3", "three",
    ]  # fmt: skip


def test_blocks_inside_message_start_come_first() -> None:
    prefilled = message_start([{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}])
    events = [prefilled, *text(0, "x"), finish("tool_use"), MESSAGE_STOP]
    reply = reply_of(sse(*events))
    assert reply.calls == [CallReady(0, "toolu_1", "f", '{"a": 1}')]
    assert reply.message().parts[1] == TextPart("x")


@pytest.mark.parametrize("more", [{}, {"encrypted_content": None}, {"encrypted_content": "b3BhcXVl"}], ids=str)
def test_compaction_goes_back_with_all_that_came_with_it(more: Event) -> None:
    events = [
        start(0, "compaction", content=None, signature="c2ln"),
        piece(0, "compaction_delta", content="## Summary 🌊", **more),
        stop(0),
    ]
    reply = reply_of(sse(*stream(events, reason="compaction")))
    assert reply.finish_reason is FinishReason.PAUSE
    said = {name: value for name, value in more.items() if value is not None}
    assert turns_of(QUESTION, reply.message())[1] == (
        "assistant",
        [{"type": "compaction", "content": "## Summary 🌊", "signature": "c2ln", **said}],
    )


def test_compaction_that_failed_goes_back_as_it_is() -> None:
    for events in (whole(0, "compaction", content=None), [*whole(0, "compaction", content=None)[:1],
                   piece(0, "compaction_delta", content=None), stop(0)]):  # fmt: skip
        message = reply_of(sse(*stream(events))).message()
        assert turns_of(message) == [("assistant", [{"type": "compaction", "content": None}])]


def test_compaction_in_pieces_is_joined_and_keeps_what_each_piece_brought() -> None:
    pieces_ = [
        piece(0, "compaction_delta", content=f"{name}.", **{name: {"deep": [name]}}) for name in ("one", "two", "three")
    ]
    message = reply_of(sse(*stream([start(0, "compaction", content=None), *pieces_, stop(0)]))).message()
    brought = {name: {"deep": [name]} for name in ("one", "two", "three")}
    assert turns_of(message) == [("assistant", [{"type": "compaction", "content": "one.two.three.", **brought}])]


def test_compaction_that_cannot_be_kept_is_a_failure() -> None:
    digits = "9" * 5000
    delta = f'{{"type":"content_block_delta","index":0,"delta":{{"type":"compaction_delta","x":{digits}}}}}'
    assert failure(decode(sse(start(0, "compaction", content=None)) + raw_sse(("", delta)))).error.retryable


def test_fallback_and_unanswered_server_tools_are_kept() -> None:
    hop = {"from": {"model": "a"}, "to": {"model": "b"}, "trigger": {"type": "refusal", "category": None}}
    message = reply_of(sse(*stream(whole(0, "fallback", **hop), whole(1, "container_upload", file_id="f")))).message()
    assert turns_of(message)[0][1] == [{"type": "fallback", **hop}, {"type": "container_upload", "file_id": "f"}]


ODD: list[Event] = [
    {"type": "message_start", "message": {"model": None, "content": None, "usage": {"input_tokens": "17",
        "output_tokens": 1.0, "cache_read_input_tokens": True, "cache_creation_input_tokens": 1.5,
        "output_tokens_details": {"thinking_tokens": "x"}}}},
    {"type": "content_block_start", "index": "0", "content_block": {"type": "text", "text": None, "citations": None}},
    {"type": "content_block_delta", "index": "0", "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": None}},
    {"type": "content_block_delta", "index": "0",
     "delta": {"type": "citations_delta", "citation": {"type": "x_location"}}},
    {"type": "content_block_stop", "index": "0"},
    {"type": "content_block_start", "index": 1.0, "content_block": {"type": "tool_use", "id": 7, "name": "f",
        "input": None, "citations": "none"}},
    {"type": "content_block_delta", "index": "1", "delta": {"type": "input_json_delta", "partial_json": {"a": 1}}},
    {"type": "content_block_stop", "index": "1"},
    {"type": "content_block_start", "content_block": {"type": "text", "text": "no"}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " index"}},
    {"type": "content_block_stop"},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": "9"}},
    {"type": "message_delta", "delta": None, "usage": "none", "index": "x"},
    {"type": "message_stop", "message": "bye"},
]  # fmt: skip


def test_odd_servers_are_read_all_the_same() -> None:
    assert decode(sse(*ODD)) == [
        Started(""),
        UsageDelta(input_tokens=17, output_tokens=1),
        TextDelta("", 0),
        TextDelta("Hi", 0),
        TextDelta("", 0),
        CitationDelta(b'{"type": "x_location"}', 0),
        PartEnd(0),
        CallDelta(1, "7", "f", raw=json.dumps(ODD[6]["content_block"]).encode()),
        CallDelta(1, arguments='{"a": 1}'),
        CallEnd(1),
        TextDelta("no", 2),
        TextDelta(" index", 2),
        PartEnd(2),
        UsageDelta(output_tokens=9),
        FinishNotice(FinishReason.TOOL_CALLS, "tool_use"),
        End(),
        Eof(),
    ]
    assert decode(raw_sse(("message_start", '{"message": 7}')))[0] == Started("")


def test_a_surrogate_pair_cut_in_two_finds_itself_again() -> None:
    halves = [piece(0, "text_delta", text="sea \ud83c"), piece(0, "text_delta", text="\udf0a!")]
    message = reply_of(sse(*stream([start(0, "text", text=""), *halves, stop(0)]))).message()
    assert message.parts == (TextPart("sea 🌊!"),)
    # What goes back verbatim holds no half: the API would refuse it.
    block = whole(0, "web_search_tool_result", tool_use_id="s", content=[{"title": "half \ud83c"}])
    message = reply_of(sse(*stream(block))).message()
    assert turns_of(message)[0][1][0]["content"] == [{"title": "half \ufffd"}]


DEEP = '{"a":' * 100_000
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "data",
    [
        "{", "null", "[]", '"message_stop"', "{}{}", '{"type": NaN}', DEEP, "[" * 100_000, b"\xff", b'{"a":"\xff"}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xf0\x9f"}}',
        f'{{"type":"content_block_start","index":0,"content_block":{DEEP}}}',
        f'{{"type":"content_block_start","index":0,"content_block":{{"type":"tool_use","input":{{"a":{DIGITS}}}}}}}',
        '{"type":"content_block_start","index":0,"content_block":{"type":1,"input":{"a":1e999}}}',
    ],
    ids=range(14),
)  # fmt: skip
@pytest.mark.parametrize("name", ["", "message", "content_block_delta", "message_stop"])
def test_what_cannot_be_read_is_a_failure(data: str | bytes, name: str) -> None:
    failed = failure(decode(raw_sse((name, data)) + sse(*RICH))).error
    assert failed.code is ErrorCode.UPSTREAM_ERROR
    assert failed.retryable


def test_an_event_that_is_too_large_is_a_failure() -> None:
    decoder = AnthropicMessagesDecoder(max_event_bytes=100)
    deltas = [*decoder.feed(sse(PING)), *decoder.feed(sse(piece(0, "text_delta", text="x" * 100)) + sse(*RICH))]
    assert failure([*deltas, *decoder.eof()]).error.code is ErrorCode.UPSTREAM_ERROR


def test_a_stream_that_ends_inside_a_character_or_an_event_is_truncated() -> None:
    data = sse(message_start(), *text(0, "x")) + 'data: {"type": "message_stop", "x": "🌊'.encode()
    for cut in range(1, 5):
        assert reply_of(data[:-cut]).error == TRUNCATED
    assert decode(b"event: error\ndata: over")[-1] == Eof()


@given(st.data())
def test_any_cuts_give_the_same(data: st.DataObject) -> None:
    events = sse(*RICH, named=data.draw(st.booleans()))
    check_splits(events, [data.draw(chunkings(events))])


@given(st.lists(st.one_of(st.sampled_from([sse(event) for event in [*RICH, *PAUSED, *ODD]]), st.binary(max_size=20))))
def test_any_bytes_give_deltas_and_one_eof(parts: list[bytes]) -> None:
    data = b"".join(parts)
    deltas = check_splits(data, [byte_by_byte(data)])
    assert deltas.count(Eof()) == 1
    assert deltas[-1] == Eof()
    for ending in (Failure, End):
        assert all(not isinstance(delta, ending) for delta in deltas[:-2])


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["text", "tool_use"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> list[Event]:
    """A reply in which some member, anywhere, holds any JSON."""
    events = json.loads(json.dumps(draw(st.sampled_from([RICH, PAUSED, ODD]))))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(events))
        while True:
            name = draw(st.sampled_from(sorted(place)))
            if not isinstance(place[name], dict) or not place[name] or draw(st.booleans()):
                place[name] = draw(JSON)
                break
            place = place[name]
    return list(events)


@given(mutated())
def test_any_json_in_any_place_gives_deltas_and_one_eof(events: list[Event]) -> None:
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    deltas = decode(data)
    assert deltas.count(Eof()) == 1
    # Whatever came of it can be put into JSON again.
    for delta in deltas:
        for raw in (getattr(delta, "raw", b""),):
            if isinstance(raw, bytes) and raw:
                json.loads(raw)


# -- encoding ---------------------------------------------------------------------------------------------------------

SPEC = ToolSpec("weather", "Tells the weather.", Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))
PIXEL = base64.b64encode(b"\x89PNG").decode()
RICH_HISTORY: tuple[Message, ...] = (
    SystemMessage("Be brief."),
    UserMessage((TextPart("What is this?"), ImagePart("https://example.org/a.png"))),
    reply_of(sse(*RICH)).message(),
    ToolMessage("toolu_1", "weather", "sunny"),
    ToolMessage("toolu_2", "now", "the clock is broken", is_error=True),
    UserMessage((TextPart("And this?"), ImagePart(f"data:image/png;base64,{PIXEL}"))),
    SystemMessage("Be briefer."),
    reply_of(sse(*PAUSED)).message(),
)


BODY: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(MessageCreateParamsStreaming)
BETA_MESSAGE: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(BetaMessageParam)


def exhaust(value: object) -> None:
    """Go through all of `value`: pydantic checks the SDK's iterables only while somebody iterates."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            exhaust(item)


def test_the_body_is_what_the_official_types_describe() -> None:
    body = body_of(*RICH_HISTORY, tools=(SPEC,), max_output_tokens=100, temperature=0.5)
    # Client tools and text are on the stable API, some of the provider's own blocks on the beta one only.
    exhaust(BODY.validate_python(body))
    for message in body["messages"]:
        exhaust(BETA_MESSAGE.validate_python(message))
    assert {name: body[name] for name in body if name != "messages"} == {
        "model": "claude-x",
        "max_tokens": 100,
        "stream": True,
        "system": "Be brief.\n\nBe briefer.",
        "temperature": 0.5,
        "tools": [
            {
                "name": "weather",
                "description": "Tells the weather.",
                "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
            }
        ],
    }
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [block["type"] for block in body["messages"][2]["content"]] == [
        "tool_result", "tool_result", "text", "image",
    ]  # fmt: skip


def test_the_official_types_can_refuse() -> None:
    body = body_of(QUESTION)
    body["messages"][0]["content"] = [{"type": "text"}]
    with pytest.raises(pydantic.ValidationError):
        exhaust(BODY.validate_python(body))
    with pytest.raises(pydantic.ValidationError):
        exhaust(BETA_MESSAGE.validate_python(body["messages"][0]))


def test_what_is_not_asked_for_is_not_sent() -> None:
    assert body_of(QUESTION) == {
        "model": "claude-x",
        "max_tokens": 4096,
        "stream": True,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]}],
    }
    assert json.loads(encode_request(Request("m", (QUESTION,)), default_max_tokens=9))["max_tokens"] == 9
    nameless = ToolSpec("f", "", Raw(b'{"type":"object"}'))
    assert body_of(QUESTION, tools=(nameless,), temperature=0.0)["tools"] == [
        {"name": "f", "input_schema": {"type": "object"}}
    ]
    assert body_of(QUESTION, temperature=0.0)["temperature"] == 0.0


def test_vertex_has_the_version_in_the_body_and_the_model_elsewhere() -> None:
    request = Request("m", (QUESTION,), max_output_tokens=7)
    plain, vertex = json.loads(encode_request(request)), json.loads(encode_vertex_request(request, version="v1"))
    assert vertex == {name: value for name, value in plain.items() if name != "model"} | {"anthropic_version": "v1"}


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
IDS = st.sampled_from(["toolu_1", "toolu_2", "call:3", "call.3"])
PARTS = st.one_of(
    TEXTS.map(TextPart),
    TEXTS.map(RefusalPart),
    st.builds(ReasoningPart, TEXTS, TEXTS),
    st.builds(CallPart, IDS, st.just("f"), st.sampled_from(["{}", '{"a": [1]}', '{"a', "[1]", "", " "])),
    st.builds(ProviderPart, st.just("server_tool_use"), st.just(b'{"type": "server_tool_use", "input": {}}'), TEXTS),
)
MESSAGES = st.one_of(
    TEXTS.map(SystemMessage),
    st.lists(TEXTS.map(TextPart), max_size=2).map(lambda parts: UserMessage(tuple(parts))),
    st.lists(PARTS, max_size=3).map(lambda parts: AssistantMessage(tuple(parts))),
    st.builds(ToolMessage, IDS, st.just("f"), TEXTS, st.booleans()),
)


@given(st.lists(MESSAGES, max_size=8))
def test_any_history_keeps_the_rules_of_the_api(messages: list[Message]) -> None:
    turns = body_of(*messages)["messages"]
    roles = [turn["role"] for turn in turns]
    assert all(a != b for a, b in pairwise(roles))
    called: set[str] = set()
    answered: set[str] = set()
    for turn in turns:
        blocks = turn["content"]
        assert blocks
        kinds = [block["type"] for block in blocks]
        assert kinds == sorted(kinds, key=lambda kind: kind != "tool_result") or turn["role"] == "assistant"
        for block in blocks:
            if block["type"] == "text":
                assert block["text"].strip()
            elif block["type"] == "thinking":
                assert block["signature"]
            elif block["type"] == "tool_use":
                assert isinstance(block["input"], dict)
                called.add(block["id"])
            elif block["type"] == "tool_result":
                assert block.get("content") or not block.get("is_error")
                answered.add(block["tool_use_id"])
    assert called <= answered
    if turns and roles[-1] == "assistant" and turns[-1]["content"][-1]["type"] == "text":
        final = turns[-1]["content"][-1]["text"]
        assert final == final.rstrip()


def test_results_of_a_step_come_first_in_one_message_and_in_order() -> None:
    calls = AssistantMessage(tuple(CallPart(f"c{i}", "f", "{}") for i in range(3)))
    got = turns_of(
        QUESTION, calls, ToolMessage("c2", "f", "two"), UserMessage((TextPart("and?"),)), ToolMessage("c0", "f", "zero")
    )
    assert got[2] == (
        "user",
        [
            {"type": "tool_result", "tool_use_id": "c1", "content": INTERRUPTED, "is_error": True},
            {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
            {"type": "tool_result", "tool_use_id": "c0", "content": "zero"},
            {"type": "text", "text": "and?"},
        ],
    )


def test_results_without_words() -> None:
    calls = AssistantMessage((CallPart("a", "f", "{}"), CallPart("b", "f", "{}")))
    results = turns_of(calls, ToolMessage("a", "f", " \n"), ToolMessage("b", "f", "", is_error=True))[1][1]
    assert results[0] == {"type": "tool_result", "tool_use_id": "a"}
    assert results[1]["is_error"]
    assert results[1]["content"]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", {}),
        (" ", {}),
        ('{"a": 1}', {"a": 1}),
        ('{"a', {"INVALID_JSON": '{"a'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ("null", {"INVALID_JSON": "null"}),
        ("[" * 100_000, {"INVALID_JSON": "[" * 100_000}),
    ],
    ids=range(7),
)
def test_arguments_are_sent_as_an_object(written: str, sent: dict[str, Any]) -> None:
    for raw in (b"", b'{"type": "tool_use", "caller": {"type": "direct"}}', b'{"type": "function_call"}', b"[]"):
        block = turns_of(AssistantMessage((CallPart("toolu_1", "f", written, raw),)))[0][1][0]
        assert block.pop("caller", None) == ({"type": "direct"} if b"caller" in raw else None)
        assert block == {"type": "tool_use", "id": "toolu_1", "name": "f", "input": sent}


def test_arguments_keep_every_digit() -> None:
    written = '{"n": 12345678901234567890123456789, "f": 1.10, "n": 2}'
    body = encode_request(Request("m", (AssistantMessage((CallPart("a", "f", written),)),)))
    assert b'"input":' + written.encode() in body


def test_ids_of_other_providers_are_spelled_in_the_alphabet_of_this_one_and_stay_different() -> None:
    ids = ["functions.f:0", "functions:f.0", "functions.f:1", "toolu_1", "é"]
    calls = AssistantMessage(tuple(CallPart(id_, "f", "{}") for id_ in ids))
    turns = turns_of(calls, *(ToolMessage(id_, "f", "x") for id_ in ids))
    sent = [block["id"] for block in turns[0][1]]
    assert len(set(sent)) == len(ids)
    assert sent[3] == "toolu_1"
    assert all(id_.isascii() and id_.replace("_", "").replace("-", "").isalnum() for id_ in sent)
    assert [block["tool_use_id"] for block in turns[1][1]] == sent


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://example.org/a.png", {"type": "url", "url": "https://example.org/a.png"}),
        ("data:image/png;base64,iVBO", {"type": "base64", "media_type": "image/png", "data": "iVBO"}),
        ("DATA:IMAGE/JPEG;x=y;BASE64,/9j+", {"type": "base64", "media_type": "image/jpeg", "data": "/9j+"}),
        ("data:image/svg+xml,%3Csvg%3E", {"type": "url", "url": "data:image/svg+xml,%3Csvg%3E"}),
    ],
)
def test_images(url: str, source: dict[str, str]) -> None:
    assert turns_of(UserMessage((ImagePart(url),))) == [("user", [{"type": "image", "source": source}])]


def test_only_the_end_of_a_final_assistant_text_is_trimmed() -> None:
    words = AssistantMessage((TextPart("a \n"), TextPart(" b \n"), TextPart(" ")))
    assert turns_of(words) == [("assistant", [{"type": "text", "text": "a \n"}, {"type": "text", "text": " b"}])]
    assert turns_of(words, QUESTION)[0][1][1] == {"type": "text", "text": " b \n"}


def test_parts_of_other_providers_stay_at_home() -> None:
    foreign = [
        ProviderPart(kind, json.dumps({"type": kind, "id": "x"}).encode())
        for kind in ("web_search_call", "reasoning", "mcp_list_tools", "mcp_approval_request", "computer_call_output")
    ]
    compacted = ProviderPart("compaction", b'{"type":"compaction","encrypted_content":"x"}')
    broken = ProviderPart("server_tool_use", b"[]")
    cited = TextPart("x", (b'{"type":"url_citation","url":"https://example.org/"}', b"nonsense"))
    message = AssistantMessage((*foreign, compacted, broken, cited, RefusalPart("No.")))
    assert turns_of(message) == [("assistant", [{"type": "text", "text": "x"}, {"type": "text", "text": "No."}])]


def test_a_server_tool_with_half_its_input_goes_back_as_it_began() -> None:
    raw = b'{"type":"server_tool_use","id":"s","name":"web_search","input":{}}'
    for fragment in ('{"que', "[]", ""):
        part = ProviderPart("server_tool_use", raw, fragment)
        assert encode_request(Request("m", (AssistantMessage((part,)),))).count(raw) == 1


# -- recorded streams -------------------------------------------------------------------------------------------------


def test_recorded_streams_give_what_was_expected() -> None:
    for recorded in streams("anthropic"):
        reply = reply_of(recorded.read())
        parts = reply.message().parts
        usage = reply.usage
        assert usage is not None
        names = {TextPart: "text", ReasoningPart: "thinking", CallPart: "tool_use"}
        got = {
            "text": "".join(part.text for part in parts if isinstance(part, TextPart)),
            "reasoning": "".join(part.text for part in parts if isinstance(part, ReasoningPart)),
            "tool_calls": [
                {"id": part.call_id, "name": part.name, "arguments": json.loads(part.arguments)}
                for part in parts
                if isinstance(part, CallPart)
            ],
            "finish_reason": reply.raw_finish_reason,
            "usage": {"input": usage.input_tokens, "output": usage.output_tokens},
            "blocks": [part.kind if isinstance(part, ProviderPart) else names[type(part)] for part in parts],
            "signatures": sum(1 for part in parts if isinstance(part, ReasoningPart) and part.signature),
            "citations": sum(len(part.citations) for part in parts if isinstance(part, TextPart)),
        }
        assert reply.error is None, recorded.name
        assert got == {name: recorded.expected[name] for name in got}, recorded.name


@pytest.mark.once
def test_recorded_streams_may_be_cut_anywhere() -> None:
    for recorded in streams("anthropic"):
        data = recorded.read()
        cuts = [pieces(data, range(step, len(data), step)) for step in (7, 997)]
        if len(data) < 3000:
            cuts += [byte_by_byte(data), *splits2(data, near_boundaries(data))]
        check_splits(data, cuts)


def blocks_of(data: bytes) -> list[Event]:
    """The content blocks of a stream, put together without any of our code."""
    blocks: list[Event] = []
    inputs: dict[int, str] = {}
    for line in data.splitlines():
        event = json.loads(line[6:]) if line.startswith(b"data: {") else {}
        if event.get("type") == "content_block_start":
            blocks.append(event["content_block"])
        elif event.get("type") == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            for name in ("text", "thinking", "signature"):
                if name in delta:
                    block[name] = block.get(name, "") + delta[name]
            if "partial_json" in delta:
                inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
            if "citation" in delta:
                block["citations"] = [*(block.get("citations") or []), delta["citation"]]
            if delta["type"] == "compaction_delta":
                block["content"] = delta["content"]
    for index, words in inputs.items():
        if words:
            blocks[index]["input"] = json.loads(words)
    return blocks


def test_recorded_replies_go_back_as_they_came() -> None:
    for recorded in streams("anthropic"):
        data = recorded.read()
        expected = []
        for block in blocks_of(data):
            if not block.get("citations", True):
                del block["citations"]
            if block.get("text", "x").strip() and block.get("signature", "x"):
                expected.append(block)
        results = [block for block in expected if block["type"] == "tool_use"]
        assert turns_of(QUESTION, reply_of(data).message(), QUESTION)[1:2] == (
            [("assistant", expected)] if expected else []
        ), recorded.name
        assert len(results) == len(recorded.expected["tool_calls"])
