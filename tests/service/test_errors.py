"""Every way in which an answer fails, as clients see it: a true status before the first byte, an event after it."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from sluicegate.machine.deltas import Finish, FinishReason
from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.limits import RunLimits
from sluicegate.machine.run import Run
from sluicegate.machine.run_inputs import Output
from sluicegate.providers.script import (
    Action,
    Call,
    Cut,
    Fail,
    Pause,
    Reply,
    Reset,
    Say,
    Stall,
    Status,
    Unreachable,
    perform,
)
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.options import RunOptions
from sluicegate.service.options import ServiceOptions
from sluicegate.service.problems import STATUS, respond_run_error
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.anthropic_messages import MessagesEncoder
from sluicegate.wire.downstream.dialect import DialectEncoder
from sluicegate.wire.downstream.openai_chat import ChatEncoder
from sluicegate.wire.downstream.openai_responses import ResponsesEncoder

from .harness import DIALECTS, DONE, LINKS, Stack, kinds, over, record_bodies, stack, text_of, virtually

CANARY = "sk-canary-0123456789abcdef"
ENCODERS: dict[str, type[DialectEncoder]] = {
    "openai_chat": ChatEncoder,
    "openai_responses": ResponsesEncoder,
    "anthropic": MessagesEncoder,
}


def recorded(dialect: str, reply: Reply) -> bytes:
    """The bytes of `reply` on the wire of `dialect`."""
    encoder = ENCODERS[dialect]("m", reply_id="r", created=1)
    moments = list(perform(reply))
    return b"".join(moment if isinstance(moment, bytes) else encoder.encode(moment) for moment in moments)  # type: ignore[arg-type]


def body_with(kind: str, code: str = "") -> bytes:
    """A provider's error body whose every text holds a key."""
    error = {"type": kind, "code": code or None, "message": f"{kind}: key {CANARY} at https://x/{CANARY}"}
    return json.dumps({"type": "error", "error": error, "request_id": CANARY}).encode()


# --- before the first byte

NO_KEY = body_with("authentication_error", "invalid_api_key")
TOO_LONG = body_with("invalid_request_error", "context_length_exceeded")
EARLY: dict[str, tuple[Action, int, str, bool, str | None]] = {
    "429": (Status(429, {"retry-after": "7"}, body_with("rate_limit_error")), 429, "RATE_LIMITED", True, "7"),
    "429 in ms": (Status(429, {"retry-after-ms": "1500"}), 429, "RATE_LIMITED", True, "2"),
    "429 without a time": (Status(429), 429, "RATE_LIMITED", True, None),
    "no quota": (Status(429, {}, body_with("insufficient_quota")), 429, "RATE_LIMITED", False, None),
    "400": (Status(400, {}, body_with("invalid_request_error")), 502, "UPSTREAM_ERROR", False, None),
    "401": (Status(401, {}, NO_KEY), 502, "UPSTREAM_ERROR", False, None),
    "403": (Status(403, {}, body_with("permission_error")), 502, "UPSTREAM_ERROR", False, None),
    "404": (Status(404, {}, body_with("not_found_error")), 502, "UPSTREAM_ERROR", False, None),
    "too long": (Status(400, {}, TOO_LONG), 400, "CONTEXT_LENGTH", False, None),
    "413": (Status(413, {}, body_with("request_too_large")), 400, "CONTEXT_LENGTH", False, None),
    "408": (Status(408), 504, "TIMEOUT", True, None),
    "500": (Status(500, {}, body_with("api_error")), 503, "UPSTREAM_ERROR", True, None),
    "503": (Status(503, {"retry-after": "30"}), 503, "UPSTREAM_ERROR", True, "30"),
    "504": (Status(504), 504, "TIMEOUT", True, None),
    "529": (Status(529, {}, body_with("overloaded_error")), 503, "UPSTREAM_ERROR", True, None),
    "no JSON": (Status(502, {}, CANARY.encode()), 503, "UPSTREAM_ERROR", True, None),
    "unreachable": (Unreachable(), 503, "UPSTREAM_ERROR", True, None),
    "error in a good response": (Fail(ErrorCode.RATE_LIMITED, CANARY), 429, "RATE_LIMITED", True, None),
    "nothing at all": (Cut(), 502, "UPSTREAM_ERROR", True, None),
    "reset": (Reset(), 502, "UPSTREAM_ERROR", True, None),
    "garbage": (f"data: {{{CANARY}\n\n".encode(), 503, "UPSTREAM_ERROR", True, None),
    "not UTF-8": (b"data: \xff\xfe" + CANARY.encode() + b"\n\n", 503, "UPSTREAM_ERROR", True, None),
    "another protocol": (f"<html>{CANARY}</html>".encode(), 502, "UPSTREAM_ERROR", True, None),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("action", "status", "code", "retryable", "wait"), EARLY.values(), ids=EARLY.keys())
