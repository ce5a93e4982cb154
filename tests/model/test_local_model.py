"""A real model on loopback behind the real service, over each of its three dialects."""

import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import msgspec
import pytest
import trio

from sluicegate.client import Client, Frame, Stream
from sluicegate.providers.environment import provider_of
from sluicegate.providers.models import Models
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.transport import TrioTransport
from sluicegate.runtime.options import RunOptions
from sluicegate.server.serve import ServerOptions, serve
from sluicegate.service.app import Service
from sluicegate.tools import Registry, tool
from tests import shared

pytestmark = [pytest.mark.model, pytest.mark.sockets, pytest.mark.alone]

DIALECTS = ("openai_chat", "openai_responses", "anthropic")
PATIENCE = 60.0  # seconds for a model on a busy machine
CLOSED_WITHIN = 1.0  # seconds from the end of the run to the model server's end of its request
IDLE_WITHIN = 1.0  # seconds of a processor from there to an idle slot
TOKENS_AFTER = 2  # that the model may still make from there: the one that it is at, and one that crossed the end
STORY = [{"role": "user", "content": "Write a long story about a cat who sails around the world."}]


@tool(activity="Checking the weather in {city}")
def get_weather(city: str, unit: str = "celsius") -> str:
    """Get the current weather for a city"""
    return f"18 {unit} in {city}"


