"""The Chat Completions wire: streamed bytes to replies, histories to request bodies, and both in a circle."""

import json
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from sluicegate.machine.deltas import (
    CallDelta,
    CallTotal,
    CitationDelta,
    Delta,
    End,
    Eof,
    Failure,
    Finish,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    Usage,
    UsageDelta,
)
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.events import CallBroken, PartDelta, PartKind
from sluicegate.machine.history import (
    INTERRUPTED,
    AssistantMessage,
    CallPart,
    ImagePart,
    Part,
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
from sluicegate.machine.reply import TRUNCATED
from sluicegate.wire.upstream.openai_chat import OpenAIChatDecoder
from sluicegate.wire.upstream.openai_chat_request import encode_request
from sluicegate.wire.upstream.profiles import AUTO, CUMULATIVE, MINIMAL, OPENAI, PROFILES, Profile
from tests.laws import chunkings, decode, near_boundaries, splits2
from tests.shared import streams
from tests.wire.fold import Outcome, checked, feed, finish, frames, outcome

Json = dict[str, Any]


def chunk(delta: object = None, finish_reason: object = None, **top: object) -> Json:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "model": "m", "choices": [choice], **top}


def text(content: object) -> Json:
    return chunk({"content": content})


def calls(*entries: object) -> Json:
    return chunk({"tool_calls": list(entries)})


def call(index: object = None, call_id: object = None, name: object = None, arguments: object = None) -> Json:
    """An entry of `tool_calls`, without the fields that are None."""
    function = {key: value for key, value in [("name", name), ("arguments", arguments)] if value is not None}
    entry = {"index": index, "id": call_id, "function": function or None}
    return {key: value for key, value in entry.items() if value is not None}


STOP = chunk(None, "stop")
CALLED = chunk(None, "tool_calls")
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def check(*datas: object, done: bool = True, profile: Profile = AUTO) -> Outcome:
    """What a stream of `datas` comes to, its laws checked."""
    return checked(frames(*datas, done=done), lambda: OpenAIChatDecoder(profile))


def deltas(*datas: object, done: bool = True, profile: Profile = AUTO) -> list[Delta]:
    return decode(OpenAIChatDecoder(profile), feed, finish, [frames(*datas, done=done)])


# The named cases: what goes wrong in the wild.


@pytest.mark.parametrize("tail", [b"data: [DONE]\n\n", b'data: {"error":{"type":"server_error"}}\n\n', b"garbage\n\n"])
def test_case_10_nothing_follows_done(tail: bytes) -> None:
    data = frames(text("hi"), STOP) + tail + frames(text("more"))
    found = checked(data, OpenAIChatDecoder)
    assert (found.text, found.finish, found.error) == ("hi", FinishReason.STOP, None)
    assert decode(OpenAIChatDecoder(), feed, finish, [data])[-2:] == [End(), Eof()]


def test_case_10_done_after_an_error_changes_nothing() -> None:
    found = check(text("hi"), {"error": {"type": "server_error"}})
    assert found.error is not None
    assert found.finish is None


def test_case_10_done_needs_no_blank_line_and_may_have_spaces() -> None:
    for done in (b"data: [DONE]", b"data:[DONE]\n", b"data:  [DONE] \r\n"):
        found = checked(frames(text("hi"), done=False) + done, OpenAIChatDecoder)
        assert (found.text, found.finish, found.error) == ("hi", FinishReason.STOP, None)


def test_case_11_later_deltas_without_an_id_go_by_index() -> None:
    found = check(
        calls(call(0, "c1", "f", "")), calls(call(0, None, None, '{"a"')), calls(call(0, arguments=":1}")), CALLED
    )
    assert found.calls == [("c1", "f", '{"a":1}')]


def test_case_12_empty_ids_and_names_say_nothing() -> None:
    found = check(
        calls(call(0, "c1", "f", '{"a"')),
        calls(call(0, "", "", ":1}")),
        calls(call(1, "c2", "g", "")),
        calls(call(1, "", "", "")),
        chunk(None, ""),
        CALLED,
    )
    assert found.calls == [("c1", "f", '{"a":1}'), ("c2", "g", "{}")]


@pytest.mark.parametrize(
    ("call_id", "expected"), [(None, "call_0"), ("", "call_0"), (7, "7"), (7.0, "7.0"), (True, "call_0")]
)
def test_case_13_missing_and_odd_ids(call_id: object, expected: str) -> None:
    found = check(calls(call("0", call_id, "f", "{")), calls(call(0, call_id, None, "}")), CALLED)
    assert found.calls == [(expected, "f", "{}")]


def test_case_14_repeated_names_are_said_once() -> None:
    found = check(*(calls(call(0, "c1", "final_result", piece)) for piece in ('{"a"', ":", "1}")), CALLED)
    assert found.calls == [("c1", "final_result", '{"a":1}')]


def test_case_15_a_new_id_on_the_same_index_is_a_new_call() -> None:
    found = check(
        calls(call(0, "c1", "f", '{"a":1}')),
        calls(call(0, "c2", "f", '{"a":')),
        calls(call(0, None, None, "2}")),
        calls(call(0, "c3", "g", "{}")),
        CALLED,
    )
    assert found.calls == [("c1", "f", '{"a":1}'), ("c2", "f", '{"a":2}'), ("c3", "g", "{}")]