def test_before_the_first_byte_an_error_is_a_status(
    action: Action,
    status: int,
    code: str,
    retryable: bool,
    wait: str | None,
    dialect: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with stack([[action]], dialect=dialect) as up:
            answer = await up.ask()
            assert (answer.status, answer.error["code"]) == (status, code)
            assert answer.error.get("retryable", False) is retryable
            assert answer.header("Retry-After") == wait
            assert answer.error["message"]
            assert CANARY.encode() not in answer.body
            assert CANARY not in str(answer.headers)
            assert len(up.transport.requests) == 1

    virtually(main)
    assert CANARY not in caplog.text


@pytest.mark.sockets
@pytest.mark.parametrize("name", ["429", "401", "too long", "unreachable", "nothing at all", "garbage"])
def test_statuses_on_a_socket(name: str) -> None:
    action, status, code, _, wait = EARLY[name]

    async def main() -> None:
        async with stack([[action]], socket=True) as up:
            answer = await up.ask()
            assert (answer.status, answer.error["code"], answer.header("Retry-After")) == (status, code, wait)

    over(True, main)


def test_a_filtered_answer_is_an_outcome_told_by_the_stream() -> None:
    refused = Status(400, {}, body_with("invalid_request_error", "content_filter"))

    async def main() -> None:
        async with stack([[refused]]) as up:
            frames = (await up.ask()).frames
            assert kinds(frames) == ["run", "step", "error"]
            assert frames[-1]["error"]["code"] == "CONTENT_FILTER"

    virtually(main)


def test_every_code_has_a_status() -> None:
    """Only what a stream itself tells has none."""
    assert set(ErrorCode) - set(STATUS) == {ErrorCode.CONTENT_FILTER}
    assert respond_run_error(RunError(ErrorCode.CONTENT_FILTER, "m")) is None
    assert all(400 <= status < 600 for status in STATUS.values())


def test_the_run_deadline_before_the_first_byte_is_504() -> None:
    async def main() -> None:
        async with stack([[Stall()]], run=RunOptions(run_seconds=1.5)) as up:
            answer = await up.ask()
            assert (answer.status, answer.error["code"]) == (504, "TIMEOUT")
            assert trio.current_time() == pytest.approx(1.5, abs=0.01)
            assert up.transport.active == 0

    virtually(main)


# --- after the first byte

GARBAGE = f"data: {{{CANARY}\n\n".encode()
LATE: dict[str, tuple[Action, str, bool]] = {
    "failure": (Fail(ErrorCode.UPSTREAM_ERROR, CANARY), "UPSTREAM_ERROR", False),
    "rate": (Fail(ErrorCode.RATE_LIMITED, CANARY), "RATE_LIMITED", False),
    "cut": (Cut(), "UPSTREAM_ERROR", True),
    "reset": (Reset(), "UPSTREAM_ERROR", True),
    "stall": (Stall(), "TIMEOUT", False),
    "garbage": (GARBAGE, "UPSTREAM_ERROR", False),
    "not UTF-8": (b"data: \xff\xfe\n\n", "UPSTREAM_ERROR", False),
    "half an event": (b'data: {"cho', "UPSTREAM_ERROR", True),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("action", "code", "truncated"), LATE.values(), ids=LATE.keys())
def test_after_the_first_byte_an_error_is_an_event(action: Action, code: str, truncated: bool, dialect: str) -> None:
    reply = [Say("Half an answer"), action, Cut()]

    async def main() -> None:
        async with stack([reply], dialect=dialect, run=RunOptions(run_seconds=5)) as up:
            answer = await up.ask()
            frames = answer.frames
            assert kinds(frames) == ["run", "step", "content", "error"]
            assert text_of(frames) == "Half an answer"
            error = frames[-1]["error"]
            assert (error["code"], error.get("truncated", False)) == (code, truncated)
            assert error["retryable"] is True
            assert frames[-1]["usage"]["estimated"] is True
            assert frames[-1]["usage"]["output_tokens"] > 0
            assert CANARY.encode() not in answer.body
            assert trio.current_time() == (pytest.approx(5, abs=0.01) if code == "TIMEOUT" else 0)

    virtually(main)


@pytest.mark.sockets
@pytest.mark.parametrize("name", ["failure", "cut", "reset", "stall", "garbage"])
def test_error_events_on_a_socket(name: str) -> None:
    action, code, truncated = LATE[name]

    async def main() -> None:
        async with stack([[Say("Half an answer"), action]], socket=True, run=RunOptions(run_seconds=0.2)) as up:
            frames = (await up.ask()).frames
            assert kinds(frames) == ["run", "step", "content", "error"]
            assert (frames[-1]["error"]["code"], frames[-1]["error"].get("truncated", False)) == (code, truncated)

    over(True, main)


@pytest.mark.parametrize(("dialect", "stride"), [("openai_chat", 7), ("openai_responses", 37), ("anthropic", 17)])
def test_case_08_no_error_lands_inside_an_unfinished_frame(dialect: str, stride: int) -> None:
    """The upstream ends after any number of bytes: whole frames all the same, and the text is a prefix."""
    text = "Zwölf 😀 words"
    whole = recorded(dialect, [Say(text, words=2), Call("nothing", {"a": 1})])
    cuts = range(stride, len(whole), stride)
    replies: list[Reply] = [[whole[:cut], Reset() if cut % 2 else Cut()] for cut in cuts]

    async def main() -> None:
        async with stack(replies, dialect=dialect, run=RunOptions(limits=RunLimits(steps=1))) as up:
            said = set()
            for cut in cuts:
                answer = await up.ask()
                if answer.status == 200:
                    frames = answer.frames
                    assert "error" in frames[-1], cut
                    assert text.startswith(text_of(frames)), cut
                    said.add(text_of(frames))
                else:
                    assert answer.error["code"] == "UPSTREAM_ERROR"
                    assert not said, "once something was said there is no status any more"
            assert said - {""} == {"Zwölf 😀 ", text}

    virtually(main)


def test_case_08_a_frame_in_the_middle_of_a_socket_write_is_finished_first() -> None:
    """The run is stopped while a slow reader has half of it: what follows the last whole frame is the error."""
    text = "word " * 40_000

    async def main() -> None:
        async with stack([[Say(text, words=0), Stall()]], socket=True) as up:
            exchange = await up.chat()
            await exchange.next()
            await up.delete(exchange.run_id)
            frames = (await exchange.answer()).frames
            assert frames[-1]["error"]["code"] == "CANCELLED"
            assert text.startswith(text_of(frames))

    over(True, main)


# --- cases


@pytest.mark.parametrize("end", [Reset(), Cut(), Fail(retryable=True), GARBAGE])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_case_46_no_retry_after_the_first_delta(end: Action, dialect: str) -> None:
    async def main() -> None:
        async with stack([[Say("Half"), end], [Say("Another answer.")]], dialect=dialect, retries=2) as up:
            frames = (await up.ask()).frames
            assert text_of(frames) == "Half"
            assert "error" in frames[-1]
            assert len(up.transport.requests) == 1

    virtually(main)


def test_case_46_before_the_first_delta_the_sdk_tries_again() -> None:
    async def main() -> None:
        async with stack([[Status(503)], [Unreachable()], [Say("Answer.")]], retries=2) as up:
            frames = (await up.ask()).frames
            assert text_of(frames) == "Answer."
            assert kinds(frames) == ["run", "step", "content", "done"]
            assert len(up.transport.requests) == 3

    virtually(main)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("seconds", [0.0, 1.0, 1.9])
def test_case_47_an_error_in_the_first_chunk_is_a_real_status(dialect: str, seconds: float) -> None:
    async def main() -> None:
        async with stack([[Pause(seconds), Fail(ErrorCode.RATE_LIMITED)]], dialect=dialect) as up:
            answer = await up.ask()
            assert answer.status == 429
            assert trio.current_time() == pytest.approx(seconds)

    virtually(main)


@pytest.mark.parametrize("hold", [0.5, 2.0])
@pytest.mark.parametrize("silence", [0.0, 0.4, 10.0])
def test_case_47_a_silent_provider_gets_headers_after_hold_seconds(hold: float, silence: float) -> None:
    async def main() -> None:
        async with stack([[Pause(silence), Say("At last.")]], options=ServiceOptions(hold_seconds=hold)) as up:
            exchange = await (await up.chat()).head()
            assert exchange.status == 200
            assert trio.current_time() == pytest.approx(min(hold, silence))
            answer = await exchange.answer()
            assert text_of(answer.frames) == "At last."
            assert trio.current_time() == pytest.approx(silence)

    virtually(main)


def test_case_47_after_the_headers_the_first_error_is_an_event() -> None:
    async def main() -> None:
        async with stack([[Pause(3), Status(500)]]) as up:
            frames = (await up.ask()).frames
            assert kinds(frames) == ["run", "step", "error"]

    virtually(main)


@LINKS
@pytest.mark.parametrize("dialect", DIALECTS)
def test_case_10_done_once_and_an_open_connection_delays_nothing(dialect: str, socket: bool) -> None:
    whole = recorded(dialect, [Say("Hello.")])

    async def main() -> None:
        async with stack([[whole, Stall()]], dialect=dialect, socket=socket) as up:
            exchange = await up.chat()
            await exchange.until(DONE)
            if not socket:
                assert trio.current_time() == 0, "the terminal does not wait for the drain"
            answer = await exchange.answer()
            if not socket:
                await trio.sleep(0.04)
                assert up.transport.active == 1
                await trio.sleep(0.02)
                assert up.transport.active == 0, "drained for 50 ms and not longer"
            assert text_of(answer.frames) == "Hello."
            assert answer.body.count(b"[DONE]") == 1

    over(socket, main)


def test_case_10_what_follows_done_is_ignored() -> None:
    whole = recorded("openai_chat", [Say("Hello.")])
    tails: list[Action] = [b"data: [DONE]\n\n", whole, GARBAGE, Reset()]

    async def main() -> None:
        async with stack([[whole, tail] for tail in tails]) as up:
            for _ in tails:
                answer = await up.ask()
                assert text_of(answer.frames) == "Hello."
                assert "done" in answer.frames[-1]

    virtually(main)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_case_31_white_space_before_calls_does_not_hang(dialect: str) -> None:
    replies: list[Reply] = [
        [Say("\n\n"), Call("calculate", {"expression": "6*7"}), Say(" \n"), Say("and more")],
        [Say("42.")],
    ]

    async def main() -> None:
        async with stack(replies, dialect=dialect) as up:
            frames = (await up.ask()).frames
            assert text_of(frames) == "\n\n \nand more42."
            assert [frame["tool_result"]["content"] for frame in frames if "tool_result" in frame] == ["42"]
            assert "done" in frames[-1]
            assert [result.content for result in up.transport.requests[1].results] == ["42"]

    virtually(main)


def counting() -> tuple[Registry, list[int]]:
    seen: list[int] = []

    @tool
    async def count(number: int) -> str:
        """Count.

        Args:
            number: Any number.
        """
        seen.append(number)
        await trio.lowlevel.checkpoint()
        return "counted"

    return Registry([count]), seen


@LINKS
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_case_72_an_endless_tool_loop_ends_at_steps(steps: int, socket: bool) -> None:
    tools, seen = counting()

    def brain(request: ScriptedRequest) -> Reply:
        return [Call("count", {"number": len(request.messages)})]

    async def main() -> None:
        async with stack(brain, tools=tools, run=RunOptions(limits=RunLimits(steps=steps)), socket=socket) as up:
            frames = (await up.ask()).frames
            error = frames[-1]["error"]
            assert error["code"] == "TOOL_LOOP"
            assert f"after {steps} steps (limit steps)" in error["message"]
            assert [frame["step"] for frame in frames if "step" in frame] == list(range(1, steps + 1))
            assert len(up.transport.requests) == steps
            assert len(seen) == steps - 1, "the last calls are not run"

    over(socket, main)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("repeated", [2, 3, 6])
def test_case_72_the_same_calls_with_the_same_results_end_by_repeated_steps(dialect: str, repeated: int) -> None:
    tools, seen = counting()
    limits = RunLimits(repeated_steps=repeated)

    async def main() -> None:
        async with stack(
            lambda _: [Call("count", {"number": 1})], dialect=dialect, tools=tools, run=RunOptions(limits=limits)
        ) as up:
            frames = (await up.ask()).frames
            error = frames[-1]["error"]
            assert error["code"] == "TOOL_LOOP"
            assert f"{repeated} times in a row" in error["message"]
            assert len(up.transport.requests) == repeated
            assert seen == [1] * repeated

    virtually(main)


def test_case_72_a_blocked_tool_ends_the_loop_too() -> None:
    async def main() -> None:
        async with stack(lambda _: [Call("forbidden", {"a": 1})]) as up:
            frames = (await up.ask()).frames
            assert frames[-1]["error"]["code"] == "TOOL_LOOP"
            assert len(up.transport.requests) == 3

    virtually(main)


def test_case_72_progress_is_not_a_loop() -> None:
    """Two equal steps, then another, then two equal ones: never three in a row."""
    tools, seen = counting()
    numbers = [1, 1, 2, 1, 1]

    def brain(request: ScriptedRequest) -> Reply:
        asked = len(seen)
        return [Call("count", {"number": numbers[asked]})] if asked < len(numbers) else [Say("Counted.")]

    async def main() -> None:
        async with stack(brain, tools=tools) as up:
            frames = (await up.ask()).frames
            assert text_of(frames) == "Counted."
            assert seen == numbers

    virtually(main)


def anthropic_blocks(blocks: Sequence[dict[str, Any]], stop_reason: str) -> bytes:
    """A Messages stream of whole blocks; input of calls goes out as one delta."""
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = {"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(blocks):
        start, deltas = dict(block), []
        if block["type"] == "text":
            start["text"] = ""
            deltas = [{"type": "text_delta", "text": block["text"]}]
        elif "input" in block:
            start["input"] = {}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 9}})
    events.append({"type": "message_stop"})
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


