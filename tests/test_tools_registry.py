"""Tools: the registry, loading by name, and the demo tools."""

import contextlib
import json
import math
import struct
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from sluicegate.machine.history import ToolSpec
from sluicegate.tools import Registry, ToolContext, ToolLoadError, ToolOutcome, load, tool
from sluicegate.tools.arithmetic import MAX_BITS, MAX_CHARS, evaluate
from sluicegate.tools.builtin import LATENCY, calculate, current_time, demo, get_weather


def context() -> ToolContext:
    return ToolContext("call", "run")


# ---------------------------------------------------------------- registry


@tool
def alpha(n: int) -> int:
    """First."""
    return n


@tool(eager=True)
async def beta() -> str:
    """Second."""
    return "b"


def test_registry() -> None:
    registry = Registry([beta, alpha])
    assert list(registry) == [beta, alpha]
    assert len(registry) == 2
    assert registry.get("alpha") is alpha
    assert registry.get("gamma") is None
    assert registry.eager == {"beta"}
    assert registry.specs() is registry.specs()
    assert [(spec.name, spec.description) for spec in registry.specs()] == [("beta", "Second."), ("alpha", "First.")]
    assert all(type(spec) is ToolSpec for spec in registry.specs())
    assert msgspec.json.decode(registry.specs()[1].parameters)["required"] == ["n"]


def test_names_are_unique() -> None:
    with pytest.raises(ValueError, match=r"'alpha'.*name="):
        Registry([alpha, beta, tool(name="alpha")(beta.function)])


def test_an_unknown_tool_is_an_error_result_with_the_names() -> None:
    assert Registry([alpha, beta]).unknown("gam\nma" + "x" * 100) == ToolOutcome(
        f"There is no tool named 'gam ma{'x' * 57}…'. Available tools: alpha, beta.", is_error=True
    )
    assert Registry().unknown("").content == "There is no tool named ''. Available tools: none."


# ---------------------------------------------------------------- loading