@pytest.mark.parametrize("ids", [("c1", "c2", "c3"), (None, None, None), ("", "", "")])
def test_case_16_no_index(ids: tuple[str | None, ...]) -> None:
    found = check(
        calls(call(None, ids[0], "f", '{"a":')),
        calls(call(None, None, None, "1}")),
        calls(call(None, ids[1], "f", "{}"), call(None, ids[2], "g")),
        CALLED,
    )
    made_up = ["call_0", "call_1", "call_2"]
    assert found.calls == [
        (call_id or made, name, arguments)
        for call_id, made, (name, arguments) in zip(
            ids, made_up, [("f", '{"a":1}'), ("f", "{}"), ("g", "{}")], strict=True
        )
    ]


def test_case_16_null_index_is_no_index() -> None:
    entry = {"index": None, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
    assert check(calls(entry), CALLED).calls == [("c1", "f", "{}")]


def test_case_17_interleaved_calls_keep_apart() -> None:
    found = check(
        calls(call(0, "c1", "f", "")),
        calls(call(1, "c2", "g", "")),
        *(calls(call(index, None, None, piece)) for piece in ('{"a"', ":", '"x"', "}") for index in (1, 0)),
        CALLED,
    )
    assert found.calls == [("c1", "f", '{"a":"x"}'), ("c2", "g", '{"a":"x"}')]


def test_case_18_several_calls_in_one_chunk() -> None:
    found = check(
        calls(call(0, "c1", "f", "{"), call(1, "c2", "g", "{"), call(0, arguments="}")),
        chunk({"tool_calls": [call(1, arguments="}")]}, "tool_calls"),
    )
    assert found.calls == [("c1", "f", "{}"), ("c2", "g", "{}")]


@pytest.mark.parametrize("arguments", ['{"a":null}', {"a": None}])
def test_case_19_whole_arguments_at_once_as_text_or_object(arguments: object) -> None:
    found = check(chunk({"tool_calls": [call(0, "c1", "f", arguments)]}, "tool_calls"))
    assert found.calls == [("c1", "f", '{"a":null}')]


def test_case_19_null_arguments_are_none() -> None:
    null = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": None}}
    assert check(calls(null), CALLED).calls == [("c1", "f", "{}")]
    assert check(calls(null), calls(call(0, arguments='{"a":1}')), CALLED).calls == [("c1", "f", '{"a":1}')]


@pytest.mark.parametrize("profile", [AUTO, CUMULATIVE])
def test_case_20_cumulative_arguments(profile: Profile) -> None:
    whole = '{"city":"Paris, France"}'
    sent = [calls(call(0, "c1", "f", whole[:end])) for end in (0, 1, 9, 9, len(whole), len(whole))]
    found = check(*sent, CALLED, profile=profile)
    assert found.calls == [("c1", "f", whole)]


def test_case_20_the_profile_shows_each_character_once() -> None:
    found = check(*(calls(call(0, "c1", "f", '{"a":1}'[:end])) for end in range(8)), CALLED, profile=CUMULATIVE)
    shown = [event.text for event in found.events if isinstance(event, PartDelta)]
    assert shown == ['{"a":1}']


@pytest.mark.parametrize("arguments", [None, "", " \n"])
def test_case_21_no_arguments_are_an_empty_object(arguments: str | None) -> None:
    assert check(calls(call(0, "c1", "f", arguments)), CALLED).calls == [("c1", "f", "{}")]


def test_case_23_arguments_are_passed_on_raw_piece_by_piece() -> None:
    pieces = ['{"a', '": [', "1, ", '"\\u00', 'e9", ', "nul", "l]", "}"]
    sent = [calls(call(0, "c1", "f", "")), *(calls(call(0, arguments=piece)) for piece in pieces)]
    said = [delta.arguments for delta in deltas(*sent) if isinstance(delta, CallDelta)]
    assert said == ["", *pieces]
    assert check(*sent, CALLED).calls == [("c1", "f", "".join(pieces))]


def test_case_24_nested_arrays_keep_every_bracket() -> None:
    whole = '{"rows":[{"a":[[{"b":[]}]]},[{"c":1}]]}'
    for size in (1, 2, 3, 9):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        sent = [calls(call(0, "c1", "f")), *(calls(call(0, arguments=piece)) for piece in pieces), CALLED]
        found = check(*sent) if size == 9 else outcome(frames(*sent), OpenAIChatDecoder())
        assert found.calls == [("c1", "f", whole)]


def test_case_29_text_after_a_call_is_kept() -> None:
    found = check(text("before"), calls(call(0, "c1", "f", "{}")), text("after"), CALLED)
    assert found.text == "beforeafter"
    assert found.calls == [("c1", "f", "{}")]
    assert found.message is not None
    assert [type(part) for part in found.message.parts] == [TextPart, CallPart, TextPart]


@st.composite
def spoken(draw: st.DrawFn) -> tuple[list[Json], str, str, str]:
    """One reply cut into deltas of any size, several fields to a chunk, and what it says."""
    reasoning, said, arguments = (
        draw(st.text(max_size=12)),
        draw(st.text(max_size=12)),
        json.dumps(draw(st.text(max_size=8))),
    )
    arguments = '{"a":' + arguments + "}"
    entries: list[tuple[str, str]] = []
    for field, whole in (("reasoning", reasoning), ("content", said), ("arguments", arguments)):
        cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
        entries += [(field, whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    out: list[Json] = []
    for field, piece in entries:
        delta = {"tool_calls": [call(0, "c1", "f", piece)]} if field == "arguments" else {field: piece}
        previous = out[-1]["choices"][0]["delta"] if out else {}
        if out and field not in previous and "tool_calls" not in previous and draw(st.booleans()):
            previous.update(delta)
        else:
            out.append(chunk(delta))
    return out, reasoning, said, arguments


@given(spoken(), st.data())
def test_case_30_neither_tokens_nor_reads_matter(sent: tuple[list[Json], str, str, str], data: st.DataObject) -> None:
    chunks, reasoning, said, arguments = sent
    stream = frames(*chunks, CALLED, {"choices": [], "usage": USAGE})
    found = checked(stream, OpenAIChatDecoder, chunkings=[data.draw(chunkings(stream))])
    assert (found.reasoning, found.text, found.calls) == (reasoning, said, [("c1", "f", arguments)])


def test_case_31_white_space_before_and_after_calls() -> None:
    found = check(
        text("\n\n"), calls(call(0, "c1", "f", "{}")), text(" "), calls(call(1, "c2", "g", "{}")), text(""), CALLED
    )
    assert found.calls == [("c1", "f", "{}"), ("c2", "g", "{}")]
    assert found.text == "\n\n "


def test_case_31_empty_text_opens_and_closes_nothing() -> None:
    sent = [chunk({"content": "", "reasoning_content": piece, "refusal": ""}) for piece in "abc"]
    found = check(*sent, chunk({"content": "x", "reasoning_content": "", "reasoning": None}), STOP)
    assert found.message is not None
    assert [type(part) for part in found.message.parts] == [ReasoningPart, TextPart]


def test_case_32_calls_after_the_finish_reason_are_ignored() -> None:
    found = check(text("done"), STOP, calls(call(0, "c1", "f", "{}")), CALLED)
    assert (found.text, found.calls, found.finish) == ("done", [], FinishReason.STOP)


def test_case_33_stop_though_calls_were_made() -> None:
    found = check(calls(call(0, "c1", "f", "{}")), STOP)
    assert (found.finish, found.raw_finish) == (FinishReason.TOOL_CALLS, "stop")


@pytest.mark.parametrize("arguments", ['{"a":1', '{"a":"', "{", '{"a":1}, {"b'])
@pytest.mark.parametrize("reason", ["tool_calls", "length", "stop"])
def test_case_34_half_arguments_are_never_run(arguments: str, reason: str) -> None:
    found = check(calls(call(0, "c1", "f", arguments)), chunk(None, reason))
    assert (found.calls, found.broken, found.finish) == ([], [("c1", "f", arguments)], FinishReason.LENGTH)


def test_case_35_a_truncated_call_is_no_error() -> None:
    found = check(text("hm"), calls(call(0, "c1", "f", "{}"), call(1, "c2", "g", '{"a')), chunk(None, "length"))
    assert found.error is None
    assert found.calls == [("c1", "f", "{}")]
    assert [event.call_id for event in found.events if isinstance(event, CallBroken)] == ["c2"]


def test_case_36_done_without_a_finish_reason() -> None:
    assert check(text("hi")).finish is FinishReason.STOP
    assert check(text("hi"), chunk(None, "")).finish is FinishReason.STOP
    for sent in ([], [chunk({"role": "assistant"})], [calls(call(0, "c1", "f", '{"a'))]):
        error = check(*sent).error
        assert error is not None
        assert error.code is ErrorCode.UPSTREAM_ERROR
    only_reasoning = check(chunk({"reasoning": "hm"}))
    assert only_reasoning.reasoning == "hm"


@pytest.mark.parametrize(
    "tail", [b"", b"\n", b"data: {", b'data: {"choices":[{"delta":{"content":"\xc3', b"data: [DON"]
)
def test_case_37_an_end_without_either_is_truncation(tail: bytes) -> None:
    found = checked(frames(text("hi"), calls(call(0, "c1", "f", '{"a"')), done=False) + tail, OpenAIChatDecoder)
    assert found.error == TRUNCATED
    assert (found.text, found.calls) == ("hi", [])
    assert checked(tail, OpenAIChatDecoder).error == TRUNCATED


@pytest.mark.parametrize("tail", [b"", b"data: {", b'data: {"usage":{"prompt_tokens":\xc3'])
def test_case_37_after_the_finish_reason_the_end_may_come_any_time(tail: bytes) -> None:
    found = checked(frames(text("hi"), STOP, done=False) + tail, OpenAIChatDecoder)
    assert (found.text, found.finish, found.error) == ("hi", FinishReason.STOP, None)


def test_case_37_a_last_event_without_its_blank_line_counts() -> None:
    data = frames(text("hi"), STOP, done=False)
    for cut in (1, 2):
        assert checked(data[:-cut], OpenAIChatDecoder).finish is FinishReason.STOP


@pytest.mark.parametrize("choices", [[], None, [None], "absent"])
def test_case_38_usage_without_a_choice(choices: object) -> None:
    last = {"usage": USAGE} if choices == "absent" else {"choices": choices, "usage": USAGE}
    found = check(text("hi"), STOP, last)
    assert found.usage == Usage(input_tokens=9, output_tokens=5)
    assert (found.text, found.finish) == ("hi", FinishReason.STOP)


def test_case_39_usage_counts_once_whatever_choice_comes_with_it() -> None:
    sent = [
        chunk({"content": word}, usage={"prompt_tokens": 9, "completion_tokens": n}) for n, word in enumerate("abc", 1)
    ]
    fake = chunk({"content": "", "role": "assistant"}, None, usage=USAGE)
    found = check(*sent, chunk(None, "stop", usage=None), fake, fake, chunk(None, "stop", usage=USAGE))
    assert found.usage == Usage(input_tokens=9, output_tokens=5)
    assert (found.text, found.finish) == ("abc", FinishReason.STOP)


def test_case_41_null_content_with_reasoning() -> None:
    sent = [chunk({"content": None, "reasoning_content": piece}) for piece in ("Let me ", "think.")]
    found = check(*sent, chunk({"content": "4", "reasoning_content": None}), chunk({"content": None}, "stop"))
    assert (found.reasoning, found.text) == ("Let me think.", "4")


ERROR = {"message": "secret sk-123", "type": "server_error", "code": None, "param": None}


@pytest.mark.parametrize(
    ("data", "code", "retryable"),
    [
        ({"error": ERROR}, ErrorCode.UPSTREAM_ERROR, True),
        ({"error": ERROR, "choices": []}, ErrorCode.UPSTREAM_ERROR, True),
        (
            {"error": ERROR, "choices": [{"delta": {"content": "no"}, "finish_reason": "error"}]},
            ErrorCode.UPSTREAM_ERROR,
            True,
        ),
        ({"error": {"code": 429, "message": "secret"}, "id": 1, "choices": "none"}, ErrorCode.RATE_LIMITED, True),
        (
            {"error": {"message": "secret", "code": "rate_limit_exceeded", "type": "tokens"}},
            ErrorCode.RATE_LIMITED,
            True,
        ),
        ({"error": {"type": "insufficient_quota", "status_code": 429}}, ErrorCode.RATE_LIMITED, False),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "code": 429}}, ErrorCode.RATE_LIMITED, True),
        ([{"error": {"status": "UNAVAILABLE", "code": 503}}], ErrorCode.UPSTREAM_ERROR, True),
        (
            {"error": {"type": "invalid_request_error", "message": "maximum context length is 8192"}},
            ErrorCode.CONTEXT_LENGTH,
            False,
        ),
        ({"error": "secret: the context window is full"}, ErrorCode.CONTEXT_LENGTH, False),
        ({"error": [{"type": "timeout"}]}, ErrorCode.TIMEOUT, True),
        ({"error": 401}, ErrorCode.UPSTREAM_ERROR, False),
        ({"error": True}, ErrorCode.UPSTREAM_ERROR, True),
        (
            {"object": "error", "message": "secret", "type": "BadRequestError", "code": 400},
            ErrorCode.UPSTREAM_ERROR,
            False,
        ),
        ({"message": "secret", "status": 503}, ErrorCode.UPSTREAM_ERROR, True),
        ({"detail": "secret"}, ErrorCode.UPSTREAM_ERROR, True),
        (b'{"error":{"message":"\\ud83d"}}', ErrorCode.UPSTREAM_ERROR, True),
        (b'{"error":{"message":"\xff"}}', ErrorCode.UPSTREAM_ERROR, True),
        (chunk(None, "error"), ErrorCode.UPSTREAM_ERROR, True),
        (
            chunk(None, "content_filter_error: x") | {"error": {"code": "content_filter"}},
            ErrorCode.CONTENT_FILTER,
            False,
        ),
        (
            {"choices": [{"delta": {}, "error": {"code": 502, "message": "secret"}}, {"delta": {}}]},
            ErrorCode.UPSTREAM_ERROR,
            True,
        ),
    ],
)
def test_case_43_errors_within_a_good_response(data: object, code: ErrorCode, retryable: bool) -> None:
    for before in ([], [text("hi")]):
        found = check(*before, data, text("never"), STOP)
        assert found.error is not None
        assert (found.error.code, found.error.retryable) == (code, retryable)
        assert "secret" not in found.error.message + found.error.raw
        assert found.text == "hi" * len(before)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (
            b'{"error":{"type":"invalid_request_error","code":"tool_use_failed","status_code":400}}',
            ErrorCode.UPSTREAM_ERROR,
        ),
        (b'{"type":"rate_limit_error","message":"slow"}', ErrorCode.RATE_LIMITED),
        (b'{"message":"too slow","code":"timeout"}', ErrorCode.TIMEOUT),
        (b"prompt is too long", ErrorCode.CONTEXT_LENGTH),
        (b"{}", ErrorCode.UPSTREAM_ERROR),
        (b'{"error":null}', ErrorCode.UPSTREAM_ERROR),
        (b"\xff", ErrorCode.UPSTREAM_ERROR),
    ],
)
def test_case_43_error_events(data: bytes, code: ErrorCode) -> None:
    stream = frames(text("hi"), done=False) + b"event: error\ndata: " + data + b"\n\n" + frames(text("never"), STOP)
    found = checked(stream, OpenAIChatDecoder)
    assert found.error is not None
    assert found.error.code is code
    assert found.text == "hi"
    assert isinstance(decode(OpenAIChatDecoder(), feed, finish, [stream])[-2], Failure)


