"""The scripted provider: whatever a script says, the official SDKs hear, over real wire bytes; and the demo's brain.

Timing tests run on a virtual clock. The SDK clients are made and closed as the product does it.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import openai
import pytest
import trio
from anthropic import APIStatusError, AsyncAnthropic
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from openai import AsyncOpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState
from trio.testing import MockClock

from sluicegate.machine.deltas import CallDelta, End, Finish, FinishReason, TextDelta, UsageDelta
from sluicegate.machine.errors import ErrorCode
from sluicegate.providers.demo import WORDS_PER_SECOND, demo_brain
from sluicegate.providers.script import (
    Action,
    Call,
    Cut,
    Fail,
    Pause,
    Refuse,
    Reply,
    Reset,
    Say,
    Stall,
    Status,
    Think,
    Unreachable,
    cut_words,
    perform,
)
from sluicegate.providers.scripted import Brain, ScriptedTransport
from sluicegate.providers.scripted_request import OfferedTool, Returned, Said, ScriptedRequest, decode_request

# openai's stream leaves its inner generator behind at `[DONE]`, which Trio reports
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")

DIALECTS = ["openai_chat", "openai_responses", "anthropic_messages"]
CUT = {"length", "max_output_tokens", "max_tokens"}  # the dialects' reasons
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Heard(msgspec.Struct):
    """What an SDK made of one reply, in one vocabulary."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[tuple[str, object]] = []
    ids: list[str] = []
    reason: str = ""
    usage: tuple[int, int] = (0, 0)


# --- one question over each SDK; a history is a list of (role, text), or of calls and results


class Turn(msgspec.Struct, frozen=True):
    """A question, then the calls that the model made and what they gave: (id, name, arguments, result)."""

    question: str
    results: tuple[tuple[str, str, str, str], ...] = ()
    tools: tuple[OfferedTool, ...] = ()


@asynccontextmanager
async def http(transport: httpx2.AsyncBaseTransport) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=transport, trust_env=False) as client:
        yield client


async def ask_chat(client: httpx2.AsyncClient, turn: Turn, retries: int) -> Heard:
    messages: list[Any] = [{"role": "system", "content": "Be nice."}, {"role": "user", "content": turn.question}]
    if turn.results:
        calls = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a, _ in turn.results]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": i, "content": r} for i, _, _, r in turn.results]
    tools: list[Any] = [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
        for t in turn.tools
    ]
    heard = Heard()
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    sdk = AsyncOpenAI(api_key="k", base_url="http://x/v1", http_client=client, max_retries=retries)
    options: Any = {"tools": tools} if tools else {}
    stream = await sdk.chat.completions.create(
        model="m", messages=messages, stream=True, stream_options={"include_usage": True}, **options
    )
    async with stream:
        async for chunk in stream:
            state.handle_chunk(chunk)
            for choice in chunk.choices:
                heard.reasoning += getattr(choice.delta, "reasoning_content", "")
    whole = state.current_completion_snapshot
    message = whole.choices[0].message
    heard.text, heard.refusal = message.content or "", message.refusal or ""
    heard.calls = [(c.function.name, json.loads(c.function.arguments or "{}")) for c in message.tool_calls or ()]
    heard.ids = [c.id for c in message.tool_calls or ()]
    heard.reason = whole.choices[0].finish_reason or ""
    heard.usage = (whole.usage.prompt_tokens, whole.usage.completion_tokens) if whole.usage else (0, 0)
    return heard


