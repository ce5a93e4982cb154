"""`POST /chat` as users meet it: the demo, the tutorial's client, the headers and frames, what reaches the provider."""

import functools
import json
from typing import Any

import pytest
import trio

from sluicegate.providers.demo import demo_brain
from sluicegate.providers.script import Call, Reply, Say
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.tools.builtin import get_weather
from sluicegate.tools.registry import Registry

from .harness import DIALECTS, LINKS, Answer, kinds, over, record_bodies, stack, text_of, virtually

QUESTION = "What is the weather in {city}?"


def in_a_hurry(request: ScriptedRequest) -> Reply:
    """The demo's model without its pauses, for tests in real time."""
    return [Say(action.text) if isinstance(action, Say) else action for action in demo_brain(request)]


@LINKS
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("city", ["Paris", "Oslo"])
def test_the_demo_question(socket: bool, dialect: str, city: str) -> None:
    async def main() -> None:
        brain = in_a_hurry if socket else demo_brain
        async with stack(brain, socket=socket, dialect=dialect) as up:
            answer = await up.ask(QUESTION.format(city=city))
            check_demo(answer, city)
            assert len(up.transport.requests) == 2
            assert all(request.dialect.startswith(dialect) for request in up.transport.requests)

    over(socket, main)


def check_demo(answer: Answer, city: str) -> None:
    frames = answer.frames
    assert kinds(frames) == [
        "run", "step", "content", "tool_call", "tool_calls", "activity", "tool_progress", "tool_result", "step",
        "content", "done",
    ]  # fmt: skip
    run, done = frames[0]["run"], frames[-1]
    assert run == {"id": answer.header("Run-Id"), "model": "scripted-demo"}
    calls = [frame["tool_call"] for frame in frames if "tool_call" in frame]
    assert calls[0] == {"id": calls[0]["id"], "name": "get_weather"}
    assert json.loads("".join(call.get("delta", "") for call in calls)) == calls[-1]["arguments"] == {"city": city}
    (tools,) = [frame["tool_calls"] for frame in frames if "tool_calls" in frame]
    assert tools == ["get_weather"]
    (activity,) = [frame for frame in frames if "activity" in frame]
    assert activity == {"activity": f"Checking the weather in {city}", "call_id": calls[0]["id"]}
    (result,) = [frame["tool_result"] for frame in frames if "tool_result" in frame]
    assert json.loads(result["content"])["city"] == city
    assert result["id"] == calls[0]["id"]
    assert [frame["step"] for frame in frames if "step" in frame] == [1, 2]
    assert city in text_of(frames)
    assert done["finish_reason"] == "stop"
    assert done["usage"]["input_tokens"] > 0
    assert done["usage"]["output_tokens"] > 0


def tutorial_client(chunks: list[bytes]) -> tuple[str, list[object]]:
    """What the article's React hook does with a stream: full text and errors. It cuts lines within each read alone."""
    full, errors = "", []
    for chunk in chunks:
        for line in chunk.decode().split("\n"):
            if not line.startswith("data: "):
                continue
            data = line[6:]
            if data == "[DONE]":
                continue
            parsed: Any = json.loads(data)
            if parsed.get("error"):
                errors.append(parsed["error"])
                continue
            if parsed.get("content"):
                full += parsed["content"]
    return full, errors


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_client_written_after_the_tutorial_gets_the_full_text(dialect: str) -> None:
    async def main() -> None:
        async with stack(demo_brain, dialect=dialect) as up:
            answer = await up.ask(QUESTION.format(city="Paris"))
            full, errors = tutorial_client(answer.writes)
            assert full == text_of(answer.frames)
            assert full.startswith("One moment")
            assert "Paris" in full.split("tool.", 1)[1]
            assert errors == []

    virtually(main)


@LINKS
def test_headers_are_exactly_these(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("Hello.")]], socket=socket) as up:
            answer = await up.ask()
            assert answer.status == 200
            ours = sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in CONNECTION)
            assert ours == [
                ("cache-control", "no-cache, no-transform"),
                ("content-type", "text/event-stream"),
                ("run-id", answer.frames[0]["run"]["id"]),
                ("x-accel-buffering", "no"),
                ("x-content-type-options", "nosniff"),
            ]

    over(socket, main)


CONNECTION = {"date", "transfer-encoding", "connection"}