SEARCH: list[dict[str, Any]] = [
    {"type": "text", "text": "Let me search."},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "sluice gates"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {"type": "web_search_result", "url": "https://example.org", "title": "Gates", "encrypted": "abc=="}
        ],
    },
    {"type": "text", "text": "Found one."},
]


@LINKS
def test_case_73_a_paused_turn_goes_on_with_its_blocks_unchanged(socket: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = record_bodies(monkeypatch)

    async def main() -> None:
        replies: list[Reply] = [[anthropic_blocks(SEARCH, "pause_turn")], [Say(" That is all.")]]
        async with stack(replies, dialect="anthropic", socket=socket) as up:
            frames = (await up.ask()).frames
            assert text_of(frames) == "Let me search.Found one. That is all."
            assert [frame["step"] for frame in frames if "step" in frame] == [1, 2]
            assert frames[-1]["finish_reason"] == "stop"
            assert "tool_calls" not in kinds(frames), "what the provider runs is not ours to run"

    over(socket, main)
    assert len(bodies) == 2
    assert bodies[1]["messages"][:-1] == bodies[0]["messages"]
    assert bodies[1]["messages"][-1] == {"role": "assistant", "content": SEARCH}


def test_case_73_pauses_are_bounded_by_steps() -> None:
    async def main() -> None:
        pausing = RunOptions(limits=RunLimits(steps=4))
        async with stack(
            lambda _: [Say("Wait."), Finish(FinishReason.PAUSE, "pause_turn")], dialect="anthropic", run=pausing
        ) as up:
            frames = (await up.ask()).frames
            assert frames[-1]["error"]["code"] == "TOOL_LOOP"
            assert len(up.transport.requests) == 4

    virtually(main)


def test_case_75_server_tool_results_keep_their_place_beside_client_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = record_bodies(monkeypatch)
    call = {"type": "tool_use", "id": "toolu_1", "name": "calculate", "input": {"expression": "1+1"}}
    blocks = [*SEARCH, call, {"type": "text", "text": "Both."}]

    async def main() -> None:
        replies: list[Reply] = [[anthropic_blocks(blocks, "tool_use")], [Say("Done.")]]
        async with stack(replies, dialect="anthropic") as up:
            frames = (await up.ask()).frames
            assert text_of(frames) == "Let me search.Found one.Both.Done."

    virtually(main)
    *_, assistant, results = bodies[1]["messages"]
    assert assistant == {"role": "assistant", "content": blocks}
    assert [(part["type"], part["tool_use_id"]) for part in results["content"]] == [("tool_result", "toolu_1")]
    assert "2" in json.dumps(results["content"][0]["content"])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_case_71_a_hanging_tool_is_an_error_for_the_model(dialect: str) -> None:
    @tool(timeout=4)
    async def hang() -> str:
        """Hang."""
        await trio.sleep_forever()
        return ""

    async def main() -> None:
        async with stack([[Call("hang")], [Say("It hangs.")]], dialect=dialect, tools=Registry([hang])) as up:
            frames = (await up.ask()).frames
            (result,) = [frame["tool_result"] for frame in frames if "tool_result" in frame]
            assert result["is_error"] is True
            assert text_of(frames) == "It hangs."
            assert "done" in frames[-1]
            assert trio.current_time() == pytest.approx(4, abs=0.01)
            assert result["content"] in up.transport.requests[1].results[0].content

    virtually(main)


def test_a_tool_that_raises_tells_neither_model_nor_client_its_secrets() -> None:
    @tool
    async def fail() -> str:
        """Fail."""
        raise RuntimeError(f"password {CANARY}")

    async def main() -> None:
        async with stack([[Call("fail")], [Say("It failed.")]], tools=Registry([fail])) as up:
            answer = await up.ask()
            assert CANARY.encode() not in answer.body
            assert CANARY not in up.transport.requests[1].results[0].content
            assert text_of(answer.frames) == "It failed."

    virtually(main)


async def check_bug(up: Stack) -> None:
    frames = (await up.ask()).frames
    assert kinds(frames)[-1] == "error"
    assert frames[-1]["error"]["code"] == "INTERNAL"
    assert CANARY not in str(frames)
    assert text_of((await up.ask()).frames) == "The service lives."


def test_a_bug_ends_its_own_run_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours inside one run: INTERNAL for that run, the next one is answered."""
    real, broken = Run.receive, iter([True])

    def receive(self: Run, happened: Any) -> list[Output]:
        if getattr(happened, "text", "") == "two" and next(broken, False):
            raise ZeroDivisionError(CANARY)
        return real(self, happened)

    monkeypatch.setattr(Run, "receive", receive)

    async def main() -> None:
        async with stack([[Say("one ", words=0), Say("two"), Stall()], [Say("The service lives.")]]) as up:
            await check_bug(up)

    virtually(main)