async def ask_responses(client: httpx2.AsyncClient, turn: Turn, retries: int) -> Heard:
    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": turn.question}]}]
    for call_id, name, arguments, result in turn.results:
        items.append({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments})
        items.append({"type": "function_call_output", "call_id": call_id, "output": result})
    tools: list[Any] = [
        {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": False}
        for t in turn.tools
    ]
    heard = Heard()
    sdk = AsyncOpenAI(api_key="k", base_url="http://x/v1", http_client=client, max_retries=retries)
    stream = await sdk.responses.create(model="m", input=items, tools=tools, instructions="Be nice.", stream=True)
    last: Any = None
    async with stream:
        async for event in stream:
            last = event
    if not last.type.startswith("response."):
        raise EOFError(last.type)
    for item in last.response.output:
        if item.type == "message":
            heard.text += "".join(c.text for c in item.content if c.type == "output_text")
            heard.refusal += "".join(c.refusal for c in item.content if c.type == "refusal")
        elif item.type == "reasoning":
            heard.reasoning += "".join(summary.text for summary in item.summary)
        else:
            heard.calls.append((item.name, json.loads(item.arguments or "{}")))
            heard.ids.append(item.call_id)
    cut = last.response.incomplete_details
    heard.reason = cut.reason if cut else last.response.error.code if last.response.error else last.response.status
    usage = last.response.usage
    heard.usage = (usage.input_tokens, usage.output_tokens) if usage else (0, 0)
    return heard


async def ask_messages(client: httpx2.AsyncClient, turn: Turn, retries: int) -> Heard:
    messages: list[Any] = [{"role": "user", "content": turn.question}]
    if turn.results:
        calls = [{"type": "tool_use", "id": i, "name": n, "input": json.loads(a)} for i, n, a, _ in turn.results]
        messages.append({"role": "assistant", "content": calls})
        results = [{"type": "tool_result", "tool_use_id": i, "content": r} for i, _, _, r in turn.results]
        messages.append({"role": "user", "content": results})
    tools: list[Any] = [{"name": t.name, "description": t.description, "input_schema": t.schema} for t in turn.tools]
    heard = Heard()
    sdk = AsyncAnthropic(api_key="k", base_url="http://x", http_client=client, max_retries=retries)
    async with sdk.messages.stream(
        model="m", max_tokens=4096, messages=messages, tools=tools, system=[{"type": "text", "text": "Be nice."}]
    ) as stream:
        whole = await stream.get_final_message()
    for block in whole.content:
        if block.type == "text":
            heard.text += block.text
        elif block.type == "thinking":
            heard.reasoning += block.thinking
        elif block.type == "tool_use":
            heard.calls.append((block.name, block.input))
            heard.ids.append(block.id)
    heard.reason = whole.stop_reason or ""
    heard.usage = (whole.usage.input_tokens, whole.usage.output_tokens)
    return heard


Ask = Callable[[httpx2.AsyncClient, Turn, int], Awaitable[Heard]]
ASK: dict[str, Ask] = {
    "openai_chat": ask_chat,
    "openai_responses": ask_responses,
    "anthropic_messages": ask_messages,
}


async def ask(dialect: str, transport: ScriptedTransport, turn: Turn | str = "Hi?", retries: int = 0) -> Heard:
    turn = Turn(turn) if isinstance(turn, str) else turn
    async with http(transport) as client:
        return await ASK[dialect](client, turn, retries)


def on_virtual_time(function: Callable[[], Awaitable[Any]]) -> Any:
    return trio.run(function, clock=MockClock(autojump_threshold=0))


# --- what a script says is what the SDKs hear

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
arguments = st.dictionaries(texts, st.integers(-99, 99) | texts | st.booleans() | st.none(), max_size=3)
actions = st.one_of(
    st.builds(Say, texts, st.integers(0, 3), st.sampled_from([0.0, 10.0])),
    st.builds(Think, texts, st.sampled_from(["", "c2ln"]), st.integers(0, 3)),
    st.builds(Refuse, texts, st.integers(0, 3)),
    st.builds(Call, st.from_regex(r"[a-z_]{1,9}", fullmatch=True), arguments, size=st.integers(0, 5)),
    st.builds(Pause, st.floats(0, 5)),
)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(DIALECTS),
    st.lists(actions, max_size=5),
    st.none() | st.tuples(st.integers(0, 999), st.integers(0, 999)),
    st.integers(0, 40),
    st.none() | st.integers(0, 9),
)
def test_what_a_script_says_is_what_the_sdks_hear(
    dialect: str, script: list[Action], usage: tuple[int, int] | None, pieces: int, seed: int | None
) -> None:
    reply = [*script, UsageDelta(*usage)] if usage else script
    transport = ScriptedTransport([reply], pieces=pieces, seed=seed)
    heard: Heard = on_virtual_time(lambda: ask(dialect, transport))
    said = "".join(a.text for a in script if isinstance(a, Say))
    refused = "".join(a.text for a in script if isinstance(a, Refuse))
    calls = [(a.name, a.arguments) for a in script if isinstance(a, Call)]
    if dialect == "anthropic_messages":  # refusals are text there, in their place
        assert heard.text == "".join(a.text for a in script if isinstance(a, Say | Refuse))
    else:
        assert (heard.text, heard.refusal) == (said, refused)
    assert heard.reasoning == "".join(a.text for a in script if isinstance(a, Think))
    assert heard.calls == calls
    assert len(set(heard.ids)) == len(calls)
    stop = {"openai_chat": "stop", "openai_responses": "completed", "anthropic_messages": "end_turn"}[dialect]
    tool = {"openai_chat": "tool_calls", "openai_responses": "completed", "anthropic_messages": "tool_use"}[dialect]
    if dialect == "anthropic_messages" and any(isinstance(a, Refuse) for a in script) and not calls:
        stop = "refusal"
    assert heard.reason == (tool if calls else stop)
    assert usage is None or heard.usage == usage
    assert (transport.opened, transport.closed, transport.active) == (1, 1, 0)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_finish_reason_and_raw_deltas_can_be_scripted(dialect: str) -> None:
    reply: Reply = [
        Say("Wait"),
        CallDelta(0, "a", "one", '{"x"'),
        CallDelta(1, "b", "two", "{}"),
        CallDelta(0, arguments=":1}"),
        Finish(FinishReason.LENGTH, ""),
    ]
    heard = await ask(dialect, ScriptedTransport([reply]))
    assert heard.calls == [("one", {"x": 1}), ("two", {})]
    assert heard.ids == ["a", "b"]
    assert heard.reason in CUT


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_usage_that_a_script_leaves_out_is_counted(dialect: str) -> None:
    heard = await ask(dialect, ScriptedTransport([[Say("one two three")]]), "four words are here")
    assert heard.usage[1] == 3
    assert heard.usage[0] == 6  # the system's two words as well


