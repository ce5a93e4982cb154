"""`sluicegate deploy prometheus`: rules for Prometheus, which alert where somebody has to look."""

from typing import Final, NamedTuple


class Rule(NamedTuple):
    """An alert: `query` is true for `minutes` before it is raised."""

    name: str
    minutes: int
    query: str
    text: str


RULES: Final = (
    Rule(
        "SluicegateGone",
        2,
        "absent(sluicegate_build_info)",
        "No instance of sluicegate is read by this Prometheus.",
    ),
    Rule(
        "SluicegateRunsFail",
        5,
        'sum by (instance) (rate(sluicegate_run_errors_total{code!~"BUDGET_EXCEEDED|CANCELLED|SHUTTING_DOWN"}[5m]))'
        " / sum by (instance) (rate(sluicegate_runs_ended_total[5m])) > 0.1",
        "More than a tenth of the runs end with an error; the dashboard has them by code.",
    ),
    Rule(
        "SluicegateFirstWordLate",
        10,
        "histogram_quantile(0.95, sum by (le, model) (rate(sluicegate_first_word_seconds_bucket[10m]))) > 10",
        "One in twenty runs of a model waits longer than 10 s for its first word.",
    ),
    Rule(
        "SluicegateCutOffLate",
        5,
        "histogram_quantile(0.99, sum by (le, instance) (rate(sluicegate_cut_off_seconds_bucket[10m]))) > 2",
        "One in a hundred runs that are stopped or left takes longer than 2 s to be gone: it costs money meanwhile.",
    ),
    Rule(
        "SluicegateProviderSetAside",
        2,
        "max by (provider) (sluicegate_provider_set_aside) > 0",
        "A provider is set aside because it fails; its models are had from the next in their lists, or not at all.",
    ),
    Rule(
        "SluicegateSheds",
        2,
        "sluicegate_shedding > 0",
        "An instance is asked for more than it can do and refuses new runs in part: start another one.",
    ),
    Rule(
        "SluicegateNearlyFull",
        5,
        "sum by (instance) (sluicegate_runs_active) / sum by (instance) (sluicegate_max_runs) > 0.9",
        "Nine tenths of the runs that may be under way are (run.max_runs); the rest is refused.",
    ),
    Rule(
        "SluicegateLoopLate",
        5,
        "avg_over_time(sluicegate_loop_turn_seconds[5m]) > 0.1",
        "A turn of the event loop takes 100 ms on average, and every token waits as long.",
    ),
    Rule(
        "SluicegateUsageUnwritten",
        2,
        "sluicegate_spool_unwritten_runs > 0",
        "The spool cannot write what runs cost and keeps it in memory; see to its directory's room and rights.",
    ),
    Rule(
        "SluicegateUsageLost",
        0,
        "increase(sluicegate_spool_lost_runs_total[15m]) > 0",
        "The usage of runs was given up (spool.unwritten_runs).",
    ),
)


def rules() -> str:
    """Return the file of rules, in YAML."""
    lines = ["groups:", "  - name: sluicegate", "    rules:"]
    for rule in RULES:
        lines += [
            f"      - alert: {rule.name}",
            "        expr: >-",
            f"          {rule.query}",
            f"        for: {rule.minutes}m",
            "        annotations:",
            f'          summary: "{rule.text}"',
        ]
    return "\n".join([*lines, ""])