@pytest.mark.parametrize("nothing", [None, "", {}, [], False])
def test_case_43_an_empty_error_field_is_no_error(nothing: object) -> None:
    found = check(chunk({"content": "hi"}, error=nothing), STOP)
    assert (found.text, found.error) == ("hi", None)


# The wire beyond the cases.


def test_a_plain_reply_delta_by_delta() -> None:
    sent = [
        chunk({"role": "assistant", "content": ""}),
        text("Hel"),
        text("lo"),
        chunk(None, "stop"),
        {"choices": [], "usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}}},
    ]
    assert deltas(*sent) == [
        Started("m"),
        TextDelta("Hel"),
        TextDelta("lo"),
        Finish(FinishReason.STOP, "stop"),
        UsageDelta(9, 5, 4, 2),
        End(),
        Eof(),
    ]


def test_the_order_within_one_chunk() -> None:
    delta = {
        "function_call": {"name": "old", "arguments": "{}"},
        "tool_calls": [call(0, "c1", "f", "{}")],
        "refusal": "no",
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://x"}}],
        "content": "said",
        "reasoning": "thought",
    }
    assert deltas({"usage": USAGE} | chunk(delta, "tool_calls"), done=False) == [
        Started("m"),
        ReasoningDelta("thought", raw=b'"reasoning"'),
        TextDelta("said"),
        CitationDelta(b'{"type":"url_citation","url_citation":{"url":"https://x"}}'),
        RefusalDelta("no"),
        CallDelta(0, "c1", "f", "{}"),
        CallDelta("function_call", "", "old", "{}"),
        Finish(FinishReason.TOOL_CALLS, "tool_calls"),
        UsageDelta(9, 5),
        Eof(),
    ]


def test_started_names_the_model_as_soon_as_it_is_known() -> None:
    azure = {"choices": [], "model": "", "prompt_filter_results": []}
    said = deltas(azure, text("a"), chunk({"content": "b"}, model="other"))
    assert [delta for delta in said if isinstance(delta, Started)] == [Started(""), Started("m")]


def test_only_the_first_choice_is_decoded() -> None:
    both = {"choices": [{"index": 1, "delta": {"content": "B"}}, {"index": 0, "delta": {"content": "A"}}]}
    ends = [
        {"choices": [{"index": index, "delta": {}, "finish_reason": word}]}
        for index, word in [(1, "length"), (0, "stop")]
    ]
    bare = {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}
    found = check(both, bare, *ends)
    assert (found.text, found.raw_finish) == ("Aa", "stop")


def test_comments_pings_and_unknown_things_are_skipped() -> None:
    noise = b": OPENROUTER PROCESSING\n\nevent: ping\ndata: ping\n\ndata:\n\ndata:  \n\n"
    noise += b'data: {"type":"ping"}\n\ndata: 7\n\ndata: []\n\n'
    noise += b'event: notice\ndata: {"message":"hello"}\n\nid: 7\nretry: 5\n\n'
    data = noise + frames(text("a"), done=False) + noise + frames(STOP) + noise
    found = checked(data, OpenAIChatDecoder)
    assert (found.text, found.finish, found.error) == ("a", FinishReason.STOP, None)


@pytest.mark.parametrize(
    "data", [b"oops", b'{"choices":', b'{"model":"\xff"}', b'{"a":1}{', b'{"choices":' + b"[" * 20_000]
)
def test_unreadable_data_is_a_failure(data: bytes) -> None:
    stream = frames(text("hi"), data, text("never"), STOP)
    few = [[stream], *splits2(stream, near_boundaries(stream))]
    found = checked(stream, OpenAIChatDecoder, chunkings=few)
    assert found.error is not None
    assert (found.error.code, found.error.retryable, found.error.raw) == (ErrorCode.UPSTREAM_ERROR, True, "json")
    assert found.text == "hi"


def test_an_endless_event_is_a_failure() -> None:
    decoder = OpenAIChatDecoder()
    said = decoder.feed(frames(text("hi"), done=False) + b"data: " + b" " * (9 << 20))
    assert [type(delta) for delta in said] == [Started, TextDelta, Failure]
    assert decoder.feed(frames(text("never"))) == []
    assert decoder.eof() == [Eof()]


def test_half_a_surrogate_pair_meets_its_other_half() -> None:
    halves = [
        b'{"choices":[{"delta":{"content":"%b"}}]}' % half for half in (b"a\\ud83d", b"\\ude00b", b"\\ud83d", b"c")
    ]
    assert check(*halves, STOP).text == "a\U0001f600b\ufffdc"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("STOP", FinishReason.STOP),
        ("eos", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("max_tokens", FinishReason.LENGTH),
        ("model_length", FinishReason.CONTEXT_LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("content_filter: PROHIBITED_CONTENT", FinishReason.CONTENT_FILTER),
    ],
)
def test_finish_reasons(word: str, reason: FinishReason) -> None:
    found = check(text("hi"), chunk(None, word))
    assert (found.finish, found.raw_finish) == (reason, word)


@pytest.mark.parametrize("word", ["error", "network_error", "insufficient_system_resource", "abort"])
def test_words_for_a_broken_reply(word: str) -> None:
    found = check(text("hi"), chunk(None, word), STOP)
    assert found.error is not None
    assert (found.error.code, found.error.retryable, found.error.raw) == (ErrorCode.UPSTREAM_ERROR, True, word)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 9, "completion_tokens": 5, "prompt_cache_hit_tokens": 4, "reasoning_tokens": 3},
        {
            "input_tokens": 9,
            "output_tokens": 5,
            "cached_tokens": 4,
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        {
            "prompt_tokens": "9",
            "completion_tokens": 5.0,
            "prompt_tokens_details": {"cached_tokens": 4},
            "reasoning_tokens": "3",
        },
        {
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": 3},
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    ],
)
def test_usage_wherever_it_is(usage: Json) -> None:
    choice = {"index": 0, "delta": {}, "finish_reason": None, "usage": usage}
    for last in ({"usage": usage}, {"x_groq": {"id": "r", "usage": usage}, "choices": []}, {"choices": [choice]}):
        found = check(text("hi"), STOP, last)
        assert found.usage == Usage(input_tokens=9, output_tokens=5, cached_tokens=4, reasoning_tokens=3)


