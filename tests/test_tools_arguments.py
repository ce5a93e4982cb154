"""Tools: arguments that do not fit never reach the tool, arguments that fit always do (oracle: jsonschema)."""

import dataclasses
import enum
import json
import random
import time
from collections import Counter
from typing import Annotated, Any, Literal

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from sluicegate.tools import ToolContext, ToolError, tool
from sluicegate.tools.jsontext import MAX_ARGUMENT_BYTES, MAX_ARGUMENT_DEPTH, depth_exceeds
from tests.security.rows import COUNTS as FLOORS


class Mode(enum.StrEnum):
    FAST = "fast"
    SLOW = "slow"


class Leaf(BaseModel):
    model_config = ConfigDict(extra="allow")  # a tool's types do not loosen the rule
    n: int
    weight: float = 1.0


class Pair(TypedDict):
    left: int


@dataclasses.dataclass
class Box:
    label: str


class Branch(BaseModel):
    leaves: Annotated[list[Leaf], Field(max_length=2)]
    pair: Pair | None = None
    box: Box | None = None


CALLS: list[dict[str, object]] = []


@tool
async def rich(
    text: Annotated[str, Field(min_length=1, max_length=5)],
    count: Annotated[int, Field(ge=0, le=100)],
    ratio: float = 0.5,
    flag: bool = False,
    unit: Literal["c", "f"] = "c",
    mode: Mode = Mode.FAST,
    maybe: int | None = None,
    either: int | str = 0,
    table: dict[str, int] | None = None,
    branch: Branch | None = None,
    anything: Any = None,
) -> str:
    given = (text, count, ratio, flag, unit, mode, maybe, either, table, branch, anything)
    CALLS.append(dict(zip(SCHEMA["properties"], given, strict=True)))
    return "ran"


SCHEMA = json.loads(bytes(rich.spec.parameters))


def is_integer(_checker: object, value: object) -> bool:
    """As JSON Schema has it, but one that is written as 1e16 is a float to every parser, and floats are exact below
    2**53 only: which integer was meant cannot be told, so such a one is refused.
    """
    if isinstance(value, float):
        return value.is_integer() and abs(value) < 2**53
    return isinstance(value, int) and not isinstance(value, bool)


ORACLE = extend(Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer))(
    SCHEMA
)
JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 101, 1.0, 1.5, -0.0, 2**70, "", "1", "x", "xxxxxx", "c", "C", "fast", "true", [], {},
    [1], ["1"], {"n": 1}, {"n": "1"}, {"n": 1, "more": 2}, {"leaves": []}, {"leaves": [{"n": 1}] * 3},
    {"leaves": [{"n": 1.0, "weight": 2}]}, {"leaves": [{"n": True}]}, {"leaves": [], "pair": {"left": 1, "right": 2}},
    {"leaves": [], "box": {"label": "b", "size": 3}}, {"leaves": [], "box": {"label": 3}}, [[[[]]]],
]  # fmt: skip

leaf = st.fixed_dictionaries({"n": st.integers(-(2**40), 2**40)}, optional={"weight": st.floats(-1e6, 1e6)})
branch = st.fixed_dictionaries(
    {"leaves": st.lists(leaf, max_size=2)},
    optional={
        "pair": st.none() | st.fixed_dictionaries({"left": st.integers(0, 9)}),
        "box": st.none() | st.fixed_dictionaries({"label": st.text("ab", max_size=2)}),
    },
)
VALID: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text('aé\U0001f600"\\\n', min_size=1, max_size=5),
    "count": st.integers(0, 100) | st.integers(0, 100).map(float),
    "ratio": st.floats(-1e9, 1e9) | st.integers(-9, 9),
    "flag": st.booleans(),
    "unit": st.sampled_from("cf"),
    "mode": st.sampled_from(["fast", "slow"]),
    "maybe": st.none() | st.integers(-9, 9),
    "either": st.integers(-9, 9) | st.text("ab", max_size=3),
    "table": st.none() | st.dictionaries(st.text("ab", max_size=3), st.integers(-9, 9), max_size=3),
    "branch": st.none() | branch,
    "anything": st.sampled_from(JUNK),
}
valid = st.fixed_dictionaries(
    {name: VALID[name] for name in ("text", "count")},
    optional={name: VALID[name] for name in VALID if name not in ("text", "count")},
)


EXTRA = ["", "Text", "count ", "__class__", "context"]
TAILS = ["}", " ", "\n", "x", ",", "{}", "\x00"]
INSERTS = ["NaN", "1e9", "\\ud800", "\n", "-", "[", '"', "null"]


