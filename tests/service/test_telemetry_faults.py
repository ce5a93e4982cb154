"""Telemetry holds nothing up: not a run, not the end of the service, wherever its collector is."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import trio
from pydantic import SecretStr

from sluicegate.cli.telemetry import observing
from sluicegate.client import Client
from sluicegate.service.options import TelemetryOptions
from sluicegate.service.telemetry import CLOSE_SECONDS, Telemetry
from sluicegate.settings import BadSettings, read
from sluicegate.tools.registry import Registry
from tests.test_cli import serving

from .collector import Collector, collector
from .harness import over, stack, virtually
from .test_telemetry import SAY, parts

HOW = ("up", "hangs", "down")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RUNS = 20
QUEUE = 2_048  # spans that are kept, the default of the SDK


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter's threads give up soon, and none of them goes on in the midst of other tests."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


@contextmanager
def at(how: str) -> Iterator[Collector]:
    """A collector that is `up`, `hangs`, or is not there at all."""
    if how == "down":
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        yield Collector(f"http://127.0.0.1:{port}")
    else:
        with collector(hangs=how == "hangs") as to:
            yield to


@pytest.mark.parametrize("how", HOW)
def test_no_run_takes_longer_for_its_collector(how: str) -> None:
    """To the last digit, on a virtual clock; and to none of its threads does a run hand more than their queue takes."""

    async def test() -> None:
        async with stack(lambda _: SAY, observers=(telemetry,)) as found:
            threads = threading.active_count()
            for _ in range(RUNS):
                exchange = await found.chat()
                assert (await exchange.answer()).frames[-1]["done"]
                record = found.driver(exchange).record
                assert record.ended is not None
                assert record.ended - record.began == pytest.approx(1.5)
            began = time.perf_counter()
            for _ in range(QUEUE):
                telemetry.ended(found.driver(exchange))
            assert time.perf_counter() - began < 10
            assert threading.active_count() <= threads + 1  # the collector's own, for a connection
            assert len(telemetry._processor._batch_processor._queue) <= QUEUE  # private, and only looked at

    with at(how) as to, closing(Telemetry(TelemetryOptions(to.url))) as telemetry:
        virtually(test)


@pytest.mark.alone
@pytest.mark.parametrize("how", HOW)
def test_closing_is_bounded(how: str) -> None:
    with at(how) as to:

        async def test() -> None:
            async with stack(lambda _: SAY, observers=(telemetry,)) as found:
                await found.ask()

        telemetry = Telemetry(TelemetryOptions(to.url))
        virtually(test)
        began = time.perf_counter()
        telemetry.close()
        assert time.perf_counter() - began < CLOSE_SECONDS + 0.3
        assert len(to.spans) == (2 if how == "up" else 0)


@pytest.mark.alone
@pytest.mark.sockets
@pytest.mark.parametrize("how", HOW)
async def test_the_service_is_out_in_time(how: str) -> None:
    """What was not yet sent goes out at the end, if somebody takes it."""
    with at(how) as to:
        env = {"SLUICEGATE_TELEMETRY__OTLP_ENDPOINT": to.url, "SLUICEGATE_TELEMETRY__OTLP_HEADERS": "api-key=a%20b"}
        async with serving(env=env) as served:
            async with Client(served.url) as client:
                async with client.chat([{"role": "user", "content": "What is 6 times 7?"}]) as stream:
                    frames = [frame async for frame in stream]
                assert frames[-1].done
            began = trio.current_time()
            status, printed = await served.end()
            assert trio.current_time() - began < 2
            assert status == 0, printed
            assert "Traceback" not in printed
        if how == "up":
            run, chats, tools = parts(await trio.to_thread.run_sync(lambda: to.spans))
            assert (len(chats), len(tools)) == (2, 1)
            assert all(headers["api-key"] == "a b" for _, headers, _ in to.requests)
            assert to.points["gen_ai.invoke_agent.duration"][0].sum == pytest.approx(
                (run.ended - run.began) / 1e9, abs=1e-5
            )
            assert to.resources[0]["service.name"] == "sluicegate"
        else:
            assert not to.requests


def test_an_observer_that_fails_ends_no_run_otherwise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("of a library")

    async def test() -> None:
        telemetry = Telemetry(TelemetryOptions(to.url))
        monkeypatch.setattr(telemetry._measures, "add", broken)
        async with stack([SAY], observers=(telemetry,)) as found:
            assert (await found.ask()).frames[-1]["done"]
        telemetry.close()

    with collector() as to:
        over(False, test)
    assert "it was not told to OpenTelemetry" in caplog.text


def test_without_the_packages_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sluicegate.service.telemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    settings = read(None, {"telemetry": {"otlp_endpoint": "http://127.0.0.1:4318"}})
    with (
        pytest.raises(BadSettings, match=r"telemetry\.otlp_endpoint: needs .* the extra `otel`"),
        observing(settings, Registry()),
    ):
        pass


def test_without_an_endpoint_nothing_of_it_is_imported() -> None:
    code = (
        "import sys; from sluicegate.cli.telemetry import observing; from sluicegate.settings import read\n"
        "from sluicegate.tools.registry import Registry; import sluicegate.cli.serve\n"
        "with observing(read(), Registry()) as observers: print(len(observers))\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["1", "[]"]


@pytest.mark.parametrize(
    "value", ["secret", "a=secret,b", "=secret", "a b=secret", "a=sec\nret", "a=secret%0d%0ab", "a="]
)
def test_headers_that_are_wrong_are_refused_and_not_shown(value: str) -> None:
    with pytest.raises(BadSettings) as caught:
        read(None, {"telemetry": {"otlp_headers": value}})
    assert "telemetry.otlp_headers: must be NAME=VALUE" in str(caught.value)
    assert "sec" not in str(caught.value)


def test_headers_are_read_as_the_environment_has_them() -> None:
    options = TelemetryOptions(otlp_headers=SecretStr("Authorization=Basic%20YTpi%3D%3D, x-scope=1=2"))
    assert options.headers() == {"authorization": "Basic YTpi==", "x-scope": "1=2"}
    assert "YTpi" not in repr(options)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"otlp_endpoint": "127.0.0.1:4318"}, "must begin with https:// or http://"),
        ({"sample_ratio": 1.5}, "must be at most 1"),
        ({"sample_ratio": -1}, "must be at least 0"),
    ],
)
def test_settings_that_are_wrong_are_refused(setting: dict[str, object], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        read(None, {"telemetry": setting})


SDK = """
import anthropic, trio, httpx2
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.providers.demo import demo_brain
from sluicegate.providers.environment import provider_of
from sluicegate.providers.scripted import ScriptedTransport
from sluicegate.providers.sdk import UpstreamOptions

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
TRACE = {{"traceparent": {parent!r}}}
seen = []