MODULE = """
from __future__ import annotations
from functools import partial
from sluicegate.tools import Registry, Tool, ToolContext, tool

@tool
def one() -> int:
    return 1

def two(n: int) -> int:
    return n

def nothing() -> list[str]:
    return []

def untyped_factory():
    return [one, two]

def list_factory() -> list[Tool]:
    return [one]

def any_list_factory() -> list:
    return [two]

def registry_factory() -> Registry:
    return Registry([one])

def tool_factory() -> Tool[[], int]:
    return one

def wrong_factory():
    return "text"

async def async_factory():
    return [one]

def failing_factory() -> list[Tool]:
    raise KeyError("oops")

def unresolved() -> Nowhere:
    return 1

def bad(n) -> int:
    return n

several = [one, two]
several_more = (one,)
registry = Registry([one])
partial_factory = partial(list_factory)
twice = [one, one]
text = "text"
texts = ["text"]

class Inner:
    tools = [two]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "deployed_tools.py").write_text(MODULE)
    (tmp_path / "broken_tools.py").write_text("raise RuntimeError('oops')")
    (tmp_path / "needy_tools.py").write_text("import surely_not_installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield "deployed_tools"
    for name in set(sys.modules) - before:
        if name.endswith("_tools"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("attribute", "names"),
    [
        ("one", ["one"]),
        ("two", ["two"]),
        ("nothing", ["nothing"]),
        ("several", ["one", "two"]),
        ("several_more", ["one"]),
        ("registry", ["one"]),
        ("untyped_factory", ["one", "two"]),
        ("list_factory", ["one"]),
        ("any_list_factory", ["two"]),
        ("registry_factory", ["one"]),
        ("tool_factory", ["one"]),
        ("partial_factory", ["one"]),
        ("Inner.tools", ["two"]),
    ],
)
@pytest.mark.parametrize("place", ["deployed_tools", "deployed_tools.py", "./deployed_tools.py"])
def test_load(module: str, place: str, attribute: str, names: list[str]) -> None:
    assert [made.name for made in load(f"{place}:{attribute}")] == names


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("deployed_tools", ["module:attribute"]),
        (":one", ["module:attribute"]),
        ("deployed_tools:", ["module:attribute"]),
        ("missing_tools:one", ["'missing_tools'", "install"]),
        ("deployed_tools.sub:one", ["deployed_tools"]),
        ("missing/tools.py:one", ["'missing/tools.py'", "current directory"]),
        ("needy_tools:one", ["'needy_tools'", "'surely_not_installed'"]),
        ("broken_tools:one", ["'broken_tools'", "RuntimeError", "oops"]),
        ("deployed_tools:ones", ["'deployed_tools'", "'ones'"]),
        ("deployed_tools:Inner.ones", ["'deployed_tools'", "'Inner.ones'"]),
        ("deployed_tools:text", ["deployed_tools:text", "str", "typed function"]),
        ("deployed_tools:texts", ["deployed_tools:texts", "str"]),
        ("deployed_tools:Inner", ["deployed_tools:Inner"]),
        ("deployed_tools:twice", ["deployed_tools:twice", "'one'"]),
        ("deployed_tools:bad", ["bad", "'n'", "n: str"]),
        ("deployed_tools:wrong_factory", ["returned a str", "annotate"]),
        ("deployed_tools:async_factory", ["async"]),
        ("deployed_tools:failing_factory", ["KeyError", "oops"]),
        ("deployed_tools:unresolved", ["deployed_tools:unresolved", "Nowhere"]),
    ],
)
def test_load_says_what_is_wrong(module: str, target: str, words: list[str]) -> None:
    with pytest.raises(ToolLoadError) as caught:
        load(target)
    for word in words:
        assert word in str(caught.value)


def test_the_demo_tools_load_by_name() -> None:
    assert load("sluicegate.tools.builtin:demo") is demo


# ---------------------------------------------------------------- demo tools


def test_the_demo_registry() -> None:
    assert [spec.name for spec in demo.specs()] == ["get_weather", "calculate", "current_time"]
    assert demo.eager == {"calculate"}
    for spec in demo.specs():
        schema = msgspec.json.decode(spec.parameters)
        assert spec.description
        assert schema["additionalProperties"] is False
        assert all(entry["description"] for entry in schema["properties"].values())


def test_get_weather() -> None:
    async def main() -> None:
        published: list[bytes] = []
        start = trio.current_time()
        answers = [
            await get_weather.call(
                json.dumps({"city": city, "days": 7, "unit": unit}),
                ToolContext("call", "run", lambda raw: published.append(bytes(raw))),
            )
            for city, unit in (
                ("Paris", "celsius"),
                (" PARIS ", "celsius"),
                ("Paris", "fahrenheit"),
                ("Rome", "celsius"),
            )
        ]
        assert trio.current_time() - start == pytest.approx(4 * LATENCY)
        assert len(published) == 4
        paris, same, warm, rome = (json.loads(answer.content) for answer in answers)
        assert "not a real forecast" in paris["note"]
        assert paris["forecast"] == same["forecast"] != rome["forecast"]
        assert [day["day"] for day in paris["forecast"]] == [1, 2, 3, 4, 5, 6, 7]
        for celsius, fahrenheit in zip(paris["forecast"], warm["forecast"], strict=True):
            assert fahrenheit["temperature"] == round(celsius["temperature"] * 9 / 5 + 32)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_get_weather_is_the_same_in_every_process() -> None:
    """A stable hash, not Python's own: the figures below were written down once."""

    async def main() -> Any:
        return await get_weather("Paris", context())

    assert trio.run(main, clock=MockClock(autojump_threshold=0))["forecast"] == FORECAST


FORECAST = [{"day": 1, "sky": "fog", "temperature": 30}]


@pytest.mark.parametrize("arguments", ['{"city": ""}', '{"city": "Paris", "days": 8}', '{"city": "Paris", "days": 0}'])
async def test_get_weather_refuses(arguments: str) -> None:
    assert (await get_weather.call(arguments, context())).is_error


def test_activities() -> None:
    assert get_weather.activity_text('{"city": "Paris"}') == "Checking the weather in Paris"
    assert get_weather.activity_text("{}") == "Running get_weather"
    assert calculate.activity_text('{"expression": "1+1"}') == "Calculating 1+1"
    assert current_time.activity_text("") == "Looking at the clock for UTC"


