"""What the dashboard shows: its rows, their panels, and the queries of these, in PromQL with Grafana's variables.

`$instance` and `$model` are what is chosen at the top of the page, `$__rate_interval` is as long as four scrapes at
least.
"""

from typing import Final, NamedTuple

_QUANTILES: Final = (0.5, 0.95, 0.99)


class Query(NamedTuple):
    """PromQL, and what its lines are called."""

    text: str
    legend: str


class Panel(NamedTuple):
    """`unit` is one of Grafana's ids."""

    title: str
    unit: str
    text: str
    queries: tuple[Query, ...]


def _of(metric: str, more: str = "") -> str:
    chosen = 'instance=~"$instance"' + (f",{more}" if more else "")
    return f"{metric}{{{chosen}}}"


def _rate(metric: str, by: str = "", more: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({_of(metric, more)}[$__rate_interval]))"


def _sum(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} ({_of(metric)})"


def _quantile(share: float, metric: str, by: str = "", more: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{metric}_bucket', f'le, {by}' if by else 'le', more)})"


def _quantiles(metric: str, more: str = "") -> tuple[Query, ...]:
    return tuple(Query(_quantile(share, metric, "", more), f"p{share * 100:g}") for share in _QUANTILES)


_MODEL: Final = 'model=~"$model"'
_NOT_CANCELLED: Final = 'code!="CANCELLED"'
_IN_TIME: Final = 'le="0.25"'
_WRONG: Final = 'outcome="error"'
ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "Traffic",
        (
            Panel(
                "Runs",
                "reqps",
                "Runs that start and end.",
                (
                    Query(_rate("sluicegate_runs_started_total"), "started"),
                    Query(_rate("sluicegate_runs_ended_total"), "ended"),
                ),
            ),
            Panel(
                "Runs by model",
                "reqps",
                "Runs that end, by the model that was asked for.",
                (Query(_rate("sluicegate_runs_ended_total", "model", _MODEL), "{{model}}"),),
            ),
            Panel(
                "Under way",
                "short",
                "Runs by what they do, and the responses that read them.",
                (
                    Query(_sum("sluicegate_runs_active", "phase"), "{{phase}}"),
                    Query(_sum("sluicegate_streams_active"), "streams"),
                ),
            ),
        ),
    ),
    (
        "Latency",
        (
            Panel(
                "First word",
                "s",
                "From the start of a run to the first word of its provider.",
                _quantiles("sluicegate_first_word_seconds", _MODEL),
            ),
            Panel(
                "First word by model, p95",
                "s",
                "From the start of a run to the first word of its provider.",
                (Query(_quantile(0.95, "sluicegate_first_word_seconds", "model", _MODEL), "{{model}}"),),
            ),
            Panel(
                "Pauses",
                "s",
                "Between two reads of a reply that brought something.",
                _quantiles("sluicegate_token_pause_seconds"),
            ),
            Panel("Whole runs", "s", "From the start of a run to its end.", _quantiles("sluicegate_run_seconds")),
        ),
    ),
    (
        "Errors",
        (
            Panel(
                "Runs by outcome",
                "reqps",
                "Finish reasons are in lower case, error codes in upper case.",
                (Query(_rate("sluicegate_runs_ended_total", "outcome", _MODEL), "{{outcome}}"),),
            ),
            Panel(
                "Failed runs",
                "percentunit",
                "The share of runs that ended with an error, those that were stopped or left not counted.",
                (
                    Query(
                        f"{_rate('sluicegate_run_errors_total', more=_NOT_CANCELLED)}"
                        f" / {_rate('sluicegate_runs_ended_total')}",
                        "failed",
                    ),
                ),
            ),
            Panel(
                "Errors by code",
                "reqps",
                "Runs that ended with an error.",
                (Query(_rate("sluicegate_run_errors_total", "code"), "{{code}}"),),
            ),
            Panel(
                "Refusals",
                "reqps",
                "Requests that the service answered with an error itself: no key, no right, too many, no room.",
                (Query(_rate("sluicegate_refusals_total", "status, code"), "{{status}} {{code}}"),),
            ),
        ),
    ),
    (
        "Cut-off",
        (
            Panel(
                "Cut-off",
                "s",
                "From the stop of a run, or the leaving of its last reader, until its upstream and tools are gone.",
                _quantiles("sluicegate_cut_off_seconds"),
            ),
            Panel(
                "Cut off within 250 ms",
                "percentunit",
                "The share of stopped and left runs whose upstream and tools were gone by then.",
                (
                    Query(
                        f"{_rate('sluicegate_cut_off_seconds_bucket', more=_IN_TIME)}"
                        f" / {_rate('sluicegate_cut_off_seconds_count')}",
                        "in time",
                    ),
                ),
            ),
            Panel(
                "Evictions",
                "reqps",
                "Clients that were cut off because they took too little of what they were sent.",
                (Query(_rate("sluicegate_evictions_total"), "evictions"),),
            ),
        ),
    ),
    (
        "Tokens and cost",
        (
            Panel(
                "Tokens by kind",
                "short",
                "Tokens per second, counted when a run ends.",
                (Query(_rate("sluicegate_tokens_total", "kind", _MODEL), "{{kind}}"),),
            ),
            Panel(
                "Output by model",
                "short",
                "Output tokens per second, counted when a run ends.",
                (Query(_rate("sluicegate_tokens_total", "model", f'kind="output",{_MODEL}'), "{{model}}"),),
            ),
            Panel(
                "Cost per hour",
                "currencyUSD",
                "What runs cost at the present rate.",
                (Query(f"{_rate('sluicegate_cost_dollars_total', 'model', _MODEL)} * 3600", "{{model}}"),),
            ),
            Panel(
                "Cost of the last 24 hours",
                "currencyUSD",
                "By the prices of the models.",
                (
                    Query(
                        f"sum by (model) (increase({_of('sluicegate_cost_dollars_total', _MODEL)}[24h]))", "{{model}}"
                    ),
                ),
            ),
            Panel(
                "Runs without a price",
                "reqps",
                "Their cost is not known; give their models a price.",
                (Query(_rate("sluicegate_unpriced_runs_total", "model", _MODEL), "{{model}}"),),
            ),
        ),
    ),
    (
        "Tools",
        (
            Panel(
                "Calls",
                "reqps",
                "By tool and outcome.",
                (Query(_rate("sluicegate_tool_calls_total", "tool, outcome"), "{{tool}} {{outcome}}"),),
            ),
            Panel(
                "Time of calls, p95",
                "s",
                "Of those that were not cancelled.",
                (Query(_quantile(0.95, "sluicegate_tool_seconds", "tool"), "{{tool}}"),),
            ),
            Panel(
                "Failed calls",
                "percentunit",
                "The share of calls of which the model was told an error.",
                (
                    Query(
                        f"{_rate('sluicegate_tool_calls_total', 'tool', _WRONG)}"
                        f" / {_rate('sluicegate_tool_calls_total', 'tool')}",
                        "{{tool}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Providers",
        (
            Panel(
                "Requests",
                "reqps",
                "By provider, and what came of them until their first word.",
                (Query(_rate("sluicegate_provider_attempts_total", "provider, outcome"), "{{provider}} {{outcome}}"),),
            ),
            Panel(
                "Retries and fallbacks",
                "reqps",
                "Requests that were made because one before had failed.",
                (
                    Query(_rate("sluicegate_provider_retries_total", "provider"), "{{provider}} again"),
                    Query(_rate("sluicegate_provider_fallbacks_total", "provider"), "{{provider}} instead"),
                ),
            ),
            Panel(
                "Set aside",
                "short",
                "On how many instances a provider is set aside because it fails.",
                (Query(_sum("sluicegate_provider_set_aside", "provider"), "{{provider}}"),),
            ),
        ),
    ),
    (
        "Capacity",
        (
            Panel(
                "CPU",
                "percentunit",
                "Of the one core that a process can use.",
                (Query(f"rate({_of('sluicegate_cpu_seconds_total')}[$__rate_interval])", "{{instance}}"),),
            ),
            Panel(
                "Turn of the event loop",
                "s",
                "At the scrape: everything waits as long.",
                (Query(_of("sluicegate_loop_turn_seconds"), "{{instance}}"),),
            ),
            Panel(
                "Room taken",
                "percentunit",
                "Runs under way, of those that may be; 1 while new runs are refused in part.",
                (
                    Query(
                        f"{_sum('sluicegate_runs_active', 'instance')} / {_sum('sluicegate_max_runs', 'instance')}",
                        "{{instance}}",
                    ),
                    Query(_of("sluicegate_shedding"), "{{instance}} sheds"),
                ),
            ),
            Panel(
                "Spool",
                "short",
                "Runs whose usage waits to be written, and that are not settled yet.",
                (
                    Query(_sum("sluicegate_spool_unwritten_runs"), "unwritten"),
                    Query(_sum("sluicegate_spool_open_runs"), "open"),
                ),
            ),
            Panel(
                "Spool trouble",
                "short",
                "What its files refused per second, and runs whose usage was given up.",
                (
                    Query(_rate("sluicegate_spool_failures_total"), "failures"),
                    Query(_rate("sluicegate_spool_lost_runs_total"), "lost"),
                ),
            ),
            Panel(
                "Releases",
                "short",
                "How many instances run which one.",
                (Query(f"count by (version) ({_of('sluicegate_build_info')})", "{{version}}"),),
            ),
        ),
    ),
)
VARIABLES: Final = {
    "instance": "label_values(sluicegate_build_info, instance)",
    "model": "label_values(sluicegate_runs_ended_total, model)",
}