class Noting(ScriptedTransport):
    async def handle_async_request(self, request):
        seen.append(request.headers.get("traceparent"))
        return await super().handle_async_request(request)

async def main():
    for dialect in ("openai_chat", "openai_responses", "anthropic"):
        upstream = provider_of(dialect, UpstreamOptions(), Noting(demo_brain), "k", "http://scripted.invalid/v1")
        for _ in range(2):
            async with upstream.open(Request("m", (UserMessage((TextPart("hello"),)),)), TRACE) as chunks:
                async for _ in chunks:
                    pass
        ours = len(exporter.get_finished_spans())
        if dialect == "anthropic":
            said = [dict(role="user", content="hello")]
            create = upstream._client.messages.create(model="m", max_tokens=9, messages=said, stream=True)
            async with await create as events:
                async for _ in events:
                    pass
        print(ours, seen[:2] == [TRACE["traceparent"]] * 2, len(exporter.get_finished_spans()))
        seen.clear()
        await upstream.aclose()

trio.run(main)
"""


@pytest.mark.once
def test_the_sdks_tell_nothing_of_their_own() -> None:
    """Not even where a program has set up tracing, and content with it: not for the requests that we send. One that the
    SDK sends as its own shows that it would.
    """
    done = subprocess.run(
        [sys.executable, "-c", SDK.format(parent=PARENT)],
        capture_output=True,
        text=True,
        check=False,
        env={"ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE": "content"},
    )
    assert done.stdout.splitlines() == ["0 True 0", "0 True 0", "0 True 1"], done.stderr
