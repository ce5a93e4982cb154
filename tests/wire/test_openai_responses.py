"""OpenAI Responses: the decoder, with `Reply` behind it, and the request encoder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

from sluicegate.machine import deltas as d
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.events import CallBroken, CallReady, PartDelta, ReplyEvent
from sluicegate.machine.history import (
    INTERRUPTED,
    AssistantMessage,
    CallPart,
    ImagePart,
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
from sluicegate.machine.reply import Reply
from sluicegate.wire.upstream.openai_responses import _HANDLERS, OpenAIResponsesDecoder
from sluicegate.wire.upstream.openai_responses_request import encode_request
from tests.laws import check_split_law, chunkings
from tests.shared import Stream, streams
from tests.wire.fold import reply_of

Json = dict[str, Any]


def frame(type_: str, **fields: Any) -> bytes:
    return f"event: {type_}\ndata: {json.dumps({'type': type_, **fields})}\n\n".encode()


def terminal(status: str = "completed", **fields: Any) -> bytes:
    return frame(f"response.{status}", response={"status": status, **fields})


def call_item(arguments: Any = "", **fields: Any) -> Json:
    return {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "add", "arguments": arguments, **fields}


def message_item(*texts: str, **fields: Any) -> Json:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content, **fields}


def decoded(*frames: bytes) -> list[d.Delta]:
    decoder = OpenAIResponsesDecoder()
    return [*decoder.feed(b"".join(frames)), *decoder.eof()]


def replied(*frames: bytes) -> tuple[Reply, list[ReplyEvent]]:
    events: list[ReplyEvent] = []
    return reply_of(b"".join(frames), OpenAIResponsesDecoder(), events), events


def texts_of(reply: Reply) -> list[str]:
    return [part.text for part in reply.message().parts if isinstance(part, TextPart)]


def assert_splits(data: bytes) -> None:
    check_split_law(OpenAIResponsesDecoder, OpenAIResponsesDecoder.feed, OpenAIResponsesDecoder.eof, data)


# -- the law of the carriers: what came in deltas, in done events, with the item or at the end is one reply -----------


@dataclass(frozen=True)
class Way:
    """How a server tells its reply: which events it sends, and what names an item in them."""

    indexed: bool
    ids: str
    announced: bool
    carriers: frozenset[str]

    def can_tell(self) -> bool:
        """Calls have their names only in items, something has to tell one item from the next, and what is announced
        but comes at the very end has lost its place.
        """
        named = self.announced or bool(self.carriers & {"item_done", "terminal"})
        placed = not self.announced or bool(self.carriers - {"terminal"})
        return bool(self.carriers) and named and placed and (self.announced or self.indexed)


WAYS = st.builds(
    Way,
    indexed=st.booleans(),
    ids=st.sampled_from(["stable", "rotating", "none"]),
    announced=st.booleans(),
    carriers=st.frozensets(st.sampled_from(["deltas", "done", "item_done", "terminal"])),
).filter(Way.can_tell)
WORDS = st.text(st.sampled_from("ab é😀\n"), min_size=1, max_size=6)
ENTRIES = {
    "message": st.sampled_from(["text", "refusal"]),
    "reasoning": st.sampled_from(["summary", "reasoning"]),
}
TOLD = st.one_of(
    *(st.tuples(st.just(of), st.lists(st.tuples(kinds, WORDS), max_size=3)) for of, kinds in ENTRIES.items()),
    st.tuples(st.sampled_from(["function_call", "custom_tool_call"]), st.dictionaries(WORDS, WORDS, max_size=2)),
    st.tuples(st.just("web_search_call"), WORDS),
)
EVENT_NAMES = {
    "text": ("output_text", "content_part", "content_index", "text"),
    "refusal": ("refusal", "content_part", "content_index", "refusal"),
    "summary": ("reasoning_summary_text", "reasoning_summary_part", "summary_index", "text"),
    "reasoning": ("reasoning_text", "content_part", "content_index", "text"),
}
PART_TYPES = {"text": "output_text", "refusal": "refusal", "summary": "summary_text", "reasoning": "reasoning_text"}


class Server:
    """Tells a list of `TOLD` items in one `Way`."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.serial = 0

    def tell(self, told: list[tuple[str, Any]]) -> Iterator[bytes]:
        yield frame("response.created", response={"model": "m"})
        output = []
        for number, (type_, value) in enumerate(told):
            item = item_of(number, type_, value)
            if self.way.announced:
                bare = {
                    key: held for key, held in item.items() if key not in ("content", "summary", "arguments", "input")
                }
                yield frame("response.output_item.added", **self.where(number), item={**bare, "id": self.id(number)})
            yield from self.body(number, type_, value)
            output.append({**item, "id": self.id(number)})
            if "item_done" in self.way.carriers:
                yield frame("response.output_item.done", **self.where(number), item={**item, "id": self.id(number)})
        yield terminal(output=output if "terminal" in self.way.carriers else [])

    def id(self, number: int) -> str:
        self.serial += 1
        return {"stable": f"item_{number}", "rotating": f"item_x{self.serial}", "none": ""}[self.way.ids]

    def where(self, number: int, **fields: int) -> Json:
        return {"output_index": number, **fields} if self.way.indexed else {}

    def body(self, number: int, type_: str, value: Any) -> Iterator[bytes]:
        about = {"item_id": self.id(number)}
        if type_ == "function_call":
            yield from self.words(
                "function_call_arguments", "arguments", json.dumps(value), {**about, **self.where(number)}
            )
        elif type_ == "custom_tool_call":
            yield from self.words("custom_tool_call_input", "input", json.dumps(value), {**about, **self.where(number)})
        elif type_ in ENTRIES:
            counts = {"content_index": 0, "summary_index": 0}
            for kind, text in value:
                name, part_name, counter, field = EVENT_NAMES[kind]
                place = {**about, **self.where(number, **{counter: counts[counter]})}
                counts[counter] += 1
                part = {"type": PART_TYPES[kind]}
                if self.way.announced:
                    yield frame(f"response.{part_name}.added", **place, part={**part, field: ""})
                yield from self.words(name, field, text, place)
                if "done" in self.way.carriers:
                    yield frame(f"response.{part_name}.done", **place, part={**part, field: text})

    def words(self, name: str, field: str, text: str, about: Json) -> Iterator[bytes]:
        if "deltas" in self.way.carriers:
            half = len(text) // 2
            yield frame(f"response.{name}.delta", **about, delta=text[:half])
            yield frame(f"response.{name}.delta", **about, delta=text[half:])
        if "done" in self.way.carriers:
            yield frame(f"response.{name}.done", **about, **{field: text})