@pytest.mark.parametrize(
    ("expression", "content"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("7 / 2", "3.5"),
        ("7 // 2 - 7 % 4", "0"),
        ("-2 ** 2", "-4"),
        ("2 ** 100", "1267650600228229401496703205376"),
        ("2 ** -2", "0.25"),
        ("0.1 + 0.2", "0.3"),
        ("1_000 * 1e3", "1000000"),
        (" sqrt(16) + abs(-2) ", "6"),
        ("max(1, 2.5) - min(3, 1)", "1.5"),
        ("round(pi, 2)", "3.14"),
        ("round(2.6)", "3"),
        ("e", "2.71828182845905"),
        ("(-1) ** 100000", "1"),
        ("1" * MAX_CHARS, "1" * MAX_CHARS),
        ("(" * 90 + "1" + ")" * 90, "1"),
        ("-" * 199 + "1", "-1"),
    ],
)
async def test_calculate(expression: str, content: str) -> None:
    assert await calculate.call(json.dumps({"expression": expression}), context()) == ToolOutcome(content)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "not valid"),
        ("1 +", "not valid"),
        ("1" * (MAX_CHARS + 1), "longer than"),
        ("(" * 199, "not valid"),
        ("1 / 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("2 ^ 3", "write **"),
        ("2 ** 5000", "too large"),
        ("9 ** 9 ** 9", "too large"),
        ("9 ** 9 ** 9 ** 9 ** 9", "too large"),
        ("2 ** -5000", "too large"),
        ("1e308 * 10", "too large"),
        ("1e999", "too large"),
        ("10.0 ** 400", "too large"),
        ("sqrt(2 ** 4000)", "too large"),
        ("(-8) ** 0.5", "not a real number"),
        ("sqrt(-1)", "Cannot calculate"),
        ("round(5, -10 ** 9)", "digits"),
        ("round(5, 10 ** 9)", "digits"),
        ("round(5, 0.5)", "digits"),
        ("max(1)", "does not take"),
        ("abs(1, 2)", "does not take"),
        ("max(e=1)", "only numbers"),
        ("max(*1)", "only numbers"),
        ("1, 2", "only numbers"),
        ("pi(1)", "only numbers"),
        ("sqrt", "only numbers"),
        ("True", "only numbers"),
        ("x", "only numbers"),
        ("'a' * 9", "only numbers"),
        ("__import__('os')", "only numbers"),
        ("(1).__class__", "only numbers"),
        ("1 if 1 else 2", "only numbers"),
        ("[1]", "only numbers"),
        ("1j", "only numbers"),
        ("0x10", "only numbers"),
        ("\u0661", "only numbers"),
        ("1\x00", "only numbers"),
    ],
)
async def test_calculate_refuses_with_the_reason(expression: str, words: str) -> None:
    outcome = await calculate.call(json.dumps({"expression": expression}), context())
    assert outcome.is_error
    assert outcome.fault is None
    assert words in outcome.content


@given(
    st.text("0123456789.+-*/%() e_,^", max_size=40)
    | st.lists(st.sampled_from(["9", "**", "*", "(", ")", "1e9", "-", "max(", "round(", ",", "pi", "sqrt("])).map(
        "".join
    )
)
def test_calculate_gives_a_bounded_number_or_a_reason(expression: str) -> None:
    with contextlib.suppress(ValueError):
        value = evaluate(expression)
        assert value.bit_length() <= MAX_BITS if isinstance(value, int) else math.isfinite(value)


@pytest.mark.parametrize("zone", ["UTC", "utc", "Z"])
async def test_current_time(zone: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    outcome = await current_time.call(json.dumps({"timezone": zone}), context())
    answer = json.loads(outcome.content)
    shown = datetime.fromisoformat(answer["time"])
    assert before <= shown <= datetime.now(UTC)
    assert answer["timezone"] == zone
    assert answer["weekday"] == shown.strftime("%A")


async def test_current_time_in_a_zone_of_the_system(tmp_path: Path) -> None:
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4)
    (tmp_path / "Test").mkdir()
    (tmp_path / "Test" / "Zone").write_bytes(header + struct.pack(">lbb", 5 * 3600, 0, 0) + b"TST\0")
    zoneinfo.reset_tzpath([str(tmp_path)])
    try:
        outcome = await current_time.call('{"timezone": "Test/Zone"}', context())
    finally:
        zoneinfo.reset_tzpath()
    assert json.loads(outcome.content)["time"].endswith("+05:00")


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "", "../../etc/passwd", "/etc/localtime", "Europe", "a\x00b", "x" * 300, "Europe/Paris\n"]
)
async def test_current_time_refuses_unknown_zones(zone: str) -> None:
    outcome = await current_time.call(json.dumps({"timezone": zone}), context())
    assert outcome.is_error
    assert outcome.fault is None
    assert "IANA" in outcome.content
