"""What a collector of OpenTelemetry is told of runs, however they go: by the GenAI conventions, and nothing else."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx2
import msgspec
import pytest
import trio
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from pydantic import SecretStr

from sluicegate.machine.deltas import Finish, FinishReason, UsageDelta
from sluicegate.machine.limits import RunLimits
from sluicegate.machine.price import Price
from sluicegate.providers.options import ProviderOptions, Via
from sluicegate.providers.script import Call, Cut, Fail, Pause, Reply, Reset, Say, Stall, Status, Think, Unreachable
from sluicegate.providers.scripted import ScriptedTransport
from sluicegate.runtime.ledger import MemoryLedger, Settlement
from sluicegate.runtime.observers import LogLine
from sluicegate.runtime.options import RunOptions
from sluicegate.service.chats import OTHER, provider_names, sendable
from sluicegate.service.options import TelemetryOptions
from sluicegate.service.telemetry import Telemetry
from sluicegate.tools import ToolError, tool
from sluicegate.tools.registry import Registry

from .collector import Collector, Point, Span, collector
from .harness import DIALECTS, JSON, LINKS, Exchange, Stack, over, stack

CANARY = "canary-4711"
INTERNAL, CLIENT = 1, 3
MODELS = ("scripted-demo", "model-of-scripted", "model-of-other-1", "model-of-other-2")
PRICES = {name: Price(1.0, 10.0 * (at + 1), 0.5, 2.0) for at, name in enumerate(MODELS)}

# What the conventions have, also what is newer than the package: see semantic-conventions-genai.
KNOWN = {
    *(
        value
        for name, value in vars(gen_ai_attributes).items()
        if name.startswith("GEN_AI_") and isinstance(value, str)
    ),
    ERROR_TYPE,
}
OURS = {
    "sluicegate.run.id",
    "sluicegate.cost",
    "sluicegate.step",
    "sluicegate.usage.estimated",
    "sluicegate.error.reason",
}
CONTENT = re.compile(
    r"messages|instructions|definitions|arguments|result|prompt|completion|description|documents|query"
)
METRICS = {
    gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION: ("s", 14, 0.01, 81.92),
    gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK: ("s", 14, 0.01, 81.92),
    gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE: ("{token}", 14, 1, 67_108_864),
    "gen_ai.invoke_agent.duration": ("s", 13, 0.1, 409.6),
    "gen_ai.execute_tool.duration": ("s", 14, 0.01, 81.92),
}


@tool
async def look(word: str) -> str:
    """Look a word up."""
    await trio.sleep(0.25)
    return f"{word} {CANARY}"


@tool
async def fail(word: str) -> str:
    """Fail."""
    raise ToolError(f"{word} {CANARY}")


@tool
async def hang(word: str) -> str:
    """Never come back."""
    await trio.sleep_forever()
    return word


TOOLS = Registry([look, fail, hang])
SAY: Reply = [Pause(0.5), Say(f"words {CANARY} words"), Pause(1)]


def calls(*names: str) -> Reply:
    return [Pause(0.1), Say(CANARY), *(Call(name, {"word": CANARY}) for name in names)]


class Case(NamedTuple):
    """How a run goes. `outcome` is its error, "" for none; `chats` are the errors of its requests to providers."""

    replies: Sequence[Reply]
    outcome: str
    chats: Sequence[str]
    tools: Sequence[tuple[str, str]] = ()
    others: Sequence[Sequence[Reply]] = ()
    stop_at: bytes = b""
    run: RunOptions = RunOptions()


LIMITED: Reply = [Status(429, {"retry-after": "1"}, CANARY.encode())]
TWO_STEPS = RunOptions(limits=RunLimits(steps=2))
FAILED = "UPSTREAM_ERROR"
CASES = {
    "words": Case([SAY], "", [""]),
    "thought": Case([[Think(CANARY, "signature"), *SAY]], "", [""]),
    "tools": Case(
        [calls("look", "look"), calls("fail"), SAY],
        "",
        ["", "", ""],
        [("look", ""), ("look", ""), ("fail", "tool_error")],
    ),
    "unknown tool": Case([calls(CANARY), SAY], "", ["", ""], [(OTHER, "tool_error")]),
    "refused": Case([[Status(400, {}, CANARY.encode())]], FAILED, [FAILED]),
    "unreachable": Case([[Unreachable()]], FAILED, [FAILED]),
    "another": Case([[Status(500)]], "", [FAILED, "RATE_LIMITED", ""], others=[[LIMITED], [SAY]]),
    "none left": Case([[Status(500)]], "RATE_LIMITED", [FAILED, "RATE_LIMITED"], others=[[LIMITED]]),
    "failed": Case([[Say(CANARY), Fail(message=CANARY)]], FAILED, [FAILED]),
    "cut": Case([[Say(CANARY), Reset()]], FAILED, [FAILED]),
    "cut in step 2": Case([calls("look"), [Say(CANARY), Cut()]], FAILED, ["", FAILED], [("look", "")]),
    "filtered": Case([[Say(CANARY), Finish(FinishReason.CONTENT_FILTER, "content_filter")]], "CONTENT_FILTER", [""]),
    "stopped": Case([[Say(CANARY), Stall()]], "CANCELLED", ["CANCELLED"], stop_at=b'"content"'),
    "stopped in a tool": Case([calls("hang")], "CANCELLED", [""], [("hang", "CANCELLED")], stop_at=b'"tool_calls"'),
    "silent": Case([[Stall()]], "TIMEOUT", ["TIMEOUT"], run=RunOptions(first_delta_seconds=3)),
    "a loop": Case([calls("look")] * 2, "TOOL_LOOP", ["", ""], [("look", "")], run=TWO_STEPS),
}


WORDLESS = ("refused", "unreachable", "none left", "silent")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector of a test is waited for."""
    monkeypatch.setattr("sluicegate.service.telemetry.CLOSE_SECONDS", 30.0)