async def test_a_recording_goes_out_as_it_is() -> None:
    transport = ScriptedTransport([[b": hello\n\n", Pause(0), b"data: [DO", b"NE]\n\n"]])
    assert await body_of(transport) == b": hello\n\ndata: [DONE]\n\n"


async def body_of(transport: ScriptedTransport) -> bytes:
    async with http(transport) as client:
        answer = await client.post("http://x/v1/chat/completions", content=b'{"model":"m","stream":true}')
        assert answer.headers["content-type"].startswith("text/event-stream")
        return answer.content


async def test_bytes_can_stand_among_words() -> None:
    body = await body_of(ScriptedTransport([[Say("Hi"), b": odd\n\n", Say("!"), End(), Say("never")]]))
    assert body.index(b"Hi") < body.index(b": odd\n\n") < body.index(b'"!"') < body.index(b"[DONE]")
    assert b"never" not in body
    assert b'"usage"' not in body


@pytest.mark.parametrize("pieces", [1, 7, 4096])
async def test_reads_have_the_size_that_was_asked_for(pieces: int) -> None:
    whole = b"".join([read async for read in reads_of(ScriptedTransport([[Say("a few words for the reader")]]))])
    reads = [read async for read in reads_of(ScriptedTransport([[Say("a few words for the reader")]], pieces=pieces))]
    assert b"".join(reads) == whole
    assert {len(read) for read in reads[:-1]} <= {pieces}
    assert 0 < len(reads[-1]) <= pieces


async def test_seeded_reads_are_odd_and_the_same_each_time() -> None:
    async def sizes(seed: int) -> list[int]:
        transport = ScriptedTransport([[Say("a few words for the reader")]], pieces=9, seed=seed)
        return [len(read) async for read in reads_of(transport)]

    first = await sizes(1)
    assert first == await sizes(1) != await sizes(2)
    assert set(first) <= set(range(1, 10))
    assert len(set(first)) > 3


async def reads_of(transport: ScriptedTransport) -> AsyncIterator[bytes]:
    request = httpx2.Request("POST", "http://x/v1/messages", content=b'{"model":"m","stream":true}')
    stream: Any = (await transport.handle_async_request(request)).stream
    async for read in stream:
        yield read


