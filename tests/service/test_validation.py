"""Requests that are wrong: each is answered with a status and a message that names the field and the cure."""

import json
from collections.abc import Iterator
from typing import Any

import h11
import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.machine.history import (
    AssistantMessage,
    CallPart,
    ImagePart,
    Message,
    Request,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)
from sluicegate.providers.dialects import DIALECTS as CHOICES
from sluicegate.providers.dialects import dialect_of
from sluicegate.providers.script import Say
from sluicegate.service.body import MAX_MESSAGES, MAX_PARTS, decode_chat, history
from sluicegate.service.options import ServiceOptions
from sluicegate.service.problems import Problem
from sluicegate.wire.upstream.profiles import AUTO

from .harness import JSON, LINKS, Answer, SocketExchange, Stack, over, stack, virtually

HI = b'{"role":"user","content":"Hi"}'
DEEP = 100_000


def chat(*messages: bytes, more: bytes = b"") -> bytes:
    return b'{"messages":[' + b",".join(messages or (HI,)) + b"]" + more + b"}"


def user(content: bytes) -> bytes:
    return chat(b'{"role":"user","content":' + content + b"}")


def called(arguments: bytes) -> bytes:
    """A conversation in which the assistant called a tool with `arguments`."""
    call = b'{"id":"a","name":"f","arguments":' + arguments + b"}"
    result = b'{"role":"tool","tool_call_id":"a","content":"x"}'
    return chat(HI, b'{"role":"assistant","tool_calls":[' + call + b"]}", result)