@pytest.mark.parametrize("usage", [None, {}, {"cost": 1}, "much", {"prompt_tokens": "9" * 19}, {"prompt_tokens": True}])
def test_usage_that_says_nothing(usage: object) -> None:
    assert check(text("hi"), STOP, {"choices": [], "usage": usage}).usage is None
    assert check(text("hi"), STOP, {"choices": [], "x_groq": {"usage": usage}}).usage is None


def test_usage_beyond_64_bits_is_read() -> None:
    found = check(text("hi"), STOP, {"usage": {"prompt_tokens": 1, "completion_tokens": 2**70}})
    assert found.usage == Usage(input_tokens=1, output_tokens=2**70)


@pytest.mark.parametrize("fields", [("reasoning_content",), ("reasoning",), ("reasoning_content", "reasoning")])
def test_reasoning_counts_once_and_remembers_its_field(fields: tuple[str, ...]) -> None:
    sent = [chunk(dict.fromkeys(fields, piece)) for piece in ("Hm", ", ", "well")]
    said = [delta for delta in deltas(*sent, text("4"), *sent, STOP) if isinstance(delta, ReasoningDelta)]
    assert "".join(delta.text for delta in said) == "Hm, well" * 2
    assert [delta.raw for delta in said] == [b'"%b"' % fields[0].encode(), b"", b"", b"", b"", b""]


