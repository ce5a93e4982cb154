"""The place of a run in a trace: what a request says is continued, what it should not say breaks nothing."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx2
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sluicegate.providers.script import Say
from sluicegate.providers.scripted import ScriptedTransport
from sluicegate.runtime.ledger import MemoryLedger
from sluicegate.runtime.trace import begin_trace
from sluicegate.service.options import TelemetryOptions
from sluicegate.service.telemetry import Telemetry
from sluicegate.wire.trace_context import TraceFlags, TraceParent, encode_traceparent

from .collector import collector
from .harness import JSON, over, stack
from .test_telemetry import SAY, Case, parts, tell

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
WORDS = Case([SAY], "", [""])
BODY = b'{"messages": [{"role": "user", "content": "Hi"}]}'
REQUESTS, AT_ONCE = 1_000, 50

_character = st.characters(codec="utf-8", exclude_characters="\r\n\0")  # which no server takes for part of a field
_broken = st.one_of(
    st.text(_character),
    st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{14,18}-[0-9a-f]{1,3}\Z"),
    st.tuples(st.integers(0, 54), _character).map(lambda at: SAMPLED[: at[0]] + at[1] + SAMPLED[at[0] + 1 :]),
)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[httpx2.Headers]]:
    """The headers of the requests to scripted providers."""
    found: list[httpx2.Headers] = []
    handle = ScriptedTransport.handle_async_request

    async def handle_noted(transport: ScriptedTransport, request: httpx2.Request) -> httpx2.Response:
        found.append(request.headers)
        return await handle(transport, request)

    with monkeypatch.context() as patch:
        patch.setattr(ScriptedTransport, "handle_async_request", handle_noted)
        yield found


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.service.telemetry.CLOSE_SECONDS", 30.0)


def test_a_trace_is_continued_in_and_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(monkeypatch) as outgoing:
        spans = tell(WORDS, MemoryLedger(), traceparent=SAMPLED, tracestate=" a=1 ,b=2").spans
    run, (chat,), _ = parts(spans)
    assert {span.trace_id for span in spans} == {TRACE}
    assert (run.parent_id, chat.parent_id) == (SPAN, run.span_id)
    assert {span.state for span in spans} == {"a=1,b=2"}
    assert outgoing[0]["traceparent"] == f"00-{TRACE}-{chat.span_id}-01"
    assert outgoing[0]["tracestate"] == "a=1,b=2"
    # As another implementation reads it.
    context = TraceContextTextMapPropagator().extract(dict(outgoing[0]), Context())
    read: SpanContext = get_current_span(context).get_span_context()
    assert (f"{read.trace_id:032x}", f"{read.span_id:016x}") == (TRACE, chat.span_id)
    assert read.trace_state.to_header() == "a=1,b=2"


def test_who_asks_decides_what_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics have every run."""
    for header, ratio, count in [(SAMPLED, 0.0, 2), (UNSAMPLED, 1.0, 0), ("nonsense", 0.0, 0), ("nonsense", 1.0, 2)]:
        with watched(monkeypatch) as outgoing:
            to = tell(WORDS, MemoryLedger(), sample_ratio=ratio, traceparent=header)
        assert len(to.spans) == count
        assert to.points["gen_ai.invoke_agent.duration"][0].times == 1
        flags = int(outgoing[0]["traceparent"][-2:], 16)
        assert bool(flags & TraceFlags.SAMPLED) == bool(count)


@given(st.floats(0, 1))
def test_a_ratio_samples_as_opentelemetry_does(ratio: float) -> None:
    sampler = TraceIdRatioBased(ratio)
    for _ in range(20):
        trace = begin_trace(None, "", ratio)
        decision = sampler.should_sample(None, int(trace.trace_id, 16), "x").decision
        assert trace.is_sampled == (decision is Decision.RECORD_AND_SAMPLE)
        assert TraceFlags.RANDOM in trace.flags


@given(st.sampled_from([TraceFlags(each) for each in range(4)]), st.floats(0, 1))
def test_a_parent_keeps_its_flags(flags: TraceFlags, ratio: float) -> None:
    parent = TraceParent(TRACE, SPAN, flags)
    trace = begin_trace(parent, "a=1", ratio)
    headers = trace.headers(trace.span_id)
    sent = TraceParent(TRACE, trace.span_id, flags)
    assert headers == {"traceparent": encode_traceparent(sent), "tracestate": "a=1"}
    assert trace.span_id != SPAN


@pytest.mark.sweep
def test_no_header_breaks_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 requests whose trace context is broken somehow: each gets its answer, in a trace of its own."""
    asked = 0

    @settings(max_examples=REQUESTS // AT_ONCE, deadline=None, phases=[Phase.generate])
    @given(st.lists(st.tuples(_broken, st.text(_character)), min_size=AT_ONCE, max_size=AT_ONCE))
    def all_of(pairs: list[tuple[str, str]]) -> None:
        async def test() -> None:
            nonlocal asked
            async with stack(lambda _: [Say("x")], observers=(telemetry,)) as found:
                for parent, state in pairs:
                    fields = {**JSON, "traceparent": parent, "tracestate": state}
                    answer = await (await found.open("POST", "/chat", BODY, fields)).answer()
                    assert answer.frames[-1]["done"]
                    asked += 1
                    again = TraceContextTextMapPropagator().extract(dict(outgoing[-1]), Context())
                    assert get_current_span(again).get_span_context().is_valid

        over(False, test)

    with (
        collector() as to,
        watched(monkeypatch) as outgoing,
        closing(Telemetry(TelemetryOptions(to.url, sample_ratio=0.0))) as telemetry,
    ):
        all_of()
    assert asked >= REQUESTS
    assert len({each["traceparent"][3:35] for each in outgoing}) > REQUESTS * 0.8


def test_without_telemetry_nothing_is_sent_along(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with stack([SAY]) as found:
            await (await found.open("POST", "/chat", BODY, {**JSON, "traceparent": SAMPLED})).answer()

    with watched(monkeypatch) as outgoing:
        over(False, test)
    assert len(outgoing) == 1
    assert "traceparent" not in outgoing[0]


@pytest.mark.sockets
def test_two_headers_are_none() -> None:
    """Over a real socket, where a field may come twice."""

    async def test() -> None:
        telemetry = Telemetry(TelemetryOptions(to.url))
        async with stack([SAY], socket=True, observers=(telemetry,)) as found:
            host, _, port = found.url.removeprefix("http://").rpartition(":")
            lines = [f"traceparent: {SAMPLED}"] * 2 + ["Host: x", "Content-Type: application/json", "Connection: close"]
            head = "\r\n".join(["POST /chat HTTP/1.1", *lines, f"Content-Length: {len(BODY)}", "", ""])
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(head.encode() + BODY)
                answer = b"".join([data async for data in stream])
            assert b"[DONE]" in answer
        telemetry.close()

    with collector() as to:
        over(True, test)
    run, _, _ = parts(to.spans)
    assert run.trace_id != TRACE
    assert run.parent_id == ""