def item_of(number: int, type_: str, value: Any) -> Json:
    match type_:
        case "message":
            return {
                "type": type_,
                "content": [{"type": PART_TYPES[kind], EVENT_NAMES[kind][3]: text} for kind, text in value],
            }
        case "reasoning":
            lists: dict[str, list[Json]] = {"summary": [], "content": []}
            for kind, text in value:
                lists["summary" if kind == "summary" else "content"].append({"type": PART_TYPES[kind], "text": text})
            return {"type": type_, **lists}
        case "web_search_call":
            return {"type": type_, "query": value}
    field = "arguments" if type_ == "function_call" else "input"
    return {"type": type_, "call_id": f"c{number}", "name": f"tool{number}", field: json.dumps(value)}


def what_was_told(told: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    for type_, value in told:
        if type_ in ENTRIES:
            yield from ((type_ if type_ == "reasoning" else kind, text) for kind, text in value)
        else:
            yield (
                type_.replace("function_call", "call").replace("custom_tool_call", "call"),
                (value if type_ == "web_search_call" else json.dumps(value)),
            )


def what_was_heard(reply: Reply) -> Iterator[tuple[str, str]]:
    for part in reply.message().parts:
        match part:
            case TextPart(text=text):
                yield "text", text
            case RefusalPart(text=text):
                yield "refusal", text
            case ReasoningPart(text=text) if text:
                yield "reasoning", text
            case CallPart(arguments=arguments):
                yield "call", arguments
            case ProviderPart(kind=kind, raw=raw):
                yield kind, json.loads(raw)["query"]


@given(WAYS, st.lists(TOLD, max_size=4))
@example(Way(True, "stable", False, frozenset({"deltas", "item_done"})), [("function_call", {})])
@example(
    Way(True, "rotating", False, frozenset({"deltas", "terminal"})), [("message", []), ("message", [("text", "a")])]
)
def test_every_carrier_tells_the_same_reply(way: Way, told: list[tuple[str, Any]]) -> None:
    # The official order within an item: summaries first.
    told = [(of, sorted(v, key=lambda e: e[0] != "summary") if of == "reasoning" else v) for of, v in told]
    if not way.announced and "item_done" not in way.carriers and way.carriers != {"terminal"}:
        # Hosted tools have no deltas: here they come only at the end, when their place is lost.
        told = [(of, value) for of, value in told if of != "web_search_call"]
    reply, events = replied(*Server(way).tell(told))
    assert reply.error is None
    assert list(what_was_heard(reply)) == list(what_was_told(told))
    ready = [event.call_id for event in events if isinstance(event, CallReady)]
    assert ready == [f"c{number}" for number, (of, _) in enumerate(told) if of in ("function_call", "custom_tool_call")]
    assert len(reply.calls) == len(ready)


@given(st.data())
def test_reads_never_matter(data: st.DataObject) -> None:
    told = data.draw(st.lists(TOLD, max_size=2))
    stream = b"".join(Server(data.draw(WAYS)).tell(told))
    cuts = [data.draw(chunkings(stream))]
    check_split_law(
        OpenAIResponsesDecoder, OpenAIResponsesDecoder.feed, OpenAIResponsesDecoder.eof, stream, chunkings=cuts
    )


# -- nothing makes it raise -------------------------------------------------------------------------------------------

JSON: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, -1, 0, 1, 0.5, 10**30, float("inf"), "", "0", "x", "\ud83d", [], {}, [1], [None], [[]]),
        *({"type": "refusal"}, {"text": None, "annotations": {}}, [{"text": 5}]),
        [{"type": "reasoning_text", "annotations": [None, 1]}],
    ]
)
ITEM_TYPES = st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call", "mcp_call", ""])
ODD_ITEM = st.fixed_dictionaries(
    {"type": ITEM_TYPES},
    optional=dict.fromkeys(("id", "call_id", "name", "arguments", "input", "content", "summary", "status"), JSON),
)
ODD_EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from([*_HANDLERS, "response.unknown"])},
    optional={
        **dict.fromkeys(("delta", "output_index", "content_index", "summary_index", "item_id", "text", "part"), JSON),
        **dict.fromkeys(("refusal", "arguments", "input", "annotation", "message", "code"), JSON),
        "item": ODD_ITEM | JSON,
        "response": st.fixed_dictionaries(
            {}, optional={"output": st.lists(ODD_ITEM) | JSON, "usage": JSON, "error": JSON, "incomplete_details": JSON}
        )
        | JSON,
        "error": st.none() | JSON,
    },
)