def test_reasoning_details_are_kept_verbatim_and_their_text_counts_once() -> None:
    detail = {"type": "reasoning.text", "text": "Hm", "format": "f", "index": 0}
    sealed = {"type": "reasoning.encrypted", "data": "xyz", "index": 0}
    said = deltas(
        chunk({"reasoning": "Hm", "reasoning_details": [detail]}),
        chunk({"reasoning_content": "Hm", "reasoning_details": [detail]}),
        chunk({"content": "", "reasoning_details": [detail, sealed, 7]}),
        chunk({"content": "x", "reasoning_details": []}),
        done=False,
    )
    assert said[1:-1] == [
        ReasoningDelta("Hm", raw=msgspec.json.encode(detail)),
        ReasoningDelta("", raw=b'"reasoning_content"'),
        ReasoningDelta("Hm", raw=msgspec.json.encode(detail)),
        ReasoningDelta("Hm", raw=msgspec.json.encode(detail)),
        ReasoningDelta("", raw=msgspec.json.encode(sealed)),
        ReasoningDelta("", raw=b"7"),
        TextDelta("x"),
    ]


def test_content_as_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "reference"}]}
    sent = [
        text([thinking]),
        text([{"type": "thinking", "thinking": ", well"}, {"type": "text", "text": "4"}]),
        text([]),
    ]
    found = check(*sent, text([{"type": "image_url"}, {"type": "text", "text": "2"}]), STOP)
    assert (found.reasoning, found.text) == ("Hm, well", "42")
    both = check(chunk({"content": [thinking], "reasoning_content": "Hm"}), STOP)
    assert both.reasoning == "Hm"


