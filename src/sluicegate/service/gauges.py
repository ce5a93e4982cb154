"""What there is just now: read where metrics are asked for, counted nowhere."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..providers.gate import Gate as ProviderGate
from ..providers.models import Models
from ..runtime.admission import Gate
from ..runtime.driver import Phase
from ..runtime.ledger import Ledger
from ..runtime.spool import Spool
from ..tools.registry import Registry
from .metrics import Metrics


class Gauges:
    """A collector. `admission` is asked for the state of the gate before new runs."""

    def __init__(
        self,
        metrics: Metrics,
        providers: Iterable[ProviderGate],
        ledger: Ledger | None,
        max_runs: int,
        admission: Callable[[], Gate],
    ) -> None:
        self._metrics = metrics
        self._providers = tuple(providers)
        self._spool = ledger if isinstance(ledger, Spool) else None
        self._max_runs = max_runs
        self._admission = admission
        self._version = version("sluicegate")

    def collect(self) -> Iterator[Metric]:
        """Look."""
        build = GaugeMetricFamily("sluicegate_build_info", "1, and which release this is.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        phases = Counter(driver.phase for driver in self._metrics.live)
        runs = GaugeMetricFamily("sluicegate_runs_active", "Runs under way, by what they do.", labels=["phase"])
        for phase in Phase:
            if phase is not Phase.ENDED:
                runs.add_metric([phase], phases[phase])
        yield runs
        streams = sum(len(driver.feed.readers) for driver in self._metrics.live)
        yield _gauge("sluicegate_streams_active", "Responses that read runs under way.", streams)
        yield _gauge("sluicegate_max_runs", "So many runs may be under way (run.max_runs).", self._max_runs)
        shedding = self._admission() is Gate.SHEDDING
        yield _gauge(
            "sluicegate_shedding", "1 while new runs are refused in part (run.max_lateness_seconds).", shedding
        )
        text = "How long the turn of the event loop took in which this was asked for: everything waits as long."
        yield _gauge("sluicegate_loop_turn_seconds", text, self._metrics.turn_seconds)
        yield CounterMetricFamily(
            "sluicegate_cpu_seconds_total", "CPU time of the process, which can use one core.", time.process_time()
        )
        aside = GaugeMetricFamily(
            "sluicegate_provider_set_aside", "1 while a provider is set aside because it fails.", labels=["provider"]
        )
        for gate in self._providers:
            aside.add_metric([gate.name], gate.is_aside)
        yield aside
        if self._spool is not None:
            yield from _of_spool(self._spool)


def gauged(
    models: Models, tools: Registry, ledger: Ledger | None, max_runs: int, admission: Callable[[], Gate]
) -> Metrics:
    """Return metrics that have these gauges beside them."""
    gates = models.gates
    metrics = Metrics(models.names, [tool.name for tool in tools], [gate.name for gate in gates])
    metrics.registry.register(Gauges(metrics, gates, ledger, max_runs, admission))
    return metrics


def _of_spool(spool: Spool) -> Iterator[Metric]:
    yield _gauge("sluicegate_spool_unwritten_runs", "Runs whose usage waits to be written.", spool.unwritten)
    yield _gauge(
        "sluicegate_spool_open_runs", "Runs that asked a provider and are not settled.", len(spool.open_intents)
    )
    yield CounterMetricFamily("sluicegate_spool_failures_total", "What the spool's files refused.", spool.failures)
    yield CounterMetricFamily("sluicegate_spool_lost_runs_total", "Runs whose usage was given up.", spool.lost)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value)