def assert_contract(deltas: list[d.Delta]) -> None:
    assert [delta for delta in deltas if isinstance(delta, d.Eof)] == [deltas[-1]]
    ends = [place for place, delta in enumerate(deltas) if isinstance(delta, d.End | d.Failure)]
    assert ends in ([], [len(deltas) - 2])


@given(st.lists(ODD_EVENT, max_size=6), st.binary(max_size=4))
def test_odd_events_never_raise(events: list[Json], rest: bytes) -> None:
    stream = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + rest
    deltas = decoded(stream)
    assert_contract(deltas)
    reply = Reply()
    for delta in deltas:
        reply.receive(delta)


@given(
    st.lists(
        st.sampled_from([b"data: ", b"{", b"}", b'"type"', b":", b'"error"', b"\n", b"\xff", b"[", b"1"]), max_size=20
    )
)
def test_bytes_never_raise(pieces: list[bytes]) -> None:
    assert_contract(decoded(b"".join(pieces)))


@pytest.mark.parametrize(
    "data",
    [b"{", b"\xff", b'{"type":"x","y":"\xff"}', b'{"delta":NaN}', b'{"item":' + b"[" * 100_000, b'{"delta":5}x'],
    ids=["cut", "no-utf8", "no-utf8-inside", "nan", "deep", "tail"],
)
def test_what_cannot_be_read_is_one_failure(data: bytes) -> None:
    deltas = decoded(frame("response.created", response={}), b"data: " + data + b"\n\n", terminal())
    started, failure, eof = deltas
    assert isinstance(failure, d.Failure)
    assert (failure.error.code, failure.error.retryable) == (ErrorCode.UPSTREAM_ERROR, True)
    assert (started, eof) == (d.Started(), d.Eof())