def test_content_as_parts_of_odd_types() -> None:
    sent = text(["a", {"text": 1}, {"thinking": [{"text": "Hm"}, "!"]}, {"thinking": 2}, 3, None])
    found = check(sent, text({"type": "text", "text": "b"}), text(7), text(False), STOP)
    assert (found.reasoning, found.text) == ("Hm!2", "a1b7")


def test_odd_types_everywhere_are_read_as_far_as_they_go() -> None:
    odd = {
        "model": 3,
        "object": None,
        "choices": [{"index": "0", "delta": {"content": "a", "tool_calls": call(0, 1, 2, [3]), "refusal": 4}}, "x"],
    }
    rest = [calls("x", None, {"id": ["y"], "function": "z"}), chunk("delta"), {"choices": {"delta": {"content": "b"}}}]
    citation = chunk({"annotations": [{"n": 1e2}], "function_call": {"name": "old", "arguments": {}}, "content": 1e999})
    found = check(odd, *rest, citation, chunk(None, "tool_calls", usage=[]))
    assert (found.text, found.refusal) == ("ab", "4")
    assert found.calls == [("1", "2", "[3]"), ("call_4", "old", "{}")]


MESSAGE = {
    "role": "assistant",
    "reasoning_content": "Hm",
    "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
    "annotations": [{"url": "x"}],
    "refusal": None,
    "tool_calls": [call(None, "c1", "f", '{"a":1}'), call(None, "c2", "f", "{}"), call(9, "c3", "g", "{}")],
}
WHOLE = {"object": "chat.completion", "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}]}


def test_a_whole_reply_in_one_event() -> None:
    for sent in ([WHOLE], [text("Hel"), WHOLE], [chunk({"reasoning_content": "Hm"}), text("Hello"), WHOLE]):
        found = check(*sent)
        assert (found.reasoning, found.text) == ("Hm", "Hello")
        assert found.calls == [("c1", "f", '{"a":1}'), ("c2", "f", "{}"), ("c3", "g", "{}")]
        assert CallTotal(1, "c2", "f", "{}") in deltas(*sent)


def test_message_in_place_of_delta_is_a_delta_and_beside_it_nothing() -> None:
    alone = [{"object": "chat.completion.chunk", "choices": [{"message": {"content": word}}]} for word in ("a", "a")]
    beside = [
        {"choices": [{"delta": {"content": word}, "message": {"content": "aaab"[: 3 + n]}}]}
        for n, word in enumerate("ab")
    ]
    assert check(*alone, *beside, {"choices": [{"delta": None}]}, STOP).text == "aaab"


def test_entries_that_say_nothing_make_no_call() -> None:
    assert check(calls({"index": 0, "type": "function"}, {}), text("hi"), STOP).calls == []


# Recorded streams.


def test_recorded_streams() -> None:
    """The contested ones too: where the oracles disagree, `expected` is right in all but the named."""
    # Two replies recorded as one stream: what is said after the first finish reason calls nothing (case 32).
    other = {"vercel-ai__cerebras_cererebras-structured-output-tools.1"}
    for stream in streams("openai_chat"):
        data, expected = stream.read(), stream.expected
        found = outcome(data, OpenAIChatDecoder())
        assert outcome([data[at : at + 97] for at in range(0, len(data), 97)], OpenAIChatDecoder()) == found, (
            stream.name
        )
        assert (found.text, found.reasoning, found.refusal or None) == (
            expected["text"],
            expected["reasoning"],
            expected["refusal"] or None,
        ), stream.name
        assert (found.raw_finish or None) == expected["finish_reason"], stream.name
        usage = {"input": found.usage.input_tokens, "output": found.usage.output_tokens} if found.usage else None
        assert usage == expected["usage"], stream.name
        got = found.calls + found.broken
        want = [(entry["id"], entry["name"], entry["arguments"]) for entry in expected["tool_calls"]]
        if stream.name not in other:
            assert [entry[:2] for entry in got] == [entry[:2] for entry in want], stream.name
            for (*_, arguments), (*_, parsed) in zip(got, want, strict=True):
                if isinstance(parsed, str):  # broken, or none at all where a length limit cut it
                    assert arguments == parsed, stream.name
                    assert found.finish is FinishReason.LENGTH, stream.name
                else:
                    assert json.loads(arguments) == parsed, stream.name


# Requests.

SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"q":{"type":"string"}}}')
ASKED = UserMessage((TextPart("Look"), TextPart(""), ImagePart("https://x/y.png"), TextPart("there")))
SDK_BODY = pydantic.TypeAdapter(CompletionCreateParamsStreaming)


