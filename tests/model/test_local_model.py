"""A real model on loopback behind the real service, over each of its three dialects."""

import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from sluicegate.client import Client
from sluicegate.client.frame import Frame
from sluicegate.providers.environment import provider_of
from sluicegate.providers.models import Models
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.transport import TrioTransport
from sluicegate.server.serve import ServerOptions, serve
from sluicegate.service.app import Service
from sluicegate.tools import Registry, tool
from tests import shared

pytestmark = [pytest.mark.model, pytest.mark.sockets, pytest.mark.alone]

DIALECTS = ("openai_chat", "openai_responses", "anthropic")
PATIENCE = 60.0  # seconds for a model on a busy machine
IDLE_WITHIN = 1.0  # seconds from the drop to an idle slot, as promised
STORY = [{"role": "user", "content": "Write a long story about a cat who sails around the world."}]


@tool(activity="Checking the weather in {city}")
def get_weather(city: str, unit: str = "celsius") -> str:
    """Get the current weather for a city"""
    return f"18 {unit} in {city}"


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """Start the model server; yield its base URL."""
    script = shared.require("local-llm/llm-server.sh")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = subprocess.run(["bash", str(script), str(port)], capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stderr[-2000:]
    pid = int(started.stdout.split()[-1])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.kill(pid, signal.SIGTERM)


@asynccontextmanager
async def serving(model: str, dialect: str) -> AsyncIterator[str]:
    """The real service on a real socket, with the model as its upstream; yields its URL."""
    base_url = model if dialect == "anthropic" else f"{model}/v1"
    options = UpstreamOptions(dialect=dialect)
    provider = provider_of(dialect, options, TrioTransport(), "unused", base_url)
    service = Service(Models({"local": provider}, "local", "tiny"), Registry([get_weather]))
    stopped = trio.Event()
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(
            serve, service.app(), ServerOptions(port=0, graceful_seconds=1.0), service.drain, stopped.wait
        )
        yield bound[0]
        stopped.set()


async def answer(url: str, messages: list[dict[str, Any]], **options: Any) -> list[Frame]:
    with trio.fail_after(PATIENCE):
        async with Client(url) as client, client.chat(messages, temperature=0, **options) as stream:
            return [frame async for frame in stream]


def few_shot() -> list[dict[str, Any]]:
    """The history of the recorded request: three answered questions about the weather and a fourth."""
    recorded = msgspec.json.decode(shared.require("local-llm/captures/fs_chat_one.request.json").read_bytes())
    messages: list[dict[str, Any]] = recorded["body"]["messages"]
    return messages


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_plain_answer(model: str, dialect: str) -> None:
    async with serving(model, dialect) as url:
        frames = await answer(url, [{"role": "user", "content": "Say hello."}], tools=[], max_output_tokens=24)
    assert "".join(frame.content or "" for frame in frames).strip()
    assert frames[-1].done
    assert frames[-1].finish_reason in ("stop", "length")
    assert frames[-1].usage is not None
    assert frames[-1].usage["output_tokens"] > 0
    assert "estimated" not in frames[-1].usage


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_tool_loop(model: str, dialect: str) -> None:
    async with serving(model, dialect) as url:
        frames = await answer(url, few_shot(), max_output_tokens=60)
    results = [frame.tool_result for frame in frames if frame.tool_result is not None]
    assert results, frames
    assert not any(result.get("is_error") for result in results)
    assert results[0]["content"].endswith("in Paris")
    steps = [frame.step for frame in frames if frame.step is not None]
    assert steps[:2] == [1, 2]
    behind = frames[[frame.step for frame in frames].index(2) :]
    assert any(frame.content or frame.tool_call for frame in behind), "no second reply was streamed"
    assert frames[-1].done or frames[-1].error is not None


async def slots_idle(http: httpx2.AsyncClient) -> bool:
    return not any(slot["is_processing"] for slot in (await http.get("/slots")).json())


async def generated(http: httpx2.AsyncClient) -> float:
    for line in (await http.get("/metrics")).text.splitlines():
        if line.startswith("llamacpp:tokens_predicted_total "):
            return float(line.split()[1])
    raise AssertionError("the model server does not count its tokens")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_client_that_drops_ends_the_generation(model: str, dialect: str) -> None:
    async with (
        serving(model, dialect) as url,
        httpx2.AsyncClient(base_url=model, transport=TrioTransport(), timeout=PATIENCE) as http,
    ):
        with trio.fail_after(PATIENCE):
            async with Client(url) as client, client.chat(STORY, tools=[], max_output_tokens=4000) as stream:
                said = 0
                async for frame in stream:
                    said += frame.content is not None
                    if said == 5:
                        break
        assert said == 5
        with trio.fail_after(IDLE_WITHIN):
            while not await slots_idle(http):  # noqa: ASYNC110  # the model server has no event to wait for
                await trio.sleep(0.02)
        before = await generated(http)
        for _ in range(10):
            await trio.sleep(0.05)
            assert await slots_idle(http)
        assert await generated(http) == before