def test_an_oversized_event_is_a_failure() -> None:
    decoder = OpenAIResponsesDecoder()
    deltas = decoder.feed(b"data: " + b"x" * (8 * 1024 * 1024 + 1))
    assert [type(delta) for delta in deltas] == [d.Failure]
    assert decoder.feed(terminal()) == []
    assert decoder.eof() == [d.Eof()]


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'"x"', b"{}", b'{"type":"response.rate_limits.updated"}'])
def test_what_says_nothing_is_skipped(data: bytes) -> None:
    assert decoded(b"data: " + data + b"\n\n") == [d.Eof()]


def test_odd_types_are_bent() -> None:
    """Numbers for ids and text, text for indexes, null for text, objects for arguments, half surrogate pairs."""
    reply, _ = replied(
        frame("response.output_text.delta", output_index="0", content_index=True, item_id=7, delta=None),
        frame("response.output_text.delta", output_index="0", content_index="x", item_id=7, delta=5),
        b'data: {"type":"response.output_text.delta","output_index":0,"delta":"\\ud83d"}\n\n',
        b'data: {"type":"response.output_text.delta","output_index":0,"delta":"\\ude00"}\n\n',
        frame("response.output_item.done", output_index=1, item=call_item({"a": 1}, id=None, content="x")),
        terminal(usage={"input_tokens": "3", "output_tokens": 4, "input_tokens_details": None}),
    )
    assert texts_of(reply) == ["5😀"]
    assert [part.arguments for part in reply.message().parts if isinstance(part, CallPart)] == ['{"a":1}']
    assert reply.usage == d.Usage(input_tokens=3, output_tokens=4)


# -- cases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ['{"a":1}', {"a": 1}], ids=["text", "object"])
@pytest.mark.parametrize("repeated", [True, False])
def test_case_19_responses_arguments_whole_on_the_added_event(arguments: Any, repeated: bool) -> None:
    added = frame("response.output_item.added", output_index=0, item=call_item(arguments))
    done = frame("response.output_item.done", output_index=0, item=call_item(arguments)) if repeated else b""
    reply, events = replied(added, done, terminal())
    assert reply.calls == [CallReady(0, "c1", "add", '{"a":1}')]
    assert reply.finish_reason is d.FinishReason.TOOL_CALLS
    shown = "".join(event.text for event in events if isinstance(event, PartDelta))
    assert shown == '{"a":1}'


@pytest.mark.parametrize("arguments", ["", None, "  "])
def test_case_21_responses_call_without_arguments(arguments: Any) -> None:
    added = frame("response.output_item.added", output_index=0, item=call_item(arguments))
    done = frame("response.output_item.done", output_index=0, item=call_item(arguments))
    reply, _ = replied(added, done, terminal())
    assert reply.calls == [CallReady(0, "c1", "add", "{}")]


def test_case_29_responses_text_after_a_call_streamed_or_whole() -> None:
    items = [message_item("one"), call_item("{}"), message_item("two", id="msg_2")]
    streamed = [frame("response.output_item.done", output_index=n, item=item) for n, item in enumerate(items)]
    whole, _ = replied(terminal(output=items))
    split, _ = replied(*streamed, terminal())
    assert whole.message() == split.message()
    assert texts_of(whole) == ["one", "two"]


@pytest.mark.once
def test_case_30_responses_every_split() -> None:
    assert_splits(
        b"".join(
            [
                frame("response.output_item.added", output_index=0, item=call_item()),
                frame("response.function_call_arguments.delta", output_index=0, item_id="fc_1", delta='{"é":"😀"}'),
                frame("response.output_item.done", output_index=0, item=call_item('{"é":"😀"}')).replace(
                    b"\n", b"\r\n"
                ),
                terminal(),
            ]
        )
    )


@pytest.mark.parametrize("status", ["incomplete", "completed"])
def test_case_35_responses_a_cut_call_is_length_and_never_run(status: str) -> None:
    """Also from servers that call a truncated response completed."""
    added = frame("response.output_item.added", item=call_item())
    delta = frame("response.function_call_arguments.delta", item_id="fc_1", delta='{"a":')
    done = frame("response.output_item.done", item=call_item('{"a":', status=status))
    reply, _ = replied(added, delta, done, terminal(status, incomplete_details={"reason": "max_output_tokens"}))
    assert reply.finish_reason is d.FinishReason.LENGTH
    assert reply.error is None
    assert [type(call) for call in reply.calls] == [CallBroken]