def body(*messages: Any, profile: Profile = AUTO, **options: Any) -> Json:
    encoded = encode_request(Request("m", tuple(messages), **options), profile)
    found: Json = json.loads(encoded)
    return found


def assistant(*parts: Part, profile: Profile = AUTO) -> list[Json]:
    """The messages that one assistant message becomes."""
    return [
        message
        for message in body(AssistantMessage(parts), profile=profile)["messages"]
        if message["role"] == "assistant"
    ]


def test_a_rich_history_is_what_the_sdk_would_send() -> None:
    history = (
        SystemMessage("Be brief."),
        ASKED,
        AssistantMessage(
            (
                ReasoningPart("Hm", signature="s", raw=(b'"reasoning_content"',)),
                TextPart("Let me ", citations=(b"{}",)),
                ProviderPart("web_search", b'{"type":"web_search"}'),
                TextPart("see."),
                CallPart("c1", "f", '{"q":"\u00e9"}'),
                CallPart("c2", "g", "{}"),
            )
        ),
        ToolMessage("c1", "f", "found"),
        ToolMessage("c2", "g", "", is_error=True),
        AssistantMessage((RefusalPart("I will not."),)),
        UserMessage((TextPart("Why"), TextPart("not?"))),
    )
    tools = (ToolSpec("f", "Find.", SCHEMA), ToolSpec("g", "", SCHEMA))
    encoded = encode_request(Request("m", history, tools, max_output_tokens=99, temperature=0.5))
    found = json.loads(encoded)
    assert found == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
                    {"type": "text", "text": "there"},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me see.",
                "reasoning_content": "Hm",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"q":"\u00e9"}'}},
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "content": "found", "tool_call_id": "c1"},
            {"role": "tool", "content": "", "tool_call_id": "c2"},
            {"role": "assistant", "content": None, "refusal": "I will not."},
            {"role": "user", "content": "Why\nnot?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "Find.", "parameters": json.loads(bytes(SCHEMA))},
            },
            {"type": "function", "function": {"name": "g", "description": "", "parameters": json.loads(bytes(SCHEMA))}},
        ],
        "max_tokens": 99,
        "temperature": 0.5,
    }
    checked_body = SDK_BODY.validate_python(found)
    assert len(list(checked_body["messages"])) == len(history)
    assert len(list(checked_body["tools"])) == 2


def test_a_bare_request_says_nothing_that_was_not_asked_for() -> None:
    assert set(body(UserMessage((TextPart("hi"),)))) == {"model", "messages", "stream", "stream_options"}
    assert body(UserMessage(()))["messages"] == [{"role": "user", "content": ""}]


def test_profiles() -> None:
    assert list(PROFILES) == ["auto", "openai", "cumulative", "minimal"]
    asked = UserMessage((TextPart("hi"),))
    openai = body(asked, profile=OPENAI, max_output_tokens=9)
    assert (openai["max_completion_tokens"], "max_tokens" in openai) == (9, False)
    assert openai["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert "stream_options" not in body(asked, profile=MINIMAL)
    thought = ReasoningPart("Hm", raw=(b'"reasoning"', b'{"type":"reasoning.text"}'))
    for profile in (OPENAI, MINIMAL):
        assert assistant(thought, TextPart("x"), profile=profile) == [{"role": "assistant", "content": "x"}]


def test_only_calls_have_null_content_and_unanswered_ones_are_answered() -> None:
    found = body(AssistantMessage((TextPart(""), CallPart("c1", "f", "{}"))))["messages"]
    assert (found[0]["content"], found[0]["tool_calls"][0]["id"]) == (None, "c1")
    assert found[1:] == [{"role": "tool", "content": INTERRUPTED, "tool_call_id": "c1"}]


def test_messages_that_would_be_empty_are_left_out() -> None:
    assert assistant(TextPart("")) == assistant(ReasoningPart("Hm", raw=(b'"reasoning"',))) == assistant() == []


def test_broken_arguments_go_back_as_json_about_them() -> None:
    (message,) = assistant(CallPart("c1", "f", '{"a'))
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"invalid_json": '{"a'}


