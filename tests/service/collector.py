"""A collector of OpenTelemetry: OTLP over HTTP on a real socket, in a thread of its own. What it gets it decodes."""

import gzip
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


class Span(NamedTuple):
    """A span as it was sent."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    flags: int
    began: int
    ended: int
    failed: bool
    attributes: dict[str, Any]


class Point(NamedTuple):
    """A point of a histogram."""

    times: int
    sum: float
    bounds: tuple[float, ...]
    unit: str
    attributes: dict[str, Any]


class Collector:
    """What came so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def spans(self) -> list[Span]:
        found = []
        for path, _, body in self.requests:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        assert scope.scope.name == "sluicegate"
                        found += [_span(each) for each in scope.spans]
        return found

    @property
    def points(self) -> dict[str, list[Point]]:
        """The points of each metric, as they were told last."""
        found: dict[str, list[Point]] = {}
        for path, _, body in self.requests:
            if path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        for metric in scope.metrics:
                            found[metric.name] = [_point(each, metric.unit) for each in metric.histogram.data_points]
        return found

    @property
    def resources(self) -> list[dict[str, Any]]:
        return [
            _values(each.resource.attributes)
            for path, _, body in self.requests
            if path == "/v1/traces"
            for each in ExportTraceServiceRequest.FromString(body).resource_spans
        ]


@contextmanager
def collector(*, hangs: bool = False) -> Iterator[Collector]:
    """A collector that takes everything, or one that takes connections and never answers.

    Meanwhile exporters draw their random numbers apart, since Hypothesis takes note of who draws from the common ones.
    """
    left = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if hangs:
                left.wait()
                return
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            found.requests.append((self.path, dict(self.headers), body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Nobody reads it."""

    with pytest.MonkeyPatch.context() as patch, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        patch.setattr("opentelemetry.exporter.otlp.common.http.random", random.Random())
        server.daemon_threads = True
        found = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            left.set()
            server.shutdown()
            thread.join()


def _span(span: Any) -> Span:
    return Span(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        flags=span.flags & 0xFF,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        attributes=_values(span.attributes),
    )


def _point(point: Any, unit: str) -> Point:
    return Point(point.count, point.sum, tuple(point.explicit_bounds), unit, _values(point.attributes))


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in _typed(attributes)}


def _typed(attributes: Any) -> list[KeyValue]:
    return list(attributes)


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, str(kind))