BAD: dict[str, tuple[bytes, str, str]] = {
    # name: body, field, words of the message
    "no body": (b"", "", "not valid JSON"),
    "cut": (b'{"messages":[', "", "not valid JSON"),
    "two documents": (chat() + chat(), "", "not valid JSON"),
    "NaN": (chat(more=b',"temperature":NaN'), "", "not valid JSON"),
    "invalid UTF-8": (user(b'"\xff"'), "", "UTF-8"),
    "encoded surrogate": (user(b'"\xed\xa0\x80"'), "", "UTF-8"),
    "lone surrogate": (user(rb'"\ud800"'), "", "not valid JSON"),
    "low surrogate first": (user(rb'"\udc00\ud800"'), "", "not valid JSON"),
    "surrogate in system": (chat(more=rb',"system":"\udfff"'), "", "not valid JSON"),
    "deep array": (b"[" * DEEP + b"]" * DEEP, "", "expected"),
    "deep unknown field": (b'{"x":' * DEEP + b"1" + b"}" * DEEP, "x", "known are messages, model"),
    "deep content": (user(b"[" * DEEP + b"]" * DEEP), "messages[0].content[0]", "expected `object`"),
    "deep arguments": (called(b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}"), "", "nested too deeply"),
    "deep arguments in text": (
        called(b'"{\\"a\\":' + b"[" * DEEP + b"]" * DEEP + b'}"'),
        "messages[1].tool_calls[0].arguments",
        "nested deeper than 100 levels; send flatter",
    ),
    "array": (b"[]", "", "expected `object`, got `array`"),
    "string": (b'"Hi"', "", "expected `object`, got `str`"),
    "null": (b"null", "", "expected `object`, got `null`"),
    "missing messages": (b"{}", "messages", "missing required field"),
    "no messages": (b'{"messages":[]}', "messages", "at least one message"),
    "messages is text": (b'{"messages":"Hi"}', "messages", "expected `array`, got `str`"),
    "message is text": (b'{"messages":["Hi"]}', "messages[0]", "expected `object`, got `str`"),
    "too many": (chat(*[HI] * (MAX_MESSAGES + 1)), "messages", f"the limit is {MAX_MESSAGES}; send fewer"),
    "too many parts": (
        user(b"[" + b",".join([b'{"type":"text","text":"x"}'] * (MAX_PARTS + 1)) + b"]"),
        "messages",
        f"{MAX_PARTS + 1} parts of content and tool calls, the limit is {MAX_PARTS}; send fewer",
    ),
    "unknown field": (chat(more=b',"temprature":1'), "temprature", "known are messages, model, system"),
    "unknown message field": (chat(b'{"role":"user","text":"Hi"}'), "messages[0].text", "known are role, content"),
    "missing role": (chat(b'{"content":"Hi"}'), "messages[0].role", "missing required field"),
    "bad role": (chat(HI, b'{"role":"robot","content":"Hi"}'), "messages[1].role", "use system, developer, user"),
    "content a number": (user(b"5"), "messages[0].content", "expected `str | array | null`, got `int`"),
    "content null": (user(b"null"), "messages[0].content", "must not be empty"),
    "content empty": (user(b'""'), "messages[0].content", "must not be empty"),
    "content no parts": (user(b"[]"), "messages[0].content", "must not be empty"),
    "bad part": (user(b'[{"type":"video","url":"x"}]'), "messages[0].content[0].type", "use text or image_url"),
    "image by http": (
        user(b'[{"type":"image_url","image_url":{"url":"http://x/y.png"}}]'),
        "messages[0].content",
        "needs an https: or data:image/ URL",
    ),
    "image from a file": (
        user(b'[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]'),
        "messages[0].content",
        "needs an https: or data:image/ URL",
    ),
    "image from an assistant": (
        chat(HI, b'{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"https://x"}}]}', HI),
        "messages[1].content",
        "only user messages hold images",
    ),
    "system without content": (chat(b'{"role":"system"}', HI), "messages[0].content", "is missing"),
    "assistant last": (
        chat(HI, b'{"role":"assistant","content":"Hello"}'),
        "messages[1].role",
        "the last message must be from user or tool",
    ),
    "assistant says nothing": (
        chat(HI, b'{"role":"assistant"}', HI),
        "messages[1].content",
        "needs content or tool_calls",
    ),
    "user calls": (
        chat(b'{"role":"user","content":"Hi","tool_calls":[{"id":"a","name":"f"}]}'),
        "messages[0].tool_calls",
        "only an assistant",
    ),
    "call without id": (
        chat(HI, b'{"role":"assistant","tool_calls":[{"id":"","name":"f"}]}', HI),
        "messages[1].tool_calls[0]",
        "needs an id and a name",
    ),
    "result for an unknown call": (
        chat(HI, b'{"role":"tool","tool_call_id":"nobody","content":"x"}'),
        "messages[1].tool_call_id",
        "'nobody' is not the id of an earlier tool call",
    ),
    "result before its call": (
        chat(
            b'{"role":"tool","tool_call_id":"a","content":"x"}',
            b'{"role":"assistant","tool_calls":[{"id":"a","name":"f"}]}',
            HI,
        ),
        "messages[0].tool_call_id",
        "not the id of an earlier tool call",
    ),
    "arguments an array": (called(b"[1]"), "messages[1].tool_calls[0].arguments", "must be a JSON object"),
    "arguments no JSON": (called(b'"{a:1}"'), "messages[1].tool_calls[0].arguments", "must be a JSON object"),
    "arguments not UTF-8": (called(b'{"a":"\xff"}'), "messages[1].tool_calls[0].arguments", "must be a JSON object"),
    "argument text not UTF-8": (called(b'"\xff"'), "messages[1].tool_calls[0].arguments", "must be a JSON object"),
    "temperature text": (chat(more=b',"temperature":"hot"'), "temperature", "expected `float | null`, got `str`"),
    "temperature high": (chat(more=b',"temperature":2.1'), "temperature", "between 0 and 2"),
    "temperature low": (chat(more=b',"temperature":-1'), "temperature", "between 0 and 2"),
    "temperature infinite": (chat(more=b',"temperature":1e999'), "temperature", "out of range"),
    "no tokens": (chat(more=b',"max_output_tokens":0'), "max_output_tokens", "between 1 and 2147483647"),
    "astronomic tokens": (chat(more=b',"max_output_tokens":1' + b"0" * 60), "max_output_tokens", "between 1 and"),
    "half a token": (chat(more=b',"max_output_tokens":1.5'), "max_output_tokens", "expected `int | null`, got `float`"),
    "tools as text": (chat(more=b',"tools":"calculate"'), "tools", "expected `array | null`, got `str`"),
    "unknown tool": (chat(more=b',"tools":["calculate","rm"]'), "tools", "'rm' is not a tool here; there are: get_wea"),
    "tool twice": (chat(more=b',"tools":["calculate","calculate"]'), "tools", "'calculate' twice"),
    "provider without model": (chat(more=b',"model":"scripted:"'), "model", "write scripted:MODEL"),
    "not streamed": (chat(more=b',"stream":false'), "stream", "leave it out"),
    "other policy": (chat(more=b',"on_disconnect":"stay"'), "on_disconnect", "use cancel or detach"),
}


def check_refused(answer: Answer, status: int, field: str, words: str) -> None:
    assert answer.status == status, answer.body[:300]
    error = answer.error
    assert error["code"] == "INVALID_REQUEST"
    assert error.get("field", "") == field
    assert words.casefold() in error["message"].casefold()
    assert len(error["message"]) <= 500


@pytest.mark.parametrize(("body", "field", "words"), BAD.values(), ids=BAD.keys())
def test_a_bad_body_is_answered_with_field_and_cure(body: bytes, field: str, words: str) -> None:
    async def main() -> None:
        async with stack([]) as up:
            answer = await (await up.open("POST", "/chat", body, JSON)).answer()
            check_refused(answer, 400, field, words)
            assert up.transport.requests == []

    virtually(main)


def test_a_message_never_repeats_the_whole_body() -> None:
    long = b"x" * 1_000_000
    for body in (
        chat(more=b',"' + long + b'":1'),
        chat(HI, b'{"role":"tool","content":"","tool_call_id":"%b"}' % long),
    ):
        with pytest.raises(Problem) as caught:
            history(decode_chat(body))
        assert len(msgspec.json.encode(caught.value.info)) < 2_000


# --- around the body


async def refused(up: Stack, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return await (await up.open(method, path, body, fields)).answer()


@LINKS
def test_headers_sizes_methods_and_paths(socket: bool) -> None:
    async def main() -> None:
        options = ServiceOptions(max_body_bytes=1_000)
        async with stack([], socket=socket, options=options) as up:
            check_refused(await refused(up, "POST", "/chat", chat()), 415, "Content-Type", "application/json")
            answer = await refused(up, "POST", "/chat", chat(), content_type="text/plain")
            check_refused(answer, 415, "Content-Type", "application/json")
            answer = await refused(
                up, "POST", "/chat", chat(), content_type="application/json", content_encoding="gzip"
            )
            check_refused(answer, 415, "Content-Encoding", "uncompressed")
            large = user(b'"' + b"x" * 1_000 + b'"')
            answer = await refused(up, "POST", "/chat", large, content_type="application/json")
            check_refused(answer, 413, "", "too large (max_body_bytes)")
            answer = await refused(up, "GET", "/chat")
            check_refused(answer, 405, "", "not allowed")
            assert "POST" in (answer.header("Allow") or "")
            assert "GET" not in (answer.header("Allow") or "")
            for method, path in (("GET", "/nothing"), ("POST", "/chat/"), ("POST", "/chat/x")):
                check_refused(await refused(up, method, path), 404, "", "nothing here")
            for method, path in (("DELETE", "/chat"), ("POST", "/runs/abc/events"), ("GET", "/runs/abc")):
                assert (await refused(up, method, path)).status == 405
            answer = await refused(up, "GET", "/healthz")
            assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
            assert up.transport.requests == []

    over(socket, main)


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_by_any_spelling(media_type: str) -> None:
    async def main() -> None:
        async with stack([[Say("Yes.")]]) as up:
            assert (await refused(up, "POST", "/chat", chat(), content_type=media_type)).status == 200

    virtually(main)


@pytest.mark.sockets
def test_a_body_without_a_length_is_measured_as_it_comes() -> None:
    async def main() -> None:
        async with stack([], socket=True, options=ServiceOptions(max_body_bytes=1_000)) as up:
            stream = await trio.open_tcp_stream("127.0.0.1", int(up.url.rpartition(":")[2]))
            fields = b"Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            await stream.send_all(
                b"POST /chat HTTP/1.1\r\n"
                + fields
                + b"320\r\n"
                + b" " * 800
                + b"\r\n"
                + b"320\r\n"
                + b" " * 800
                + b"\r\n"
            )
            exchange = SocketExchange(stream)
            exchange._http.send(h11.Request(method="POST", target="/chat", headers=[("Host", "x")]))
            await exchange.head()
            assert exchange.status == 413
            await stream.aclose()

    over(True, main)


@pytest.mark.sockets
def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def main() -> None:
        async with stack([], socket=True, options=ServiceOptions(body_seconds=0.05)) as up:
            exchange = SocketExchange(await trio.open_tcp_stream("127.0.0.1", int(up.url.rpartition(":")[2])))
            request = h11.Request(
                method="POST", target="/chat", headers=[("Host", "x"), ("Content-Length", "9"), *JSON.items()]
            )
            await exchange._stream.send_all(exchange._http.send(request) or b"")
            await exchange.head()
            assert exchange.status == 408
            await exchange.leave()

    over(True, main)


# --- laws

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def or_anything(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(strategy, strategy, strategy, json_values)


def some_of(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


ids = st.sampled_from(["a", "b", ""])
arguments = st.sampled_from(['{"a": 1}', "", "{", "[]", '"x"', '{"a": "\\ud800"}']) | json_values
calls = some_of(
    {
        "id": or_anything(ids),
        "type": or_anything(st.just("function")),
        "name": or_anything(st.sampled_from(["f", ""])),
        "arguments": arguments,
        "function": or_anything(some_of({"name": or_anything(st.just("f")), "arguments": arguments})),
    }
)
part_values = some_of(
    {
        "type": st.sampled_from(["text", "image_url", "audio"]),
        "text": or_anything(st.text(max_size=5)),
        "image_url": or_anything(some_of({"url": st.sampled_from(["https://x", "http://x", "data:image/png,", "é"])})),
    }
)
messages = some_of(
    {
        "role": st.sampled_from(["system", "developer", "user", "user", "assistant", "tool", "robot"]),
        "content": or_anything(st.text(max_size=5) | st.lists(part_values, max_size=2)),
        "tool_calls": or_anything(st.lists(calls, max_size=2)),
        "tool_call_id": or_anything(ids),
        "name": or_anything(st.just("f")),
    }
)
documents = json_values | some_of(
    {
        "messages": or_anything(st.lists(messages, min_size=1, max_size=4)),
        "model": or_anything(st.sampled_from(["", "scripted:m", "claude", "x:y", ":"])),
        "system": or_anything(st.text(max_size=5)),
        "tools": or_anything(st.lists(st.sampled_from(["calculate", "rm"]), max_size=2)),
        "on_disconnect": or_anything(st.sampled_from(["cancel", "detach"])),
        "max_output_tokens": or_anything(st.integers(0, 10)),
        "temperature": or_anything(st.floats(0, 3)),
        "stream": or_anything(st.just(True)),
    }
)


def check_taken_or_refused(body: bytes) -> bool:
    """Return whether `body` is taken, not refused with status 400 and a message.

    A request that is taken has an encoding in every dialect.
    """
    try:
        asked = decode_chat(body)
        said = history(asked)
    except Problem as problem:
        return not (problem.status == 400 and problem.info.message)
    request = Request("m", said, (), asked.max_output_tokens, asked.temperature)
    for choice in CHOICES:
        json.loads(dialect_of(choice, AUTO).encode(request))
    return True


@given(document=documents)
@settings(max_examples=200, deadline=None)
def test_any_json_is_taken_or_refused(document: Any) -> None:
    check_taken_or_refused(json.dumps(document).encode())


FULL: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be nice."},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "https://x"}}]},
        {
            "role": "assistant",
            "content": "Two calls.",
            "tool_calls": [
                {"id": "a", "name": "f", "arguments": {"x": [1, {"y": "z"}]}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x": 1}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "name": "f", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
        {"role": "user", "content": "And?"},
    ],
    "model": "scripted:m",
    "system": "Be brief.",
    "tools": ["calculate"],
    "on_disconnect": "cancel",
    "max_output_tokens": 100,
    "temperature": 0.5,
    "stream": True,
}  # fmt: skip
JUNK = (
    "null", "true", "false", "0", "-1", "2.5", "1e400", "123456789012345678901234567890", '""', '"x"', '"{}"', '"{"',
    r'"\ud800"', r'"\u0000"', '"é😀"', '"user"', '"tool"', '"https://x"', '"a"', "[]", "{}", "[[]]", "[null]",
    '[{"type":"text","text":""}]', '{"a":{"a":{}}}', '{"type":"text"}', "[" * 2_000 + "]" * 2_000, "NaN", "",
    '"\udcff"', '"detach"', "[1,2,3]", '["calculate"]', '{"url":"http://x"}', '{"name":"f"}', '"assistant"',
)  # fmt: skip


def mutants(value: Any) -> Iterator[str]:
    """Yield `value` as JSON, once with each node replaced by each kind of junk, or dropped, or given a stranger."""
    yield from JUNK
    if isinstance(value, dict):
        for key, inner in value.items():
            others = [f"{json.dumps(name)}:{json.dumps(other)}" for name, other in value.items() if name != key]
            yield "{" + ",".join(others) + "}"
            for mutant in mutants(inner):
                yield "{" + ",".join([*others, f"{json.dumps(key)}:{mutant}"]) + "}"
        yield json.dumps({**value, "stranger": 1})
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            before, after = ([json.dumps(other) for other in part] for part in (value[:at], value[at + 1 :]))
            yield "[" + ",".join([*before, *after]) + "]"
            for mutant in mutants(inner):
                yield "[" + ",".join([*before, mutant, *after]) + "]"


@pytest.mark.sweep
def test_every_mutant_of_a_full_request_is_taken_or_refused() -> None:
    assert check_taken_or_refused(json.dumps(FULL).encode())
    taken = [check_taken_or_refused(mutant.encode("utf-8", "surrogateescape")) for mutant in mutants(FULL)]
    assert len(taken) > 1_900
    assert 100 < sum(taken) < len(taken) / 2


@given(junk=st.binary(max_size=60) | st.text(max_size=30).map(lambda text: json.dumps(text).encode()))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused(junk: bytes) -> None:
    with pytest.raises(Problem):
        history(decode_chat(junk))


@given(batch=st.lists(documents, min_size=10, max_size=10))
@settings(max_examples=10, deadline=None)
def test_any_json_over_http_is_2xx_or_4xx(batch: list[Any]) -> None:
    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")]) as up:
            for document in batch:
                exchange = await up.open("POST", "/chat", json.dumps(document).encode(), JSON)
                answer = await exchange.answer()
                assert answer.status == 200 or 400 <= answer.status < 500, (document, answer)
                if answer.status == 200:
                    assert "done" in answer.frames[-1]
                else:
                    assert answer.error["message"]

    virtually(main)


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
objects = st.dictionaries(texts, st.none() | st.booleans() | texts | st.integers(-(2**53), 2**53), max_size=3)
turns = st.lists(
    st.tuples(texts, texts, st.lists(st.tuples(texts, objects, texts), max_size=3), st.booleans()), max_size=4
)


@given(system=st.just("") | texts, turns=turns, last=texts)
@settings(max_examples=200, deadline=None)
def test_a_valid_conversation_keeps_every_word(
    system: str, turns: list[tuple[str, str, list[tuple[str, dict[str, Any], str]], bool]], last: str
) -> None:
    """What a client sends, in either form of tool calls, is what `history` returns."""
    sent: list[dict[str, Any]] = []
    expected: list[Message] = [SystemMessage(system)] if system else []
    for number, (question, answer, calls, as_function) in enumerate(turns):
        sent.append({"role": "user", "content": [{"type": "text", "text": question}] if as_function else question})
        expected.append(UserMessage((TextPart(question),)))
        made, results = [], []
        parts: list[TextPart | CallPart] = [TextPart(answer)]
        outcomes: list[Message] = []
        for index, (name, given_arguments, result) in enumerate(calls):
            call_id, text = f"call_{number}_{index}", json.dumps(given_arguments)
            form = {"function": {"name": name, "arguments": text}} if as_function else {"name": name}
            made.append({"id": call_id, **form} | ({} if as_function else {"arguments": given_arguments}))
            results.append({"role": "tool", "tool_call_id": call_id, "content": result})
            parts.append(CallPart(call_id, name, text))
            outcomes.append(ToolMessage(call_id, name, result))
        sent += [{"role": "assistant", "content": answer, **({"tool_calls": made} if made else {})}, *results]
        expected += [AssistantMessage(tuple(parts)), *outcomes]
    sent.append({"role": "user", "content": last})
    expected.append(UserMessage((TextPart(last),)))
    assert history(decode_chat(json.dumps({"messages": sent, "system": system}).encode())) == tuple(expected)


def test_images_pass_by_reference() -> None:
    body = user(b'[{"type":"image_url","image_url":{"url":"https://x/y.png"}},{"type":"text","text":"What is it?"}]')
    assert history(decode_chat(body)) == (UserMessage((ImagePart("https://x/y.png"), TextPart("What is it?"))),)