def test_case_35_responses_an_incomplete_call_is_not_ended_early() -> None:
    """Its arguments may look complete; only the end of the reply says whether it counts."""
    done = frame("response.output_item.done", item=call_item("{}", status="incomplete"))
    assert not any(isinstance(delta, d.CallEnd) for delta in decoded(done))


def test_case_37_responses_eof_without_a_terminal_is_truncation() -> None:
    stream = frame("response.output_text.delta", output_index=0, content_index=0, delta="Hi") + terminal()
    for cut in range(len(stream) - 2):
        reply, _ = replied(stream[:cut])
        assert reply.error is not None, cut
        assert (reply.error.code, reply.error.truncated) == (ErrorCode.UPSTREAM_ERROR, True)


@pytest.mark.parametrize("missing", [1, 2])
def test_case_37_responses_a_terminal_without_its_blank_line_counts(missing: int) -> None:
    reply, _ = replied((frame("response.output_text.delta", delta="Hi") + terminal())[:-missing])
    assert (reply.error, texts_of(reply)) == (None, ["Hi"])


def test_case_36_responses_done_marker_without_a_terminal() -> None:
    reply, _ = replied(frame("response.output_text.delta", delta="Hi"), b"data: [DONE]\n\n")
    assert (reply.error, reply.finish_reason) == (None, d.FinishReason.STOP)


def test_case_10_responses_done_marker_after_the_terminal_is_ignored() -> None:
    assert decoded(terminal(), b"data: [DONE]\n\n") == decoded(terminal())


@pytest.mark.parametrize("empty", [{}, {"output": None, "usage": None, "error": None, "incomplete_details": None}])
def test_case_38_responses_terminal_with_nothing_in_it(empty: Json) -> None:
    reply, _ = replied(frame("response.output_text.delta", delta="Hi"), terminal(**empty))
    assert (reply.error, reply.usage, reply.raw_finish_reason) == (None, None, "completed")
    assert decoded(b'data: {"type":"response.completed","response":null}\n\n')[:-1] == [
        d.Finish(d.FinishReason.STOP, "completed"),
        d.End(),
    ]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"error": {"message": "no", "type": "rate_limit_error"}}, ErrorCode.RATE_LIMITED),
        ({"error": {"message": "maximum context length is 5", "code": 400}}, ErrorCode.CONTEXT_LENGTH),
        ({"error": "content filter"}, ErrorCode.CONTENT_FILTER),
        ({"type": "chat.completion.chunk", "error": {"code": "504"}, "choices": []}, ErrorCode.TIMEOUT),
        ({"type": "response.error", "error": {"code": 503}}, ErrorCode.UPSTREAM_ERROR),
    ],
)
def test_case_43_responses_error_object_before_schema(event: Json, code: ErrorCode) -> None:
    reply, _ = replied(b"data: " + json.dumps(event).encode() + b"\n\n", b"data: [DONE]\n\n")
    assert reply.error is not None
    assert reply.error.code is code
    assert reply.raw_finish_reason == "failed"


@pytest.mark.parametrize(
    "fields",
    [
        {"code": "rate_limit_exceeded", "message": "SECRET", "param": None},
        {"error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "SECRET", "param": None}},
    ],
    ids=["flat", "nested"],
)
@pytest.mark.parametrize("named", [True, False], ids=["type-in-data", "type-in-event-line"])
def test_case_44_responses_error_event_in_both_shapes(fields: Json, named: bool) -> None:
    data = {"type": "error", **fields} if named else fields
    reply, _ = replied(f"event: error\ndata: {json.dumps(data)}\n\n".encode())
    assert reply.error is not None
    assert (reply.error.code, reply.error.retryable) == (ErrorCode.RATE_LIMITED, True)
    assert reply.error.raw == "rate_limit_exceeded"
    assert "SECRET" not in str(reply.error)


@pytest.mark.parametrize(
    ("stream", "code", "raw"),
    [
        (terminal("failed", error={"code": "server_error", "message": "x"}), ErrorCode.UPSTREAM_ERROR, "failed"),
        (terminal("failed", error=None), ErrorCode.UPSTREAM_ERROR, "failed"),
        (terminal("cancelled"), ErrorCode.UPSTREAM_ERROR, "cancelled"),
        (frame("response.completed", response={"status": "failed"}), ErrorCode.UPSTREAM_ERROR, "failed"),
        (terminal("completed", error={"code": "rate_limit_exceeded"}), ErrorCode.RATE_LIMITED, "failed"),
        (frame("response.failed", error={"code": "rate_limit_exceeded"}), ErrorCode.RATE_LIMITED, "failed"),
    ],
)
def test_failed_responses(stream: bytes, code: ErrorCode, raw: str) -> None:
    reply, _ = replied(stream)
    assert reply.error is not None
    assert (reply.error.code, reply.raw_finish_reason) == (code, raw)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("max_output_tokens", d.FinishReason.LENGTH),
        ("content_filter", d.FinishReason.CONTENT_FILTER),
        ("max_prompt_tokens", d.FinishReason.CONTEXT_LENGTH),
        ("steered", d.FinishReason.STOP),
        ("what_is_new", d.FinishReason.LENGTH),
    ],
)
def test_incomplete_reasons(said: str, reason: d.FinishReason) -> None:
    assert d.Finish(reason, said) in decoded(terminal("incomplete", incomplete_details={"reason": said}))
    assert d.Finish(d.FinishReason.LENGTH, "incomplete") in decoded(terminal("incomplete", incomplete_details=None))