@LINKS
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_large_answer_leaves_in_writes_of_whole_frames(socket: bool, dialect: str) -> None:
    text = "".join(f"word{n} é😀 " for n in range(12_000))

    async def main() -> None:
        async with stack([[Say(text, words=0)]], socket=socket, dialect=dialect) as up:
            answer = await up.ask()
            assert text_of(answer.frames) == text
            assert len(answer.writes) > len(text.encode()) // (16 * 1024)

    over(socket, main)


@pytest.mark.parametrize("pieces", [1, 7, 1000])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_reads_of_any_size_make_the_same_frames(dialect: str, pieces: int) -> None:
    reply: Reply = [Say("Voilà: 😀 naïve text, "), Call("nothing", {"a": [1, {"b": "ü"}]})]
    said: list[list[dict[str, Any]]] = []

    async def main(size: int) -> None:
        async with stack([reply, [Say("Done.")]], dialect=dialect, pieces=size) as up:
            frames = (await up.ask()).frames[1:]  # the run's id differs
            said.append(frames)

    virtually(functools.partial(main, 0))
    virtually(functools.partial(main, pieces))
    assert text_of(said[0]) == text_of(said[1]) == "Voilà: 😀 naïve text, Done."
    assert kinds(said[0]) == kinds(said[1])
    assert [f for f in said[0] if not {"content", "tool_call"} & f.keys()] == [
        f for f in said[1] if not {"content", "tool_call"} & f.keys()
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_a_client_asks_for_reaches_the_provider(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = record_bodies(monkeypatch)

    async def main() -> None:
        async with stack([[Say("Yes.")]], dialect=dialect) as up:
            await up.ask(
                "Hi",
                model="scripted:other-model",
                system="Be brief.",
                tools=["calculate"],
                temperature=0.25,
                max_output_tokens=77,
            )
            (request,) = up.transport.requests
            assert request.model == "other-model"
            assert [(said.role, said.text) for said in request.messages] == [("system", "Be brief."), ("user", "Hi")]
            assert [tool.name for tool in request.tools] == ["calculate"]

    virtually(main)
    (body,) = bodies
    assert body["temperature"] == 0.25
    limits = [body.get(key) for key in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
    assert 77 in limits


def test_without_wishes_the_defaults_reach_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = record_bodies(monkeypatch)

    async def main() -> None:
        async with stack([[Say("Yes.")]]) as up:
            await up.ask()
            (request,) = up.transport.requests
            assert request.model == "scripted-demo"
            assert [tool.name for tool in request.tools] == ["get_weather", "calculate", "current_time"]

    virtually(main)
    assert "temperature" not in bodies[0]


def test_a_run_without_tools_offers_none() -> None:
    async def main() -> None:
        async with stack([[Say("Yes.")], [Say("Yes.")]]) as up:
            await up.ask(tools=[])
            assert up.transport.requests[0].tools == ()

    virtually(main)


def test_a_tool_outside_the_asked_subset_does_not_run() -> None:
    async def main() -> None:
        async with stack([[Call("get_weather", {"city": "Rome"})], [Say("I cannot.")]]) as up:
            frames = (await up.ask(tools=["calculate"])).frames
            (result,) = [frame["tool_result"] for frame in frames if "tool_result" in frame]
            assert result["is_error"] is True
            assert "calculate" in result["content"]
            assert "get_weather" in result["content"]

    virtually(main)


def test_parallel_calls_run_at_the_same_time() -> None:
    calls = [Call("get_weather", {"city": city}) for city in ("Rome", "Oslo", "Paris")]

    async def main() -> None:
        async with stack([calls, [Say("Done.")]], tools=Registry([get_weather])) as up:
            began = trio.current_time()
            frames = (await up.ask()).frames
            assert sorted(json.loads(f["tool_result"]["content"])["city"] for f in frames if "tool_result" in f) == [
                "Oslo", "Paris", "Rome",
            ]  # fmt: skip
            assert trio.current_time() - began < 0.5, "three tools of 0.3 s each, side by side"
            said = up.transport.requests[1]
            assert [json.loads(r.content)["city"] for r in said.results] == ["Rome", "Oslo", "Paris"], "in their order"

    virtually(main)


def test_words_are_sent_as_they_come() -> None:
    async def main() -> None:
        async with stack([[Say("one two three four", rate=2.0)]]) as up:
            answer = await up.ask()
            assert text_of(answer.frames) == "one two three four"
            words = [at for at, write in zip(answer.times, answer.writes, strict=True) if b'"content"' in write]
            assert [round(at - words[0], 3) for at in words] == [0.0, 0.5, 1.0, 1.5]

    virtually(main)
