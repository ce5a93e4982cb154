"""Traces and metrics for OpenTelemetry: made of a run's record once it has ended, sent by threads of the SDK.

Neither a token nor a run ever waits for them. Where nobody takes them they are dropped, up to 2048 spans are kept
(OTEL_BSP_MAX_QUEUE_SIZE). Imported only where they are wanted: the SDK takes 0.3 s of start-up.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from quart import has_request_context, request

from ..runtime.driver import Driver
from ..runtime.trace import Trace, begin_trace
from ..wire.trace_context import decode_traceparent, decode_tracestate
from .access import RawHeaders
from .chats import chats_of
from .measures import Measures
from .options import TelemetryOptions
from .spans import Spans

NAME: Final = "sluicegate"
CLOSE_SECONDS: Final = 0.5  # of the 2 s in which the process is out
log = logging.getLogger(__name__)


class Telemetry:
    """An observer that tells a collector of runs. `tools` are the names of those that there are, `providers` has what
    the conventions call each provider. Starts threads; `close` ends them.
    """

    def __init__(
        self, options: TelemetryOptions, tools: Iterable[str] = (), providers: Mapping[str, str] | None = None
    ) -> None:
        self._ratio = options.sample_ratio
        self._providers = providers or {}
        known, endpoint, headers = frozenset(tools), options.otlp_endpoint.rstrip("/"), options.headers()
        resource = _resource(options.service_name)
        metrics = OTLPMetricExporter(f"{endpoint}/v1/metrics", headers=headers)
        reader = PeriodicExportingMetricReader(metrics)
        self._meters = MeterProvider(
            [reader], resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", headers=headers)
        self._exporters = (metrics, exporter)
        self._processor = BatchSpanProcessor(exporter, meter_provider=self._meters)
        self._spans = Spans(resource, InstrumentationScope(NAME, version(NAME)), known)
        self._measures = Measures(self._meters.get_meter(NAME, version(NAME)), known)

    def place(self, headers: RawHeaders) -> Trace:
        """Return the place of a run in the trace that a request with `headers` belongs to. Never raises."""
        parent = decode_traceparent([value for name, value in headers if name == b"traceparent"])
        if parent is None:
            return begin_trace(None, "", self._ratio)
        state = decode_tracestate([value for name, value in headers if name == b"tracestate"])
        return begin_trace(parent, state, self._ratio)

    def started(self, driver: Driver) -> None:
        driver.record.trace = self.place(request.scope["headers"] if has_request_context() else ())

    def ended(self, driver: Driver) -> None:
        try:
            self._tell(driver)
        except Exception:  # of libraries that are not ours: no run may end otherwise for it
            log.exception("run %s: it was not told to OpenTelemetry", driver.run.run_id)

    def close(self) -> None:
        """Send what is left, and give up what cannot be sent in CLOSE_SECONDS. Blocks for so long at most."""
        closing = [
            threading.Thread(target=close, daemon=True) for close in (self._processor.shutdown, self._meters.shutdown)
        ]
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in closing):
            for exporter in self._exporters:  # their threads try no more
                exporter.shutdown()

    def _tell(self, driver: Driver) -> None:
        chats = list(chats_of(driver, self._providers))
        self._measures.add(driver, chats)
        trace = driver.record.trace
        if trace is not None and trace.is_sampled:
            for span in self._spans.of(driver, trace, chats):
                self._processor.on_end(span)


def _resource(name: str) -> Resource:
    """With the name of the environment (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) where the settings give none."""
    found = Resource.create({"service.version": version(NAME)})
    if not name and not str(found.attributes["service.name"]).startswith("unknown_service"):
        return found
    return found.merge(Resource({"service.name": name or NAME}))