@pytest.fixture
def outgoing(monkeypatch: pytest.MonkeyPatch) -> list[httpx2.Headers]:
    """The headers of the requests to scripted providers."""
    found: list[httpx2.Headers] = []
    handle = ScriptedTransport.handle_async_request

    async def handle_noted(transport: ScriptedTransport, request: httpx2.Request) -> httpx2.Response:
        found.append(request.headers)
        return await handle(transport, request)

    monkeypatch.setattr(ScriptedTransport, "handle_async_request", handle_noted)
    return found


@asynccontextmanager
async def told(
    case: Case, to: Collector, ledger: MemoryLedger, *, sample_ratio: float = 1.0, **how: Any
) -> AsyncIterator[Stack]:
    """A service in which a run goes as `case` says; at the end all has been told."""
    options = TelemetryOptions(to.url, SecretStr(f"api-key={CANARY}"), "the-service", sample_ratio)
    telemetry = Telemetry(options, [each.name for each in TOOLS])
    observers = (LogLine(), telemetry)
    try:
        async with stack(
            case.replies,
            others=case.others,
            ledger=ledger,
            observers=observers,
            tools=TOOLS,
            run=case.run,
            prices=PRICES,
            **how,
        ) as found:
            yield found
    finally:
        telemetry.close()


async def ask(service: Stack, case: Case, **headers: str) -> Exchange:
    """Let the run go as `case` says, to its end."""
    body = msgspec.json.encode({"messages": [{"role": "user", "content": f"What of {CANARY}?"}]})
    exchange = await service.open("POST", "/chat", body, {**JSON, **headers})
    if case.stop_at:
        await exchange.until(case.stop_at)
        await service.delete(exchange.run_id)
    await exchange.answer()
    return exchange


def parts(spans: Sequence[Span]) -> tuple[Span, list[Span], list[Span]]:
    """Return the span of the one run, those of its requests, and those of its tools, in their order."""
    by_name: dict[str, list[Span]] = {"invoke_agent": [], "chat": [], "execute_tool": []}
    for span in sorted(spans, key=lambda span: (span.began, span.ended)):
        by_name[span.attributes["gen_ai.operation.name"]].append(span)
    (run,) = by_name["invoke_agent"]
    return run, by_name["chat"], by_name["execute_tool"]


def check_laws(spans: Sequence[Span]) -> None:
    """What holds for the spans of any run."""
    run, chats, tools = parts(spans)
    assert len({span.span_id for span in spans}) == len(spans)
    assert {span.trace_id for span in spans} == {run.trace_id}
    for span in spans:
        assert int(span.trace_id, 16)
        assert int(span.span_id, 16)
        assert span.attributes.keys() <= KNOWN | OURS
        assert not any(CONTENT.search(name) for name in span.attributes)
        assert run.began <= span.began <= span.ended <= run.ended
        assert span.failed == ("error.type" in span.attributes)
    assert run.name == "invoke_agent"
    assert run.kind == INTERNAL
    for chat in chats:
        assert chat.name == f"chat {chat.attributes['gen_ai.request.model']}"
        assert chat.kind == CLIENT
        assert chat.attributes["gen_ai.request.stream"] is True
        assert chat.attributes.get("gen_ai.response.time_to_first_chunk", 0) <= (chat.ended - chat.began) / 1e9 + 1e-6
    for call in tools:
        assert call.name == f"execute_tool {call.attributes['gen_ai.tool.name']}"
        assert call.kind == INTERNAL
        asked = [chat for chat in chats if chat.attributes["sluicegate.step"] == call.attributes["sluicegate.step"]]
        assert call.began >= asked[-1].began
    assert all(span.parent_id == run.span_id for span in [*chats, *tools])