def test_case_75_responses_hosted_tools_keep_their_place_between_client_calls() -> None:
    search = {"type": "web_search_call", "id": "ws", "status": "in_progress"}
    found = {**search, "status": "completed", "action": {"query": "x"}}
    thought = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "E=="}
    reply, _ = replied(
        frame("response.output_item.done", output_index=0, item=thought),
        frame("response.output_item.added", output_index=1, item=search),
        frame("response.output_item.added", output_index=2, item=call_item()),
        frame("response.web_search_call.searching", output_index=1, item_id="ws"),
        frame("response.output_item.done", output_index=2, item=call_item("{}", caller={"type": "direct"})),
        frame("response.output_item.done", output_index=1, item=found),
        frame("response.output_item.done", output_index=3, item=message_item("so")),
        terminal(),
    )
    sent = json.loads(encode_request(Request("o4-mini", (reply.message(), ToolMessage("c1", "add", "3")))))["input"]
    assert sent[:2] == [thought, found]
    assert sent[2] == call_item("{}", caller={"type": "direct"})
    assert [item["type"] for item in sent[3:]] == ["message", "function_call_output"]


def test_a_reasoning_item_goes_back_as_it_came() -> None:
    raw = b'{"id":"rs_1", "type":"reasoning","summary":[{"type":"summary_text","text":"a"}], "encrypted_content":"E"}'
    reply, _ = replied(
        frame("response.output_item.added", output_index=0, item={"type": "reasoning", "id": "rs_1"}),
        frame("response.reasoning_summary_text.delta", output_index=0, item_id="rs_1", summary_index=0, delta="a"),
        b'data: {"type":"response.output_item.done","output_index":0,"item":' + raw + b"}\n\n",
        terminal(),
    )
    assert reply.message().parts == (ReasoningPart("a", raw=(raw,)),)
    assert raw in encode_request(Request("m", (reply.message(),)))


def test_a_provider_tool_that_streams_its_arguments_like_a_client_call_is_none() -> None:
    item = {"type": "web_search_call", "id": "ws", "name": "web_search", "arguments": "{}"}
    about = {"output_index": 0, "item_id": "ws"}
    reply, _ = replied(
        frame("response.output_item.added", output_index=0, item=item),
        frame("response.function_call_arguments.delta", **about, delta="{}"),
        frame("response.function_call_arguments.done", **about, arguments="{}"),
        frame("response.custom_tool_call_input.delta", **about, delta="{}"),
        frame("response.custom_tool_call_input.done", **about, input="{}"),
        terminal(),
    )
    assert [type(part) for part in reply.message().parts] == [ProviderPart]


def test_the_same_index_for_every_item() -> None:
    """Gateways that never count: ids tell the items apart, and each `added` begins one."""
    reply, _ = replied(
        frame("response.output_item.added", output_index=0, item=call_item()),
        frame("response.output_item.added", output_index=0, item=call_item(id="fc_2", call_id="c2")),
        frame("response.function_call_arguments.delta", output_index=0, item_id="fc_1", delta='{"n":1}'),
        frame("response.function_call_arguments.delta", output_index=0, item_id="fc_2", delta='{"n":2}'),
        frame("response.output_item.done", output_index=0, item=call_item('{"n":1}')),
        frame("response.output_item.done", output_index=0, item=call_item('{"n":2}', id="fc_2", call_id="c2")),
        frame("response.output_item.done", output_index=0, item=call_item('{"n":2}', id="fc_2", call_id="c2")),
        frame("response.output_item.done", output_index=0, item=call_item('{"n":3}', id="fc_3", call_id="c3")),
        terminal(),
    )
    assert [(call.call_id, call.arguments) for call in reply.calls] == [(f"c{n}", f'{{"n":{n}}}') for n in (1, 2, 3)]