@pytest.mark.parametrize(
    "raw", [b'{"type":"reasoning","id":"rs_1"}', b"null", b"7", b"{", b"[" * 200_000, b'"signature"', b'{"type":7}']
)
def test_raw_reasoning_and_calls_of_other_wires_are_left_out(raw: bytes) -> None:
    (message,) = assistant(ReasoningPart("Hm", raw=(raw,)), CallPart("c1", "f", "{}", raw))
    assert set(message) == {"role", "content", "tool_calls"}
    assert set(message["tool_calls"][0]) == {"id", "type", "function"}


def circle(*datas: object) -> list[Json]:
    """What goes back of the reply that `datas` makes."""
    message = check(*datas).message
    assert message is not None
    return assistant(*message.parts)


def test_reasoning_goes_back_in_the_field_it_came_in() -> None:
    for field in ("reasoning_content", "reasoning"):
        sent = [chunk({field: piece}) for piece in ("Hm", ", well")]
        found = circle(*sent, text("4"), chunk({field: "!"}), calls(call(0, "c1", "f", "{}")), CALLED)
        assert found[0][field] == "Hm, well!"
        assert found[0]["content"] == "4"


@pytest.mark.parametrize("said", ["4", ""])
def test_thinking_parts_go_back_as_parts(said: str) -> None:
    thinking = [text([{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]) for piece in ("Hm", "!")]
    (message,) = circle(*thinking, text(said), calls(call(0, "c1", "f", "{}")), CALLED)
    assert message["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm!"}]},
        *([{"type": "text", "text": said}] if said else []),
    ]


def test_reasoning_details_go_back_joined_and_otherwise_untouched() -> None:
    def detail(kind: str, **fields: object) -> Json:
        return chunk({"reasoning_details": [{"type": f"reasoning.{kind}", **fields}]})

    (message,) = circle(
        detail("text", text="Hm", index=0, format="f", signature=None),
        b'{"choices":[{"delta":{"reasoning_details":[{"type":"reasoning.text","text":", \\ud83d","index":0}]}}]}',
        b'{"choices":[{"delta":{"reasoning_details":[{"type":"reasoning.text","text":"\\ude00","index":0}]}}]}',
        detail("text", index=0, signature="sig"),
        detail("summary", summary="so", index=1),
        detail("summary", summary=" on", index=1),
        detail("encrypted", data="A", index=2, id="e1"),
        detail("encrypted", data="B", index=2, id="e2"),
        detail("text", index=3, signature="alone"),
        calls(call(0, "c1", "f", "{}")),
        CALLED,
    )
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm, \U0001f600", "index": 0, "format": "f", "signature": "sig"},
        {"type": "reasoning.summary", "summary": "so on", "index": 1},
        {"type": "reasoning.encrypted", "data": "A", "index": 2, "id": "e1"},
        {"type": "reasoning.encrypted", "data": "B", "index": 2, "id": "e2"},
        {"type": "reasoning.text", "index": 3, "signature": "alone"},
    ]
    assert "reasoning" not in message


@pytest.mark.parametrize("arguments", ["{}", {}])
def test_extra_content_of_a_call_goes_back(arguments: object) -> None:
    extra = {"google": {"thought_signature": "abc=="}}
    (message,) = circle(calls(call(0, "c1", "f", arguments) | {"extra_content": extra}), CALLED)
    assert message["tool_calls"][0]["extra_content"] == extra


FIELDS = [
    *(
        "object",
        "model",
        "choices",
        "usage",
        "error",
        "x_groq",
        "index",
        "delta",
        "message",
        "finish_reason",
        "content",
    ),
    *(
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "refusal",
        "tool_calls",
        "function_call",
        "annotations",
        "id",
    ),
    *(
        "function",
        "name",
        "arguments",
        "extra_content",
        "text",
        "thinking",
        "prompt_tokens",
        "type",
        "code",
        "status",
        "detail",
    ),
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON_VALUES | st.binary(max_size=8), max_size=4), st.data())
def test_no_bytes_raise(values: list[object], data: st.DataObject) -> None:
    stream = frames(text("a"), *values)
    checked(stream, OpenAIChatDecoder, chunkings=[data.draw(chunkings(stream))])


@given(JSON_VALUES)
def test_no_delta_raises_and_none_is_made_of_nothing(value: object) -> None:
    said = deltas({"choices": [{"delta": value}]}, {"choices": [{"delta": {"tool_calls": [value], "content": value}}]})
    assert said[-1] == Eof()
    assert all(delta.text for delta in said if isinstance(delta, TextDelta))


def test_parts_of_kind_call_show_what_came() -> None:
    found = check(calls(call(0, "c1", "f", '{"a"')), calls(call(0, arguments=":1}")), CALLED)
    assert [event.text for event in found.events if isinstance(event, PartDelta) and event.kind is PartKind.CALL] == [
        '{"a":1}'
    ]