# --- time


def test_words_come_at_their_rate_and_pauses_last() -> None:
    async def run() -> None:
        transport = ScriptedTransport([[Pause(1), Say("one two three four", rate=2), Pause(3), Say("end")]])
        start = trio.current_time()
        reads = [(trio.current_time() - start, read) async for read in reads_of(transport)]
        times = [round(when, 6) for when, read in reads if b"text_delta" in read]
        assert times == [1.5, 2.0, 2.5, 3.0, 6.0]

    on_virtual_time(run)


def test_a_stall_lasts_until_the_reader_leaves_and_the_upstream_is_closed() -> None:
    async def run() -> None:
        transport = ScriptedTransport([[Say("Hi"), Stall()]])
        start = trio.current_time()
        async with http(transport) as client:
            with trio.move_on_after(60) as scope:
                await client.post("http://x/v1/messages", content=b'{"model":"m","stream":true}')
        assert scope.cancelled_caught
        assert trio.current_time() - start == pytest.approx(60)
        assert (transport.opened, transport.closed, transport.active) == (1, 1, 0)

    on_virtual_time(run)


async def test_closing_twice_counts_once_and_needs_no_checkpoint() -> None:
    transport = ScriptedTransport([[Say("Hi")]])
    request = httpx2.Request("POST", "http://x/responses", content=b'{"model":"m","stream":true}')
    stream: Any = (await transport.handle_async_request(request)).stream
    assert transport.active == 1
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.aclose()
        await stream.aclose()
    assert not scope.cancelled_caught
    assert (transport.opened, transport.closed) == (1, 1)


# --- what goes wrong


@pytest.mark.parametrize("code", [ErrorCode.RATE_LIMITED, ErrorCode.UPSTREAM_ERROR, ErrorCode.CONTEXT_LENGTH])
async def test_an_error_inside_the_stream_reaches_the_sdks(code: ErrorCode) -> None:
    script: Reply = [Say("Hi"), Fail(code, "Sorry."), Say("never")]
    with pytest.raises(openai.APIError, match=r"Sorry\."):
        await ask("openai_chat", ScriptedTransport([script]))
    with pytest.raises(APIStatusError, match=r"Sorry\."):
        await ask("anthropic_messages", ScriptedTransport([script]))
    heard = await ask("openai_responses", ScriptedTransport([script]))
    assert heard.reason in {"rate_limit_exceeded", "server_error", "context_length_exceeded"}


STATUSES = [
    (400, openai.BadRequestError, "invalid_request_error"),
    (401, openai.AuthenticationError, "authentication_error"),
    (404, openai.NotFoundError, "invalid_request_error"),
    (429, openai.RateLimitError, "rate_limit_error"),
    (500, openai.InternalServerError, "api_error"),
    (529, openai.InternalServerError, "overloaded_error"),
]


@pytest.mark.parametrize(("status", "error", "kind"), STATUSES)
async def test_a_status_is_the_providers_own_refusal(status: int, error: type[Exception], kind: str) -> None:
    for dialect in ("openai_chat", "openai_responses"):
        transport = ScriptedTransport([[Status(status)]])
        with pytest.raises(error):
            await ask(dialect, transport)
        assert transport.opened == 0
    with pytest.raises(APIStatusError) as refused:
        await ask("anthropic_messages", ScriptedTransport([[Status(status)]]))
    body: Any = refused.value.body
    assert (refused.value.status_code, body["error"]["type"]) == (status, kind)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_sdks_retry_as_the_headers_say(dialect: str) -> None:
    async def run() -> None:
        script: list[Reply] = [[Pause(2), Status(429, {"Retry-After": "7"}, b'{"error":{}}')], [Say("Now.")]]
        transport = ScriptedTransport(script)
        assert (await ask(dialect, transport, retries=1)).text == "Now."
        assert trio.current_time() >= 9
        assert len(transport.requests) == 2

    on_virtual_time(run)


async def test_an_unreachable_provider_is_a_connection_error() -> None:
    transport = ScriptedTransport([[Unreachable()]])
    with pytest.raises(openai.APIConnectionError):
        await ask("openai_chat", transport)
    assert transport.opened == 0


