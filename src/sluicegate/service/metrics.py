"""Metrics for Prometheus, made from the record of each run when it ends: per run, never per token.

No label says who asked, or what. Names of models come from clients, names of tools from models: both are bounded.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Final

import trio
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from ..machine.errors import ErrorCode
from ..machine.events import RunFailed
from ..runtime.driver import Driver
from ..runtime.record import PAUSES, CallOutcome, Record
from .families import Counter, Histogram, Names, buckets

TEXT: Final = CONTENT_TYPE_PLAIN_0_0_4
OPEN_METRICS: Final = openmetrics.CONTENT_TYPE_LATEST
UNKNOWN: Final = "unknown"  # a tool that there is not
ANSWERED: Final = "ok"  # an attempt that had its first word
CANCELLED: Final = "cancelled"  # one whose run ended before that
KINDS: Final = ("input", "output", "cached", "cache_write", "reasoning")
WAITS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf)
LENGTHS: Final = (0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, math.inf)
CUTS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, math.inf)
_REFUSALS: Final = (
    (401, ErrorCode.UNAUTHORIZED),
    (403, ErrorCode.UNAUTHORIZED),
    (429, ErrorCode.RATE_LIMITED),
    (503, ErrorCode.OVERLOADED),
)
_AT_ONCE: Final = 200  # samples that are encoded in one turn of the event loop; they take 2 to 4 ms
_LINES: Final = re.compile(rb"^# .*\n", re.MULTILINE)  # what describes a family, and was said at its first part
_encode_open: Callable[[Collector], bytes] = openmetrics.generate_latest  # it has no types of its own


class Metrics:
    """An `Observer`, and a collector of its own `registry`, where others may register theirs. `models`, `tools` and
    `providers` are the names that are known beforehand; `live` are the runs under way.
    """

    def __init__(self, models: Iterable[str], tools: Iterable[str], providers: Iterable[str]) -> None:
        self.live: set[Driver] = set()
        self.turn_seconds = 0.0
        self.registry = CollectorRegistry()
        self._models = Names(models)
        self._tools = frozenset(tools)
        self._pauses = [0] * len(PAUSES)
        each_provider = [(provider,) for provider in providers]
        self._started = Counter("sluicegate_runs_started_total", "Runs that were started.")
        self._ended = Counter(
            "sluicegate_runs_ended_total",
            "Runs that ended, by finish reason (lower case) or error code (upper case).",
            ["outcome", "model"],
        )
        self._errors = Counter(
            "sluicegate_run_errors_total", "Runs that ended with an error.", ["code"], [(code,) for code in ErrorCode]
        )
        self._first_word = Histogram(
            "sluicegate_first_word_seconds", "From a run's start to the first word of its provider.", WAITS, ["model"]
        )
        self._whole = Histogram("sluicegate_run_seconds", "From a run's start to its end.", LENGTHS)
        self._cut_off = Histogram(
            "sluicegate_cut_off_seconds",
            "From the stop of a run, or the leaving of its last reader, until its upstream and tools are gone.",
            CUTS,
        )
        self._tokens = Counter(
            "sluicegate_tokens_total",
            "Tokens, of ended runs, as providers count them: some count cached ones as a part of the input.",
            ["kind", "model"],
        )
        self._cost = Counter("sluicegate_cost_dollars_total", "What ended runs cost, in US dollars.", ["model"])
        self._unpriced = Counter(
            "sluicegate_unpriced_runs_total", "Runs whose cost is not known, since no price is.", ["model"]
        )
        self._tool_seconds = Histogram(
            "sluicegate_tool_seconds", "Tool calls that were not cancelled.", LENGTHS, ["tool"]
        )
        self._calls = Counter(
            "sluicegate_tool_calls_total",
            "Tool calls.",
            ["tool", "outcome"],
            [(tool, outcome) for tool in sorted(self._tools) for outcome in CallOutcome],
        )
        self._attempts = Counter(
            "sluicegate_provider_attempts_total",
            "Requests to providers: ok with a first word, an error code before one, cancelled if the run ended before.",
            ["provider", "outcome"],
            [(*provider, ANSWERED) for provider in each_provider],
        )
        self._retries = Counter(
            "sluicegate_provider_retries_total",
            "Requests to a provider that had failed before in the step.",
            ["provider"],
            each_provider,
        )
        self._fallbacks = Counter(
            "sluicegate_provider_fallbacks_total",
            "Requests to a provider after another had failed.",
            ["provider"],
            each_provider,
        )
        self._evictions = Counter(
            "sluicegate_evictions_total",
            "Clients that were cut off because they took too little of what they were sent.",
        )
        self._refusals = Counter(
            "sluicegate_refusals_total",
            "Requests answered with an error by the service itself, so without a run.",
            ["status", "code"],
            [(str(status), code) for status, code in _REFUSALS],
        )
        self.registry.register(self)

    def started(self, driver: Driver) -> None:
        """A run starts."""
        self.live.add(driver)
        self._started.add()

    def ended(self, driver: Driver) -> None:
        """Count all that its record tells."""
        self.live.discard(driver)
        run, record, terminal = driver.run, driver.record, driver.run.terminal
        if terminal is None or record.ended is None:
            return
        model = self._models.label(run.model)
        self._whole.observe(record.ended - record.began)
        if record.first_word is not None:
            self._first_word.observe(record.first_word - record.began, model)
        if isinstance(terminal, RunFailed):
            code = terminal.error.code
            self._ended.add(code, model)
            self._errors.add(code)
            if code is ErrorCode.CANCELLED:
                self._cut_off.observe(trio.current_time() - record.ended)
        else:
            self._ended.add(terminal.finish_reason, model)
        usage = terminal.usage
        for kind, tokens in zip(
            KINDS,
            (
                usage.input_tokens,
                usage.output_tokens,
                usage.cached_tokens,
                usage.cache_write_tokens,
                usage.reasoning_tokens,
            ),
            strict=True,
        ):
            self._tokens.add(kind, model, by=tokens)
        if (cost := record.cost) is None:
            self._unpriced.add(model)
        else:
            self._cost.add(model, by=cost)
        self._pauses = [sum(pair) for pair in zip(self._pauses, record.pauses, strict=True)]
        self._add_tools(record)
        self._add_attempts(record)

    def note_eviction(self) -> None:
        """A client was cut off because it took too little."""
        self._evictions.add()

    def note_refusal(self, status: int, code: ErrorCode) -> None:
        """A request was answered with an error, and no run was asked for it."""
        self._refusals.add(str(status), code)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics of the registry and the media type of that, which `accept` chooses: the text format of
        Prometheus, or OpenMetrics. Encoded in parts with a checkpoint before each: with a hundred models, 2,700 lines,
        all of it takes 20 to 40 ms. The first checkpoint is told as well: it is as long as a turn of the event loop.
        """
        is_open = OPEN_METRICS.partition(";")[0] in accept
        encode, end = (_encode_open, b"# EOF\n") if is_open else (generate_latest, b"")
        asked = trio.current_time()
        await trio.lowlevel.checkpoint()
        self.turn_seconds = trio.current_time() - asked
        parts = []
        for family in self.registry.collect():
            for part in _parts_of(family):
                await trio.lowlevel.checkpoint()
                data = encode(part).removesuffix(end)
                parts.append(data if part.is_first else _LINES.sub(b"", data))
        return b"".join([*parts, end]), OPEN_METRICS if is_open else TEXT

    def collect(self) -> Iterator[Metric]:
        """Return what has been counted so far."""
        for each in (self._started, self._ended, self._errors, self._tokens, self._cost, self._unpriced, self._calls):
            yield each.family()
        for each in (self._attempts, self._retries, self._fallbacks, self._evictions, self._refusals):
            yield each.family()
        for histogram in (self._first_word, self._whole, self._cut_off, self._tool_seconds):
            yield histogram.family()
        # Without a sum, which nobody keeps.
        text = "Between two reads of a reply that brought something; a read may bring several tokens."
        yield HistogramMetricFamily("sluicegate_token_pause_seconds", text, buckets(PAUSES, self._pauses))

    def _add_tools(self, record: Record) -> None:
        for call in record.tools:
            tool = call.name if call.name in self._tools else UNKNOWN
            self._calls.add(tool, call.outcome)
            if call.ended is not None:
                self._tool_seconds.observe(call.ended - call.began, tool)

    def _add_attempts(self, record: Record) -> None:
        for step in record.steps:
            for number, attempt in enumerate(step.attempts):
                provider = attempt.candidate.gate.name
                if attempt.ended is None:
                    outcome: str = CANCELLED
                else:
                    outcome = ANSWERED if attempt.error is None else attempt.error.code
                self._attempts.add(provider, outcome)
                if number:
                    earlier = [each.candidate for each in step.attempts[:number]]
                    again = self._retries if attempt.candidate in earlier else self._fallbacks
                    again.add(provider)


class _Part:
    """A collector of some samples of a family."""

    def __init__(self, family: Metric, begin: int) -> None:
        self.is_first = not begin
        self._family = copy(family)
        self._family.samples = family.samples[begin : begin + _AT_ONCE]

    def collect(self) -> Iterable[Metric]:
        """Return the part."""
        return [self._family]


def _parts_of(family: Metric) -> Iterator[_Part]:
    for begin in range(0, len(family.samples) or 1, _AT_ONCE):
        yield _Part(family, begin)