def varied(document: dict[str, Any], draw: random.Random) -> str:
    """Return a text near `document`: properties replaced, dropped, added; then, rarely, the text itself damaged."""
    document = dict(document)
    for _ in range(draw.choice([0, 0, 1, 1, 2])):
        match draw.choice(["replace", "drop", "add"]):
            case "replace":
                document[draw.choice(list(VALID))] = draw.choice(JUNK)
            case "drop":
                document.pop(draw.choice(list(VALID)), None)
            case _:
                document[draw.choice(EXTRA)] = 1
    text = json.dumps(document, ensure_ascii=draw.random() < 0.5)
    at = draw.randint(0, len(text))
    match draw.choice(["as is"] * 8 + ["cut", "tail", "insert"]):
        case "cut":
            return text[:at]
        case "tail":
            return text + draw.choice(TAILS)
        case "insert":
            return text[:at] + draw.choice(INSERTS) + text[at:]
        case _:
            return text


def refused(_: str) -> None:
    raise ValueError("not JSON")


def expected(text: str) -> dict[str, Any] | None:
    """Return the parsed document where it is valid for the schema, by other means than the tool's own."""
    try:
        document = json.loads(text or "{}", parse_constant=refused)
        json.dumps(document, ensure_ascii=False).encode()  # lone surrogates
    except ValueError:
        return None
    return document if ORACLE.is_valid(document) else None


def seen(call: dict[str, Any]) -> dict[str, Any]:
    shown = dict(call)
    if isinstance(call["branch"], Branch):
        branch = call["branch"].model_dump(exclude_unset=True)
        if isinstance(branch.get("box"), Box):
            branch["box"] = dataclasses.asdict(branch["box"])
        shown["branch"] = branch
    return shown


COUNTS: Counter[str] = Counter()


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(document=valid, seed=st.integers(0, 2**32))
def check_documents(document: dict[str, Any], seed: int) -> None:
    draw = random.Random(seed)

    async def main() -> None:
        for text in [varied(document, draw) for _ in range(25)]:
            CALLS.clear()
            outcome = await rich.call(text, ToolContext("call", "run"))
            fitting = expected(text)
            COUNTS["valid" if fitting is not None else "invalid"] += 1
            if fitting is None:
                assert (CALLS, outcome.is_error, outcome.fault) == ([], True, None), text
            else:
                assert (outcome.content, len(CALLS)) == ("ran", 1), (text, outcome)
                call = seen(CALLS[0])
                assert {name: call[name] for name in fitting} == fitting, text

    trio.run(main)


@pytest.mark.once
def test_5000_documents_reach_the_tool_if_and_only_if_they_are_valid() -> None:
    COUNTS.clear()
    check_documents()
    assert COUNTS.total() >= FLOORS["arguments"]
    assert min(COUNTS["valid"], COUNTS["invalid"]) >= 1_500, COUNTS


def test_the_oracle_knows_every_rule() -> None:
    """The schema that the oracle uses is itself strict everywhere."""
    assert SCHEMA["additionalProperties"] is False
    assert all(s["additionalProperties"] is False for s in SCHEMA["$defs"].values() if s["type"] == "object")


@tool
async def no_arguments() -> str:
    return "ran"


@pytest.mark.parametrize("arguments", ["", "{}", "  ", "\n{ }\t"])
async def test_case_21_no_arguments(arguments: str) -> None:
    outcome = await no_arguments.call(arguments, ToolContext("call", "run"))
    assert (outcome.content, outcome.is_error) == ("ran", False)


@pytest.mark.parametrize("arguments", ["null", "[]", '""', '{"x": 1}', "{", "{}{}", "\ufeff{}", "\x00"])
async def test_case_21_what_is_not_no_arguments(arguments: str) -> None:
    outcome = await no_arguments.call(arguments, ToolContext("call", "run"))
    assert outcome.is_error
    assert "not valid" in outcome.content


async def test_empty_arguments_for_a_tool_with_some_name_the_missing_ones() -> None:
    outcome = await rich.call("", ToolContext("call", "run"))
    assert outcome.content.splitlines()[1:] == ["- text: Field required", "- count: Field required"]


@tool
async def anything(value: Any = None) -> str:
    return "ran"


