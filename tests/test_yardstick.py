"""The yardstick's own figures: pairs within a round, goals, and a page from what was kept. Nothing is measured here."""

import itertools
import string
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.yardstick import page
from tests.benchmarks.yardstick.goals import MUSTS, Better, Goal, musts
from tests.benchmarks.yardstick.report import report
from tests.benchmarks.yardstick.results import (
    ADDED,
    DIRECT,
    OURS,
    Conditions,
    Failure,
    Figures,
    Results,
    Sample,
    spread,
)
from tests.benchmarks.yardstick.rounds import GROUPS, SCENARIOS, chosen
from tests.benchmarks.yardstick.targets import DEFAULT, DIALECTS, FRAMEWORKS, TARGETS, TUTORIAL

PLACES = {"port", "up", "up_port", "home", "python", "state"}
figure = st.floats(0.1, 1e6)
by_round = st.dictionaries(st.integers(0, 9), figure)


def samples(target: str, metric: str, figures: dict[int, float]) -> list[Sample]:
    return [Sample(at, target, "any", {metric: value}) for at, value in figures.items()]


@given(ours=by_round, theirs=by_round)
def test_only_figures_of_the_same_round_are_compared(ours: dict[int, float], theirs: dict[int, float]) -> None:
    found = Figures([*samples(OURS, "x", ours), *samples(TUTORIAL, "x", theirs)], [OURS, TUTORIAL])
    assert sorted(found.ratios("x", OURS, TUTORIAL)) == sorted(ours[at] / theirs[at] for at in ours.keys() & theirs)


@given(ours=by_round, alone=by_round)
def test_an_added_latency_is_that_of_the_same_round(ours: dict[int, float], alone: dict[int, float]) -> None:
    for metric in ADDED:
        found = Figures([*samples(OURS, metric, ours), *samples(DIRECT, metric, alone)], [DIRECT, OURS])
        expected = {at: ours[at] - alone[at] for at in ours.keys() & alone}
        assert found.rounds(OURS, f"{metric}_added") == expected
        assert set(found.values(DIRECT, f"{metric}_added")) <= {0.0}


def test_without_the_provider_alone_nothing_is_added() -> None:
    assert Figures(samples(OURS, "ttft1_p50", {0: 1.0}), [OURS]).values(OURS, "ttft1_p50_added") == []


@given(values=st.lists(figure, min_size=1), bound=figure)
def test_a_goal_is_met_on_the_side_that_is_better(values: list[float], bound: float) -> None:
    less, more = Goal("x", "x", bound, bound), Goal("x", "x", bound, bound, Better.MORE)
    for value in values:
        assert less.meets(value, bound) == (value <= bound)
        assert more.meets(value, bound) == (value >= bound)


@pytest.mark.parametrize("goal", MUSTS, ids=[goal.metric for goal in MUSTS])
def test_a_must_is_told_by_the_median_of_its_ratios(goal: Goal) -> None:
    step = 0.01 if goal.better is Better.MORE else -0.01
    verdicts = []
    for ratio in (goal.aim + step, goal.must + step, goal.must - step):
        ours = dict(enumerate((ratio, ratio, 1e3, 1e-3, ratio)))
        alone = dict.fromkeys(ours, 1.0)
        taken = [*samples(OURS, goal.metric, ours), *samples(TUTORIAL, goal.metric, alone)]
        (row,) = musts(Figures(taken, [OURS, TUTORIAL]))[2:]
        assert f"| {ratio:.2f} (" in row
        verdicts.append(row.split("|")[-2].strip())
    assert verdicts == ["yes, the aim too", "yes", "no"]


def test_a_spread_shows_how_many_values_there_were() -> None:
    assert [spread([]), spread([1]), spread([3, 1, 2], 1)] == ["-", "1.00¹", "2.0 (1.0–3.0)"]


def test_every_target_takes_part_in_scenarios_that_exist() -> None:
    for target in TARGETS.values():
        assert target.scenarios
        assert target.scenarios <= SCENARIOS.keys(), target.name
    assert {name for target in TARGETS.values() for name in target.scenarios} == SCENARIOS.keys()
    assert {OURS, DIRECT, TUTORIAL, *FRAMEWORKS, *DIALECTS, *DEFAULT} <= TARGETS.keys()


def test_every_placeholder_of_a_target_is_filled_in() -> None:
    for target in TARGETS.values():
        texts = [*target.command, *target.env.values()]
        fields = [field for text in texts for _, field, _, _ in string.Formatter().parse(text) if field is not None]
        assert set(fields) <= PLACES, target.name


def test_scenarios_are_chosen_by_name_and_group() -> None:
    assert chosen("") == list(SCENARIOS)
    assert chosen("musts,tool,req8") == [*GROUPS["musts"], "req8"]
    with pytest.raises(SystemExit, match="no 'tols'; there are musts"):
        chosen("musts,tols")


def kept() -> Results:
    """Results in which every target has every figure that a table may ask for, and one failure of each kind."""
    conditions = Conditions("m", 2, "p", "c", list(TARGETS), {"sluicegate": "v"}, "command", "2026-01-01", 3)
    results = Results(conditions)
    metrics = [goal.metric for goal in MUSTS] + list(ADDED)
    metrics += [f"{name}_us" for name in ("length100", "length1000", "length10000", "length100000")]
    metrics += ["idle_open", "paced256_unfinished", *(f"goodput_{load}" for load in ("0.5", "1", "1.5", "2"))]
    for at, target in itertools.product(range(3), TARGETS):
        results.samples.append(Sample(at, target, "any", dict.fromkeys(metrics, 2.0 + at)))
    results.samples.append(Sample(0, OURS, "sat16", {"err_c16": 7}))
    results.failures.append(Failure(1, "naive-trio", "mem", "NotStarted: no\nport"))
    return results


def test_a_page_is_made_from_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = msgspec.json.decode(msgspec.json.encode(kept()), type=Results)
    text = report(there)
    assert text == report(kept())
    assert text.count("\n### ") == 9
    for line in (
        "- requests that failed or were refused: sluicegate: c16 7",
        "- failed: naive-trio, mem, round 2: NotStarted: no port",
        f"| {MUSTS[0].title} | 1.00 (1.00–1.00) | 3 | at most 0.75 | at most 0.50 | no |",
    ):
        assert line in text.splitlines()
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    page.PAGE.write_text("before\n<!-- yardstick: generated -->\nold\n<!-- yardstick: end -->\nafter\n")
    page.write("yardstick", text)
    written = page.PAGE.read_text()
    assert written == f"before\n<!-- yardstick: generated -->\n{text}\n<!-- yardstick: end -->\nafter\n"
    with pytest.raises(SystemExit, match="no markers for parts"):
        page.write("parts", text)


def test_a_section_that_nothing_was_measured_for_is_left_out() -> None:
    results = kept()
    results.samples = [Sample(0, OURS, "any", {"steady32": 1.0}), Sample(0, TUTORIAL, "any", {"steady32": 2.0})]
    assert [line for line in report(results).splitlines() if line.startswith("### ")] == [
        "### Against the tutorial's design",
        "### Every target",
    ]