class Model(NamedTuple):
    """The model server: its base URL and process."""

    url: str
    pid: int

    @property
    def cpu(self) -> float:
        """Seconds of a processor that it has had."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    """Start the model server."""
    script = shared.require("local-llm/llm-server.sh")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = subprocess.run(["bash", str(script), str(port)], capture_output=True, text=True, timeout=300, check=False)
    assert started.returncode == 0, started.stderr[-2000:]
    pid = int(started.stdout.split()[-1])
    try:
        yield Model(f"http://127.0.0.1:{port}", pid)
    finally:
        os.kill(pid, signal.SIGTERM)


class Tap:
    """What the model server sees of us: a relay before it. `closed` is set when the service ends a request."""

    def __init__(self, model: Model) -> None:
        self.closed = trio.Event()
        self.url = ""
        self._port = int(model.url.rpartition(":")[2])

    async def pass_on(self, near: trio.SocketStream) -> None:
        """Relay one connection, until the service closes it."""
        async with near, await trio.open_tcp_stream("127.0.0.1", self._port) as far, trio.open_nursery() as nursery:
            nursery.start_soon(_pump, far, near)
            await _pump(near, far)
            nursery.cancel_scope.cancel()
        self.closed.set()


async def _pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):
        async for data in source:
            await target.send_all(data)


@asynccontextmanager
async def tapping(model: Model) -> AsyncIterator[Tap]:
    """A relay to the model server on a free port."""
    tap = Tap(model)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    tap.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, tap.pass_on, [listener])
        yield tap
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving(upstream: str, dialect: str, grace_seconds: float = 30.0) -> AsyncIterator[str]:
    """The real service on a real socket, with the model at the URL `upstream`; yields its own URL."""
    base_url = upstream if dialect == "anthropic" else f"{upstream}/v1"
    provider = provider_of(dialect, UpstreamOptions(), TrioTransport(), "unused", base_url)
    run_options = RunOptions(grace_seconds=grace_seconds)
    # As `serve` asks again: a connection that was kept may be closed by its server just when it is used again.
    models = Models({"local": provider}, "local", "tiny", max_retries=2)
    service = Service(models, Registry([get_weather]), run_options)
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
async def test_a_plain_answer(model: Model, dialect: str) -> None:
    async with serving(model.url, dialect) as url:
        frames = await answer(url, [{"role": "user", "content": "Say hello."}], tools=[], max_output_tokens=24)
    assert "".join(frame.content or "" for frame in frames).strip()
    assert frames[-1].done
    assert frames[-1].finish_reason in ("stop", "length")
    assert frames[-1].usage is not None
    assert frames[-1].usage["output_tokens"] > 0
    assert "estimated" not in frames[-1].usage


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_tool_loop(model: Model, dialect: str) -> None:
    async with serving(model.url, dialect) as url:
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


class Slot(msgspec.Struct):
    """A slot of the model server, of what it says about itself."""

    is_processing: bool
    next_token: list[dict[str, Any]] = []

    @property
    def tokens(self) -> int:
        """How many it has made for its present request."""
        return sum(int(entry.get("n_decoded", 0)) for entry in self.next_token)


async def busy_slots(http: httpx2.AsyncClient) -> list[Slot]:
    slots = msgspec.json.decode((await http.get("/slots")).content, type=list[Slot])
    return [slot for slot in slots if slot.is_processing]


async def generated(http: httpx2.AsyncClient) -> float:
    for line in (await http.get("/metrics")).text.splitlines():
        if line.startswith("llamacpp:tokens_predicted_total "):
            return float(line.split()[1])
    raise AssertionError("the model server does not count its tokens")


async def check_ended(model: Model, tap: Tap) -> None:
    """The run has just ended, in whatever way: our request at the model server ends, with it the generation, for good.

    Why not simply "idle within a second": the model server looks whether its client is there when it has a token, and
    takes a cancellation between two. Its two threads wait for each other in a busy loop, several times for each layer,
    so beside other load a token may take seconds instead of 20 ms (seen: 5.8 s). That is no time of ours. So the clock
    holds for what we do, and from there on the model server's own measures: the tokens that it still makes, and the
    time that the machine gives it. On a machine of its own, both threads running, a second of a processor is half a
    second on the clock.
    """
    async with httpx2.AsyncClient(base_url=model.url, transport=TrioTransport(), timeout=PATIENCE) as http:
        with trio.fail_after(CLOSED_WITHIN):
            await tap.closed.wait()
        cpu = model.cpu
        counts = []
        with trio.fail_after(PATIENCE):
            while busy := await busy_slots(http):
                counts.append(sum(slot.tokens for slot in busy))
                await trio.sleep(0.01)
        assert model.cpu - cpu <= IDLE_WITHIN
        assert not counts or counts[-1] - counts[0] <= TOKENS_AFTER, counts
        before = await generated(http)
        for _ in range(10):
            await trio.sleep(0.05)
            assert not await busy_slots(http)
        assert await generated(http) == before


async def read_words(stream: Stream, count: int) -> list[Frame]:
    """Read until so many frames with words have come."""
    frames: list[Frame] = []
    while sum(frame.content is not None for frame in frames) < count:
        frames.append(await anext(stream))
    return frames


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_client_that_drops_ends_the_generation(model: Model, dialect: str) -> None:
    async with tapping(model) as tap, serving(tap.url, dialect) as url:
        with trio.fail_after(PATIENCE):
            async with Client(url) as client, client.chat(STORY, tools=[], max_output_tokens=4000) as stream:
                await read_words(stream, 5)
        await check_ended(model, tap)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stop_ends_the_generation(model: Model, dialect: str) -> None:
    async with tapping(model) as tap, serving(tap.url, dialect) as url, Client(url) as client:
        with trio.fail_after(PATIENCE):
            async with client.chat(STORY, tools=[], max_output_tokens=4000, on_disconnect="detach") as stream:
                await read_words(stream, 5)
                async with Client(url) as other:
                    await other.stop(stream.run_id)
                frames = [frame async for frame in stream]
        assert frames[-1].error is not None
        assert frames[-1].error["message"] == "The run was stopped."
        await check_ended(model, tap)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_detached_run_that_nobody_comes_back_to_ends_the_generation(model: Model, dialect: str) -> None:
    async with tapping(model) as tap, serving(tap.url, dialect, grace_seconds=0.5) as url, Client(url) as client:
        with trio.fail_after(PATIENCE):
            async with client.chat(STORY, tools=[], max_output_tokens=4000, on_disconnect="detach") as stream:
                await read_words(stream, 5)
            left_at = trio.current_time()
            await tap.closed.wait()
        assert trio.current_time() - left_at >= 0.5
        await check_ended(model, tap)
        with trio.fail_after(PATIENCE):
            async with client.events(stream.run_id, stream.after) as rest:
                frames = [frame async for frame in rest]
        assert frames[-1].error is not None
        assert "grace_seconds" in frames[-1].error["message"]
        assert any(frame.content for frame in frames), "the model was not heard while nobody read"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_client_that_comes_back_gets_every_token_once(model: Model, dialect: str) -> None:
    async with serving(model.url, dialect) as url, Client(url) as client:
        with trio.fail_after(PATIENCE):
            async with client.chat(
                STORY, tools=[], max_output_tokens=60, temperature=0, on_disconnect="detach"
            ) as stream:
                frames = await read_words(stream, 5)
            async with client.events(stream.run_id, stream.after) as rest:
                frames += [frame async for frame in rest]
            async with client.events(stream.run_id) as again:
                log = [frame async for frame in again]
    epochs, numbers = zip(*(frame.id.split("-") for frame in frames), strict=True)
    assert len(set(epochs)) == 1
    assert [int(number) for number in numbers] == list(range(1, len(frames) + 1))
    assert frames[-1].done
    assert frames == log