BOMBS = {
    "arrays": '{"value": ' + "[" * 100_000,
    "closed arrays": '{"value": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "objects": '{"value": ' + '{"a":' * 50_000,
    "one too deep": '{"value": ' + "[" * MAX_ARGUMENT_DEPTH + "]" * MAX_ARGUMENT_DEPTH + "}",
    "brackets without strings": "[{" * 100_000 + '"',
    "quotes": '"\\"' * 80_000 + "[" * 200,
    "backslashes": '"' + "\\" * 200_000 + "[" * 33,
    "big": '{"value": "' + "x" * MAX_ARGUMENT_BYTES + '"}',
    "big in bytes": '{"value": "' + "é" * (MAX_ARGUMENT_BYTES // 2) + '"}',
    "digits": '{"value": ' + "9" * 200_000 + "}",
    "infinity": '{"value": Infinity}',
    "raw surrogate": '{"value": "\ud800"}',
    "escaped surrogate": '{"value": "\\ud800"}',
    "reversed pair": '{"value": "\\ude00\\ud83d"}',
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs_are_error_results_fast(name: str) -> None:
    before = time.process_time()
    outcome = await anything.call(BOMBS[name], ToolContext("call", "run"))
    assert outcome.is_error
    assert outcome.fault is None
    assert len(outcome.content) < 300
    assert time.process_time() - before < 10  # a quadratic scan would take minutes
    anything.activity_text(BOMBS[name])


@pytest.mark.parametrize(
    "value", ["[" * 31 + "]" * 31, '"' + "[{" * 500 + '"', '"' + '\\"[' * 500 + '"', "[[],[]," * 15 + "[]" + "]" * 15]
)
async def test_what_only_looks_like_a_bomb_runs(value: str) -> None:
    assert not (await anything.call('{"value": ' + value + "}", ToolContext("call", "run"))).is_error


@given(st.recursive(st.text('[]{}"\\a', max_size=4), lambda inner: st.lists(inner, max_size=3)), st.integers(0, 6))
def test_depth_is_that_of_the_document(document: Any, limit: int) -> None:
    def depth(value: Any) -> int:
        return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0

    assert depth_exceeds(json.dumps(document), limit) == (depth(document) > limit)


class Secretive(BaseModel):
    password: Annotated[str, Field(pattern="^[a-z]+$", max_length=20)] = "x"
    pin: int = 0
    kind: Literal["a", "b"] = "a"
    checked: str = ""
    custom: str = ""
    spoken: str = ""
    broken: str = ""

    @field_validator("checked")
    @classmethod
    def never(cls, value: str, info: ValidationInfo) -> str:
        raise ValueError(f"bad {value}")

    @field_validator("custom")
    @classmethod
    def speaks(cls, value: str) -> str:
        raise PydanticCustomError("even", "Must be even")

    @field_validator("spoken")
    @classmethod
    def tells(cls, value: str) -> str:
        raise ToolError("Ask the user first.")

    @field_validator("broken")
    @classmethod
    def breaks(cls, value: str) -> str:
        raise KeyError(value)


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@tool
async def secretive(
    data: Secretive | None = None, pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
) -> str:
    return "ran"


CANARY = "hunter2-CANARY"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"data": {"password": CANARY}}, "data.password: String should match pattern"),
        ({"data": {"password": CANARY * 9}}, "data.password: String should have at most 20 characters"),
        ({"data": {"pin": CANARY}}, "data.pin: Input should be a valid integer"),
        ({"data": {"kind": CANARY}}, "data.kind: Input should be 'a' or 'b'"),
        ({"data": {"checked": CANARY}}, "data.checked: Input is not accepted"),
        ({"data": {"custom": CANARY}}, "data.custom: Must be even"),
        ({"data": {"spoken": CANARY}}, "Ask the user first."),
        ({"data": {"broken": CANARY}}, "The tool secretive failed (KeyError)."),
        ({"data": CANARY}, "data: "),
        ({"pet": {"kind": CANARY}}, "pet: Input should have a tag among 'cat', 'dog'"),
        ({"data": {"extra": CANARY}}, "data.extra: No such property"),
        ({"x\n\u202e" + "y" * 200: CANARY}, "x " + "y" * 77 + "…: No such property"),
    ],
)
async def test_errors_name_the_field_and_never_the_value(arguments: Any, words: str) -> None:
    outcome = await secretive.call(json.dumps(arguments), ToolContext("call", "run"))
    assert outcome.is_error
    assert words in outcome.content
    assert CANARY not in outcome.content


async def test_many_errors_are_counted_not_listed() -> None:
    outcome = await no_arguments.call(json.dumps({str(n): n for n in range(50)}), ToolContext("call", "run"))
    lines = outcome.content.splitlines()
    assert len(lines) == 12
    assert lines[-1] == "- and 40 more"


@tool
async def ordered(first: int, /, context: ToolContext, second: list[int], *, third: str = "c") -> list[object]:
    second.append(third.__len__())
    return [first, second, third, context.call_id, context.run_id]


@tool
async def defaults(numbers: list[int] = [], n: Annotated[int, Field(alias="m", default=3)] = 4) -> list[int]:  # noqa: B006
    numbers.append(n)
    return numbers


async def test_kinds_of_parameters_and_defaults() -> None:
    outcome = await ordered.call('{"first": 1, "second": [2]}', ToolContext("the call", "the run"))
    assert json.loads(outcome.content) == [1, [2, 1], "c", "the call", "the run"]
    for _ in range(2):
        outcome = await defaults.call('{"n": 5}', ToolContext("call", "run"))
        assert outcome.content == "[5]"
    assert (await defaults.call("{}", ToolContext("call", "run"))).content == "[4]"