def test_an_announcement_that_comes_late_or_twice_begins_nothing() -> None:
    added = frame("response.output_item.added", output_index=0, item=call_item())
    delta = frame("response.function_call_arguments.delta", output_index=0, item_id="fc_1", delta='{"n":')
    rest = frame("response.function_call_arguments.delta", output_index=0, item_id="fc_1", delta="1}")
    for stream in ([delta, added, rest], [added, added, delta, rest], [added, delta, added, rest]):
        reply, _ = replied(*stream, terminal())
        assert [part.arguments for part in reply.message().parts if isinstance(part, CallPart)] == ['{"n":1}']


def test_citations_come_once() -> None:
    def cite(url: str) -> Json:
        return {"type": "url_citation", "url": url, "start_index": 0, "end_index": 1, "title": ""}

    about = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
    part = {"type": "output_text", "text": "x", "annotations": [cite("a"), cite("b")]}
    deltas = decoded(
        frame("response.output_text.delta", **about, delta="x"),
        frame("response.output_text.annotation.added", **about, annotation=cite("a")),
        frame("response.output_text.annotation.added", **about, annotation=None),
        frame("response.content_part.done", **about, part=part),
        frame("response.output_item.done", output_index=0, item={"type": "message", "id": "msg_1", "content": [part]}),
    )
    assert [json.loads(delta.raw)["url"] for delta in deltas if isinstance(delta, d.CitationDelta)] == ["a", "b"]


def test_usage() -> None:
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 6},
    }
    reply, _ = replied(terminal(usage=usage))
    assert reply.usage == d.Usage(5, 7, cached_tokens=1, cache_write_tokens=2, reasoning_tokens=6)


# -- recordings -------------------------------------------------------------------------------------------------------


def heard(stream: Stream) -> tuple[Json, str]:
    reply, _ = replied(stream.read())
    parts = reply.message().parts
    calls = []
    for part in parts:
        if isinstance(part, CallPart):
            broken = any(isinstance(call, CallBroken) and call.call_id == part.call_id for call in reply.calls)
            arguments = part.arguments if broken else json.loads(part.arguments)
            calls.append({"id": part.call_id, "name": part.name, "arguments": arguments})
    usage = reply.usage
    return {
        "reasoning": "".join(part.text for part in parts if isinstance(part, ReasoningPart)),
        "refusal": "".join(part.text for part in parts if isinstance(part, RefusalPart)) or None,
        "tool_calls": calls,
        "finish_reason": reply.raw_finish_reason,
        "usage": usage and {"input": usage.input_tokens, "output": usage.output_tokens},
    }, "".join(texts_of(reply))


def test_recordings_are_heard_as_expected() -> None:
    recordings = streams("openai_responses")
    assert len(recordings) > 100
    for stream in recordings:
        got, text = heard(stream)
        assert got == {key: stream.expected[key] for key in got}, stream.name
        if stream.contested:
            # Recordings cut by hand: their deltas are the beginning of what the done events say in full.
            assert text.startswith(stream.expected["text"][:6]), stream.name
        else:
            assert text == stream.expected["text"], stream.name


# -- requests ---------------------------------------------------------------------------------------------------------


def body_of(*messages: Any, model: str = "o4-mini", **fields: Any) -> Json:
    body: Json = json.loads(encode_request(Request(model, messages, **fields)))
    return body


SEARCH = b'{"type":"web_search_call","id":"ws","status":"completed","action":{"type":"search","query":"q"}}'
CALL = b'{"type":"function_call","id":"fc","call_id":"x","name":"y","arguments":"z","namespace":"n"}'


