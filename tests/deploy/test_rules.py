"""The printed alerts, tried by Prometheus' own tool: each is raised where it should be, and none where all is well."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sluicegate.cli import main
from sluicegate.cli.rules import RULES

from ..service.harness import stack
from .test_grafana import brain, names_of, program, spooled

HERE = {"instance": "a:8000"}
# Values minute by minute, in Prometheus' notation: begin, growth and number of minutes.
WELL = {
    "sluicegate_build_info": "1+0x60",
    "sluicegate_runs_ended_total": "0+100x60",
    'sluicegate_run_errors_total{code="UPSTREAM_ERROR"}': "0+5x60",
    'sluicegate_run_errors_total{code="CANCELLED"}': "0+50x60",
    'sluicegate_first_word_seconds_bucket{model="m",le="2.5"}': "0+99x60",
    'sluicegate_first_word_seconds_bucket{model="m",le="+Inf"}': "0+100x60",
    'sluicegate_cut_off_seconds_bucket{le="0.01"}': "0+100x60",
    'sluicegate_cut_off_seconds_bucket{le="+Inf"}': "0+100x60",
    'sluicegate_provider_set_aside{provider="p"}': "0+0x60",
    "sluicegate_shedding": "0 0 0 1 0 0 0 0 1 0+0x52",
    "sluicegate_runs_active": "100+0x60",
    "sluicegate_max_runs": "1000+0x60",
    "sluicegate_loop_turn_seconds": "0.01+0x60",
    "sluicegate_spool_unwritten_runs": "0 0 3 0 0 0+0x56",
    "sluicegate_spool_lost_runs_total": "0+0x60",
}
# What is otherwise where something is wrong, and the labels of the alert.
ILL: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "SluicegateGone": ({"sluicegate_build_info": "1 stale _x60"}, {}),
    "SluicegateRunsFail": ({'sluicegate_run_errors_total{code="UPSTREAM_ERROR"}': "0+11x60"}, HERE),
    "SluicegateFirstWordLate": (
        {'sluicegate_first_word_seconds_bucket{model="m",le="30"}': "0+100x60",
         'sluicegate_first_word_seconds_bucket{model="m",le="2.5"}': "0+50x60"},
        {"model": "m"},
    ),
    "SluicegateCutOffLate": (
        {'sluicegate_cut_off_seconds_bucket{le="0.01"}': "0+98x60",
         'sluicegate_cut_off_seconds_bucket{le="2.0"}': "0+98x60",
         'sluicegate_cut_off_seconds_bucket{le="5.0"}': "0+100x60"},
        HERE,
    ),
    "SluicegateProviderSetAside": ({'sluicegate_provider_set_aside{provider="p"}': "1+0x60"}, {"provider": "p"}),
    "SluicegateSheds": ({"sluicegate_shedding": "1+0x60"}, HERE),
    "SluicegateNearlyFull": ({"sluicegate_runs_active": "950+0x60"}, HERE),
    "SluicegateLoopLate": ({"sluicegate_loop_turn_seconds": "0.2+0x60"}, HERE),
    "SluicegateUsageUnwritten": ({"sluicegate_spool_unwritten_runs": "1+1x60"}, HERE),
    "SluicegateUsageLost": ({"sluicegate_spool_lost_runs_total": "0+1x60"}, HERE),
}  # fmt: skip


def case(values: dict[str, str], raised: dict[str, dict[str, str]]) -> dict[str, Any]:
    """A test for the tool: with these values, at the end, the alerts of `raised` and no others."""
    series = [{"series": _at(HERE["instance"], name), "values": each} for name, each in values.items()]
    checks = [
        {
            "eval_time": "50m",
            "alertname": rule.name,
            "exp_alerts": [{"exp_labels": raised[rule.name], "exp_annotations": {"summary": rule.text}}]
            if rule.name in raised
            else [],
        }
        for rule in RULES
    ]
    return {"interval": "1m", "input_series": series, "alert_rule_test": checks}


def _at(instance: str, series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{instance="{instance}"{"," + labels if labels else ""}}}'


def test_each_alert_is_raised_where_it_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "prometheus"]) == 0
    (tmp_path / "rules.yml").write_text(capsys.readouterr().out)
    assert set(ILL) == {rule.name for rule in RULES}
    cases = [case(WELL, {}), *(case({**WELL, **values}, {name: labels}) for name, (values, labels) in ILL.items())]
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yml").write_text(json.dumps(tests))  # which is YAML, too
    done = subprocess.run(
        [program("promtool"), "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_alerts_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    with spooled(tmp_path) as spool:
        async with stack(brain, ledger=spool) as up:
            names = await names_of(up)
    asked = {name for rule in RULES for name in re.findall(r"sluicegate_\w+", rule.query)}
    assert {re.sub("_bucket$", "", name) for name in asked} <= names