def check_metrics(points: dict[str, list[Point]], spans: Sequence[Span]) -> None:
    """They have what spans have, in sum."""
    run, chats, tools = parts(spans)
    assert points.keys() <= METRICS.keys()
    for name, found in points.items():
        unit, bounds, lowest, highest = METRICS[name]
        for point in found:
            assert (point.unit, len(point.bounds), point.bounds[0], point.bounds[-1]) == (unit, bounds, lowest, highest)
            assert point.attributes.keys() <= KNOWN

    def same(name: str, those: Sequence[Span], keys: Sequence[str]) -> None:
        of_points = sorted(
            (str([each.attributes.get(key) for key in keys]), each.times) for each in points.get(name, ())
        )
        told = [str([each.attributes.get(key) for key in keys]) for each in those]
        assert of_points == sorted((each, told.count(each)) for each in set(told))
        seconds = sum((each.ended - each.began) / 1e9 for each in those)
        assert sum(each.sum for each in points.get(name, ())) == pytest.approx(seconds, abs=1e-5)

    chat_keys = ["gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model", "error.type"]
    same("gen_ai.client.operation.duration", chats, chat_keys)
    same("gen_ai.invoke_agent.duration", [run], ["error.type"])
    same("gen_ai.execute_tool.duration", tools, ["gen_ai.tool.name", "error.type"])
    firsts = [each.attributes.get("gen_ai.response.time_to_first_chunk") for each in chats]
    told = points.get("gen_ai.client.operation.time_to_first_chunk", [])
    assert sum(point.times for point in told) == sum(each is not None for each in firsts)
    assert sum(point.sum for point in told) == pytest.approx(sum(each or 0 for each in firsts))
    for kind in ("input", "output"):
        tokens = [
            each for each in points.get("gen_ai.client.token.usage", []) if each.attributes["gen_ai.token.type"] == kind
        ]
        assert sum(point.sum for point in tokens) == run.attributes[f"gen_ai.usage.{kind}_tokens"]  # fmt: skip


def check_cost(spans: Sequence[Span], settlement: Settlement) -> None:
    """Spans, together and alone, tell what the ledger was told."""
    run, chats, _ = parts(spans)
    assert settlement.cost is not None
    assert run.attributes["sluicegate.cost"] == settlement.cost
    for name, tokens in [
        ("input_tokens", settlement.usage.input_tokens),
        ("output_tokens", settlement.usage.output_tokens),
    ]:
        assert run.attributes[f"gen_ai.usage.{name}"] == tokens
        assert sum(chat.attributes.get(f"gen_ai.usage.{name}", 0) for chat in chats) == tokens


@LINKS
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", CASES)
def test_a_run_is_told_as_it_went(name: str, dialect: str, socket: bool, outgoing: list[httpx2.Headers]) -> None:
    case, ledger = CASES[name], MemoryLedger()

    async def test() -> None:
        async with told(case, to, ledger, socket=socket, dialect=dialect) as service:
            await ask(service, case)

    with collector() as to:
        over(socket, test)
        spans, points = to.spans, to.points
    run, chats, tools = parts(spans)
    check_laws(spans)
    check_metrics(points, spans)
    check_cost(spans, ledger.settlements[0])
    worded = [chat for chat in chats if "gen_ai.response.time_to_first_chunk" in chat.attributes]
    assert len(worded) == (0 if name in WORDLESS else 1 if name == "another" else len(chats))
    assert run.attributes.get("error.type", "") == case.outcome
    assert run.attributes["sluicegate.run.id"] == ledger.settlements[0].run_id
    assert [chat.attributes.get("error.type", "") for chat in chats] == case.chats
    found = [(call.attributes["gen_ai.tool.name"], call.attributes.get("error.type", "")) for call in tools]
    assert sorted(found) == sorted(case.tools)
    assert [headers["traceparent"] for headers in outgoing] == [
        f"00-{run.trace_id}-{chat.span_id}-03" for chat in chats
    ]
    assert "tracestate" not in outgoing[0]
    for _, headers, body in to.requests:
        assert headers["api-key"] == CANARY
        assert CANARY.encode() not in body
    assert {each["service.name"] for each in to.resources} == {"the-service"}