def test_a_rich_request_is_what_the_sdk_would_send() -> None:
    custom = b'{"type":"custom_tool_call","id":"ct","call_id":"c9","name":"sql","input":"old"}'
    body = body_of(
        SystemMessage("Be brief."),
        UserMessage((TextPart("Look:"), ImagePart("data:image/png;base64,AA=="))),
        AssistantMessage(
            (
                ReasoningPart("hm", raw=(b'{"type":"reasoning","id":"rs","summary":[]}', b'{"type":"reasoning.text"}')),
                ReasoningPart("foreign", signature="S", raw=(b'"x"', b"not json")),
                TextPart(""),
                TextPart("Wait.", citations=(b"{}",)),
                ProviderPart("web_search_call", SEARCH),
                ProviderPart("server_tool_use", b"{}"),
                ProviderPart("web_search_tool_result", b"{}"),
                ProviderPart("compaction", b"{}", fragment="summary"),
                CallPart("c1", "add", '{"a":1}', raw=CALL),
                CallPart("c2", "add", "{}", raw=b'{"extra_content":{}}'),
                CallPart("c3", "add", "{}"),
                CallPart("c9", "sql", "SELECT 1", raw=custom),
            )
        ),
        ToolMessage("c1", "add", "1"),
        ToolMessage("c9", "sql", "one row"),
        AssistantMessage((RefusalPart("No."),)),
        tools=(ToolSpec("add", "Adds.", Raw(b'{"type":"object"}')),),
        max_output_tokens=99,
        temperature=0.5,
    )  # fmt: skip
    assert {key: body[key] for key in body if key not in ("input", "tools")} == {
        "model": "o4-mini",
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 99,
        "temperature": 0.5,
    }
    assert body["tools"] == [
        {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}, "strict": False}
    ]
    kinds = [item.get("type") for item in body["input"]]
    assert kinds == [
        "message", "message", "reasoning", "message", "web_search_call",
        "function_call", "function_call", "function_call", "custom_tool_call",
        "function_call_output", "function_call_output", "function_call_output", "custom_tool_call_output", "message",
    ]  # fmt: skip
    calls = [item for item in body["input"] if item["type"] == "function_call"]
    assert calls[0] == {
        "type": "function_call", "id": "fc", "call_id": "c1", "name": "add", "arguments": '{"a":1}', "namespace": "n",
    }  # fmt: skip
    assert calls[1] == {"type": "function_call", "call_id": "c2", "name": "add", "arguments": "{}"}
    assert body["input"][8]["input"] == "SELECT 1"
    assert body["input"][9] == {"type": "function_call_output", "call_id": "c2", "output": INTERRUPTED}

    for item in body["input"]:
        if item.get("role") == "assistant":
            item["id"] = "msg"  # the SDK's type wants the id that we cannot know; the API does not
    adapter = TypeAdapter(ResponseCreateParamsStreaming)
    checked = adapter.validate_python(body, strict=True)
    list(checked["tools"])  # iterables are checked as they are read


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("gpt-4o-mini", False),
        ("openai/gpt-4.1", False),
        ("ft:gpt-4o-2024-08-06:org::id", False),
        ("gpt-5-chat-latest", False),
        ("gpt-5.2-chat-latest", False),
        ("chatgpt-4o-latest", False),
        ("gpt-5", True),
        ("gpt-5.3-codex", True),
        ("o3", True),
        ("openai/gpt-oss-20b", True),
        ("tiny", True),
    ],
)
def test_encrypted_reasoning_is_asked_of_models_that_reason(model: str, reasons: bool) -> None:
    assert ("include" in body_of(model=model)) is reasons


def test_a_bare_request_leaves_the_defaults_to_the_provider() -> None:
    assert sorted(body_of(UserMessage((TextPart("Hi"),)))) == ["include", "input", "model", "store", "stream"]


@given(st.lists(TOLD, max_size=4))
def test_what_was_told_comes_back_in_order(told: list[tuple[str, Any]]) -> None:
    """The tool loop: items of a reply are items of the next request, hosted tools and calls verbatim."""
    told = [(of, value) for of, value in told if of not in ENTRIES or value]
    reply, _ = replied(*Server(Way(True, "stable", True, frozenset({"deltas", "item_done"}))).tell(told))
    sent = [item for item in body_of(reply.message())["input"] if not item["type"].endswith("_output")]
    kinds = [of for of, value in told for _ in (value if of == "message" else [0])]
    assert [item["type"] for item in sent] == kinds
    whole = [item for item in sent if item["type"] != "message"]
    assert whole == [
        {**item_of(n, of, value), "id": f"item_{n}"} for n, (of, value) in enumerate(told) if of != "message"
    ]