@pytest.mark.parametrize("pieces", [0, 5])
async def test_a_reset_is_a_read_error_after_what_was_sent(pieces: int) -> None:
    transport = ScriptedTransport([[Say("Hi"), Reset()]], pieces=pieces)
    reads: list[bytes] = []

    async def read_all() -> None:
        async for read in reads_of(transport):
            reads.append(read)  # noqa: PERF401  (what came before the error is looked at)

    with pytest.raises(httpx2.ReadError):
        await read_all()
    assert b'"Hi"' in b"".join(reads)


async def test_a_cut_ends_the_body_without_a_terminal() -> None:
    scripts: list[Reply] = [[Cut()], [Say("Hi"), Cut(), Say("never")]]
    for script in scripts:
        data = b"".join([read async for read in reads_of(ScriptedTransport([script]))])
        assert b"message_stop" not in data
        assert b"never" not in data
        assert data.endswith(b"\n\n") or data == b""
    finished: Reply = [Say("Hi"), Finish(FinishReason.STOP, ""), Cut()]
    data = b"".join([read async for read in reads_of(ScriptedTransport([finished]))])
    assert b"message_delta" in data
    assert b"message_stop" not in data


async def test_no_reply_left_is_an_error_that_no_sdk_retries() -> None:
    transport = ScriptedTransport([[Say("only one")]])
    async with http(transport) as client:
        await ask_chat(client, Turn("?"), 0)
        with pytest.raises(openai.InternalServerError):
            await ask_chat(client, Turn("?"), 5)
    assert len(transport.requests) == 2


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/models", b"", 404),
        ("GET", "/v1/messages", b"", 404),
        ("POST", "/v1/embeddings", b"{}", 404),
        ("POST", "/v1/messages", b'{"model":"m"}', 400),
        ("POST", "/v1/responses", b"not json", 400),
        ("POST", "/v1/chat/completions", b'{"stream":true}', 400),
    ],
)
async def test_what_is_no_streaming_request_is_refused(method: str, path: str, body: bytes, status: int) -> None:
    transport = ScriptedTransport([[Say("never")]])
    async with http(transport) as client:
        answer = await client.request(method, f"http://x{path}", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert (transport.opened, transport.requests) == (0, [])


def test_a_status_after_the_response_has_begun_is_a_broken_script() -> None:
    with pytest.raises(ValueError, match="Status after"):
        list(perform([Say("Hi"), Status(500)]))


@given(st.text(), st.integers(0, 4))
def test_words_joined_are_the_text(text: str, words: int) -> None:
    pieces = cut_words(text, words)
    assert "".join(pieces) == text
    assert all(len(piece.split()) <= words for piece in pieces) or words == 0


# --- what the brain is told


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_brain_sees_the_same_request_in_every_dialect(dialect: str) -> None:
    transport = ScriptedTransport([[Say("ok")]])
    tool = OfferedTool("get_weather", "Get the weather.", dict(WEATHER))
    results = (
        ("c1", "get_weather", '{"city":"Oslo"}', "3 degrees"),
        ("c2", "get_weather", '{"city":"Bergen"}', "rain"),
    )
    await ask(dialect, transport, Turn("Oslo and Bergen?", results, (tool,)))
    (seen,) = transport.requests
    assert (seen.dialect, seen.model, seen.question) == (dialect, "m", "Oslo and Bergen?")
    assert seen.tools == (tool,)
    told = [Returned(i, n, "", r) for i, n, _, r in results]
    assert [msgspec.structs.replace(result, arguments="") for result in seen.results] == told
    assert [json.loads(result.arguments)["city"] for result in seen.results] == ["Oslo", "Bergen"]
    assert [(said.role, said.text) for said in seen.messages] == [
        ("system", "Be nice."),
        ("user", "Oslo and Bergen?"),
        ("tool", "3 degrees"),
        ("tool", "rain"),
    ]


def test_results_before_the_last_question_are_over() -> None:
    body = {
        "model": "m",
        "stream": True,
        "input": [
            {"role": "developer", "content": "Be nice."},
            {"role": "user", "content": "a"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "r"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
            {"role": "user", "content": [{"type": "input_text", "text": "b"}, {"type": "input_image"}]},
        ],
    }
    seen = decode_request("openai_responses", msgspec.json.encode(body))
    assert seen.results == ()
    assert [said.role for said in seen.messages] == ["system", "user", "tool", "assistant", "user"]
    assert decode_request("openai_responses", b'{"model":"m","stream":true,"input":"hey"}').question == "hey"


# --- the demo


def tool(name: str, description: str = "", required: Sequence[str] | None = None, **properties: object) -> OfferedTool:
    wanted = list(properties) if required is None else list(required)
    return OfferedTool(name, description, {"type": "object", "properties": properties, "required": wanted})


TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
WEATHER_TOOL = tool("get_weather", "Get the weather forecast for a city.", ["city"], city=TEXT, days=WHOLE)
CALCULATE = tool("calculate", "Calculate an arithmetic expression exactly.", expression=TEXT)
CLOCK = OfferedTool("current_time", "Get the date and time.", {"properties": {"zone": {**TEXT, "default": "UTC"}}})
OFFERED = (WEATHER_TOOL, CALCULATE, CLOCK)

DEMO_CALLS: list[tuple[str, tuple[OfferedTool, ...], list[tuple[str, object]]]] = [
    ("What is the weather in New York?", OFFERED, [("get_weather", {"city": "New York"})]),
    ("what's the weather in paris?", OFFERED, [("get_weather", {"city": "paris"})]),
    ("Paris weather?", OFFERED, [("get_weather", {"city": "Paris"})]),
    ("Weather in Paris and Oslo", OFFERED, [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Oslo"})]),
    (
        "How hot is it in paris, oslo and rome?",
        OFFERED,
        [("get_weather", {"city": city}) for city in ("paris", "oslo", "rome")],
    ),
    ("The weather in São Paulo or in Łódź?", OFFERED, [("get_weather", {"city": c}) for c in ("São Paulo", "Łódź")]),
    ("weather in Paris, France?", OFFERED, [("get_weather", {"city": "Paris, France"})]),
    ("Is it raining in Rio de Janeiro today?", OFFERED, [("get_weather", {"city": "Rio de Janeiro"})]),
    ("weather in paris and tell me a joke", OFFERED, [("get_weather", {"city": "paris"})]),
    ('How is the weather in "Nowhere"?', OFFERED, [("get_weather", {"city": "Nowhere"})]),
    ("What is 17 * 23?", OFFERED, [("calculate", {"expression": "17 * 23"})]),
    ("What is three plus... no, 1,000 plus 4?", OFFERED, [("calculate", {"expression": "1000 + 4"})]),
    ("What's the square root of 81?", OFFERED, [("calculate", {"expression": "sqrt(81)"})]),
    ("What time is it in Tokyo?", OFFERED, [("current_time", {})]),
    ("Where is my order 12345?", (tool("lookup_order", order_id=TEXT),), [("lookup_order", {"order_id": "12345"})]),
    (
        "Translate 'good morning' to French",
        (tool("translate", target_language=TEXT, text=TEXT),),
        [("translate", {"target_language": "French", "text": "good morning"})],
    ),
    (
        "Convert 100.5 USD to EUR",
        (tool("convert_currency", amount={"type": "number"}, from_currency=TEXT, to_currency=TEXT),),
        [("convert_currency", {"amount": 100.5, "from_currency": "USD", "to_currency": "EUR"})],
    ),
    (
        "Which flights go to Paris from Oslo?",
        (tool("find_flights", origin=TEXT, destination=TEXT),),
        [("find_flights", {"origin": "Oslo", "destination": "Paris"})],
    ),
    ("What is 6 times 7?", (tool("multiply", a=WHOLE, b=WHOLE),), [("multiply", {"a": 6, "b": 7})]),
    ("Roll a 20-sided die for me", (tool("rollDie", sides=WHOLE),), [("rollDie", {"sides": 20})]),
    (
        "Search the docs for cancel scopes",
        (tool("search", "Search the docs.", query=TEXT),),
        [("search", {"query": "cancel scopes"})],
    ),
    (
        "Send an email to bob@example.com about lunch",
        (tool("send_email", to_email=TEXT, subject=TEXT),),
        [("send_email", {"to_email": "bob@example.com", "subject": "lunch"})],
    ),
    (
        "Add 3, 4 and 5.5",
        (tool("add", numbers={"type": "array", "items": {"type": "number"}}),),
        [("add", {"numbers": [3, 4, 5.5]})],
    ),
    (
        "Compare the populations of Norway and Sweden",
        (tool("population", countries={"type": "array", "items": TEXT}),),
        [("population", {"countries": ["Norway", "Sweden"]})],
    ),
    ("Who won in Rome?", (tool("foo", "Bar.", x=TEXT),), [("foo", {"x": "Rome"})]),
    (
        "How tall is Everest?",
        (OfferedTool("height", "", {"properties": {"mountain": TEXT}}),),
        [("height", {"mountain": "Everest"})],
    ),
    (
        "How warm is it in Oslo in fahrenheit?",
        (tool("temperature", city=TEXT, unit={"enum": ["celsius", "fahrenheit"]}),),
        [("temperature", {"city": "Oslo", "unit": "fahrenheit"})],
    ),
    (
        "Turn on the kitchen light",
        (
            OfferedTool(
                "set_light",
                "",
                {
                    "properties": {
                        "room": {"$ref": "#/$defs/Room"},
                        "on": {"type": "boolean"},
                        "level": {"type": ["integer", "null"], "minimum": 1},
                        "options": {"type": "object", "properties": {"v": {"const": 2}}, "required": ["v"]},
                        "why": {"anyOf": [{"type": "null"}, {"type": "string", "default": "asked"}]},
                        "none": {"type": "null"},
                    },
                    "required": ["room", "on", "level", "options", "why", "none"],
                    "$defs": {"Room": {"type": "string", "enum": ["bath", "kitchen"], "default": "bath"}},
                },
            ),
        ),
        [("set_light", {"room": "kitchen", "on": True, "level": 1, "options": {"v": 2}, "why": "asked", "none": None})],
    ),
]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_demo_calls_the_tool_that_the_question_calls_for(dialect: str) -> None:
    async def run() -> None:
        for question, tools, calls in DEMO_CALLS:
            heard = await ask(dialect, ScriptedTransport(demo_brain), Turn(question, tools=tools))
            assert (question, heard.calls) == (question, calls)
            assert heard.text.startswith("One moment")
            assert len(set(heard.ids)) == len(calls)

    on_virtual_time(run)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_demo_shows_what_answers_look_like(dialect: str) -> None:
    async def run() -> None:
        for question, sign, least in (
            ("What can Markdown do?", "```python", 150),
            ("A long answer, please", "## Chapter 9", 1500),
        ):
            heard = await ask(dialect, ScriptedTransport(demo_brain), Turn(question, tools=OFFERED))
            assert heard.calls == []
            assert sign in heard.text
            assert len(heard.text.split()) > least

    on_virtual_time(run)


def terse(most: int) -> Brain:
    """The demo's, of which no more is asked than that."""
    return lambda request: demo_brain(replace(request, max_output_tokens=most))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("question", ["What can Markdown do?", "What is the weather in Oslo?", "Hello there"])
def test_the_demo_says_no_more_than_it_may(question: str, dialect: str) -> None:
    async def run() -> None:
        whole = await ask(dialect, ScriptedTransport(demo_brain), Turn(question, tools=OFFERED))
        for most in (1, 5, 12, whole.usage[1] - 1, whole.usage[1], whole.usage[1] + 1):
            heard = await ask(dialect, ScriptedTransport(terse(most)), Turn(question, tools=OFFERED))
            assert heard.usage[1] <= most
            assert whole.reasoning.startswith(heard.reasoning)
            assert whole.text.startswith(heard.text)
            assert (heard.reason in CUT) == (most < whole.usage[1])
            if heard.reason in CUT:
                assert heard.calls == []
            else:
                assert heard == whole

    on_virtual_time(run)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_scripted_model_hears_how_much_it_may_say(dialect: str) -> None:
    for name in {"anthropic_messages": ["max_tokens"], "openai_responses": ["max_output_tokens"]}.get(
        dialect, ["max_tokens", "max_completion_tokens"]
    ):
        body = json.dumps({"model": "m", "stream": True, name: 7}).encode()
        assert decode_request(dialect, body).max_output_tokens == 7


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_demo_tells_the_results_in_words(dialect: str) -> None:
    weather = '{"city":"Paris","sky":"light rain","forecast":[{"day":1,"temperature":12}],"demo":true,"note":null}'

    async def run() -> None:
        results = (
            ("c1", "get_weather", '{"city":"Paris"}', weather),
            ("c2", "currentTime", "{}", "Noon."),
            ("c3", "get_weather", '{"city":"Oslo"}', "x" * 900),
        )
        heard = await ask(dialect, ScriptedTransport(demo_brain), Turn("?", results, OFFERED))
        assert heard.calls == []
        assert heard.text.startswith("For Paris, the get weather tool says: city Paris, sky light rain")
        assert "temperature 12, demo yes, note nothing. The current time tool says: Noon. For Oslo" in heard.text
        assert len(heard.text) < 900

    on_virtual_time(run)


@pytest.mark.parametrize(
    ("question", "tools"),
    [
        ("Hello there", ()),
        ("Hello there", OFFERED),
        ("How are you?", (WEATHER_TOOL,)),
        ("Is it late?", (tool("now"),)),
        ("Tell me a story about dragons", OFFERED),
        ("", OFFERED),
        ("w " * 400, ()),
    ],
)
def test_the_demo_says_what_it_is_and_repeats_the_question(question: str, tools: tuple[OfferedTool, ...]) -> None:
    messages = (Said("user", question),) if question else ()
    (said,) = demo_brain(ScriptedRequest("openai_chat", "m", messages, tools))
    assert isinstance(said, Say)
    assert "scripted demo model" in said.text
    assert question.strip()[:300] in said.text
    assert len(said.text) < 1000
    assert ("get weather tool" in said.text) == (WEATHER_TOOL in tools)


def test_the_demo_asks_back_where_the_question_names_no_value() -> None:
    (said,) = demo_brain(ScriptedRequest("openai_chat", "m", (Said("user", "Tell me the weather"),), OFFERED))
    assert isinstance(said, Say)
    assert said.text.endswith("but which city do you mean?")


def test_the_demo_speaks_at_its_rate_and_the_same_each_time() -> None:
    async def run() -> tuple[float, str]:
        start = trio.current_time()
        heard = await ask("openai_chat", ScriptedTransport(demo_brain), "Tell me something")
        return trio.current_time() - start, heard.text

    seconds, text = on_virtual_time(run)
    assert seconds == pytest.approx(len(text.split()) / WORDS_PER_SECOND, rel=0.01)
    assert on_virtual_time(run) == (pytest.approx(seconds), text)


schemas = st.recursive(
    st.sampled_from([{}, TEXT, WHOLE, {"type": "number"}, {"enum": [1, "a"]}, {"type": "boolean"}, {"$ref": "#/x"}]),
    lambda inner: st.one_of(
        st.builds(lambda s: {"type": "array", "items": s}, inner),
        st.builds(lambda p: {"type": "object", "properties": p}, st.dictionaries(texts, inner, max_size=2)),
        st.builds(lambda s: {"anyOf": [{"type": "null"}, s]}, inner),
    ),
    max_leaves=4,
)


@settings(deadline=None)
@given(texts | st.sampled_from([row[0] for row in DEMO_CALLS]), st.dictionaries(texts, schemas, max_size=3), texts)
def test_the_demo_survives_any_question_and_any_tool(question: str, properties: dict[str, Any], name: str) -> None:
    brain: Brain = demo_brain
    properties["loop"] = {"$ref": "#/properties/loop"}
    offered = (
        tool(name, question),
        OfferedTool(name, "", {"properties": properties, "required": [*properties, "z"]}),
    )
    request = ScriptedRequest("openai_chat", "m", (Said("user", question),), offered)
    reply = brain(request)
    assert reply == brain(request)
    assert any(isinstance(moment, TextDelta) for moment in perform(reply))
    assert all(json.dumps(action.arguments) for action in reply if isinstance(action, Call))