def tell(
    case: Case, ledger: MemoryLedger, *, sample_ratio: float = 1.0, dialect: str = "openai_chat", **headers: str
) -> Collector:
    """Let a run go as `case` says, on a virtual clock; return what was told of it."""

    async def test() -> None:
        async with told(case, to, ledger, sample_ratio=sample_ratio, dialect=dialect) as service:
            await ask(service, case, **headers)

    with collector() as to:
        over(False, test)
    return to


def test_a_reply_that_pauses_is_told_with_what_it_spent() -> None:
    ledger = MemoryLedger()
    case = Case([[Say(CANARY), Finish(FinishReason.PAUSE, "pause_turn")], SAY], "", ["", ""])
    spans = tell(case, ledger, dialect="anthropic").spans
    check_laws(spans)
    check_cost(spans, ledger.settlements[0])
    _, chats, _ = parts(spans)
    assert [chat.attributes["gen_ai.response.finish_reasons"] for chat in chats] == [["pause"], ["stop"]]
    assert all(chat.attributes["gen_ai.usage.output_tokens"] > 0 for chat in chats)


def test_what_a_chat_is_told_with() -> None:
    run, (first, second), (call,) = parts(tell(Case([calls("look"), SAY], "", []), MemoryLedger()).spans)
    assert {name: value for name, value in second.attributes.items() if "usage" not in name} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted-demo",
        "gen_ai.response.model": "scripted-demo",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": pytest.approx(0.5),
        "gen_ai.response.finish_reasons": ["stop"],
        "sluicegate.step": 2,
    }
    assert (first.ended - first.began, second.ended - second.began, call.ended - call.began) == pytest.approx(
        (0.1e9, 1.5e9, 0.25e9), abs=2_000
    )
    assert first.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert run.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert call.attributes["gen_ai.tool.call.id"]


def test_a_cache_that_a_provider_counts_beside_is_told_within() -> None:
    """As the conventions want it, whichever way a provider counts."""
    said = UsageDelta(input_tokens=10, output_tokens=3, cached_tokens=20, cache_write_tokens=30)
    ledger = MemoryLedger()
    spans = tell(Case([[*SAY, said]], "", []), ledger, dialect="anthropic").spans
    run, (chat,), _ = parts(spans)
    assert ledger.settlements[0].usage.input_tokens == 10
    for span in (run, chat):
        assert span.attributes["gen_ai.usage.input_tokens"] == 60
    assert chat.attributes["gen_ai.usage.cache_read.input_tokens"] == 20
    assert chat.attributes["gen_ai.usage.cache_creation.input_tokens"] == 30


def test_what_cannot_be_encoded_takes_no_batch_with_it() -> None:
    assert sendable("m\ud800" + "x" * 1_000) == "m?" + "x" * 254


def test_a_provider_is_told_as_the_api_that_it_speaks() -> None:
    azure = ProviderOptions(via=Via.AZURE, base_url="https://x.openai.azure.com", azure_api_version="1")
    vertex = ProviderOptions("anthropic", Via.VERTEX, vertex_project="p", vertex_region="r")
    options = [ProviderOptions(), ProviderOptions("anthropic"), azure, vertex, ProviderOptions(via=Via.SCRIPTED)]
    told = provider_names({str(at): each for at, each in enumerate(options)})
    assert list(told.values()) == ["openai", "anthropic", "azure.ai.openai", "gcp.vertex_ai", "scripted"]
    values = {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    assert values.issuperset({*told.values()} - {"scripted"})


@pytest.mark.parametrize(
    ("name", "env", "service"),
    [
        ("", {}, "sluicegate"),
        ("", {"OTEL_SERVICE_NAME": "other"}, "other"),
        ("", {"OTEL_RESOURCE_ATTRIBUTES": "service.name=of-attributes,deployment=test"}, "of-attributes"),
        ("mine", {"OTEL_SERVICE_NAME": "other"}, "mine"),
    ],
)
def test_the_environment_holds_where_settings_are_silent(
    name: str, env: dict[str, str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {
        **env,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-of=env",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }.items():
        monkeypatch.setenv(key, value)

    async def test() -> None:
        telemetry = Telemetry(TelemetryOptions(f"{to.url}/", None, name))
        async with stack([SAY], observers=(telemetry,)) as found:
            await found.ask()
        telemetry.close()

    with collector() as to:
        over(False, test)
    assert [each["service.name"] for each in to.resources] == [service]
    assert all(headers["x-of"] == "env" and headers["Content-Encoding"] == "gzip" for _, headers, _ in to.requests)
    assert len(to.spans) == 2
