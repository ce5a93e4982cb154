"""Tools: what the decorator makes of a typed function, and what it refuses at once."""

import enum
import functools
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from sluicegate.tools import Tool, ToolContext, tool


class Colour(enum.Enum):
    """The colours there are."""

    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    """A place on the plane."""

    x: float
    title: str = Field(default="origin", description="What to call it.")


class Tree(BaseModel):
    children: list["Tree"] = []


def schema_of(made: Tool[..., Any]) -> dict[str, Any]:
    parsed = json.loads(bytes(made.spec.parameters))
    assert isinstance(parsed, dict)
    return parsed


async def everything(
    name: str,
    context: ToolContext,
    size: Annotated[int, Field(ge=1, description="From the annotation.")],
    schema: Literal["a", "b"] = "a",
    _hidden: bool = True,
    colour: Colour = Colour.RED,
    where: Point | None = None,
    many: list[Point] | None = None,
    old: Optional[int] = None,  # noqa: UP045
) -> str:
    """Do everything.

    In more words.

    Args:
        name: From the docstring.
        size: Not shown: the annotation wins.
        schema: A name that pydantic keeps for itself.

    Returns:
        Not for the model.
    """
    return name


def test_schema_of_everything() -> None:
    made = tool(everything)
    assert (made.name, made.spec.name) == ("everything", "everything")
    assert made.spec.description == "Do everything.\n\nIn more words."
    point = {
        "type": "object",
        "description": "A place on the plane.",
        "properties": {
            "x": {"type": "number"},
            "title": {"type": "string", "default": "origin", "description": "What to call it."},
        },
        "required": ["x"],
        "additionalProperties": False,
    }
    null, ref = {"type": "null"}, {"$ref": "#/$defs/Point"}
    assert schema_of(made) == {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "size"],
        "properties": {
            "name": {"type": "string", "description": "From the docstring."},
            "size": {"type": "integer", "minimum": 1, "description": "From the annotation."},
            "schema": {
                "type": "string",
                "enum": ["a", "b"],
                "default": "a",
                "description": "A name that pydantic keeps for itself.",
            },
            "_hidden": {"type": "boolean", "default": True},
            "colour": {"$ref": "#/$defs/Colour", "default": "red"},
            "where": {"anyOf": [ref, null], "default": None},
            "many": {"anyOf": [{"type": "array", "items": ref}, null], "default": None},
            "old": {"anyOf": [{"type": "integer"}, null], "default": None},
        },
        "$defs": {
            "Colour": {"type": "string", "enum": ["red", "blue"], "description": "The colours there are."},
            "Point": point,
        },
    }


def test_schema_is_the_same_every_time() -> None:
    assert bytes(tool(everything).spec.parameters) == bytes(tool(everything).spec.parameters)


def test_recursive_types_keep_their_definitions() -> None:
    @tool
    def plant(tree: Tree) -> str:
        return str(len(tree.children))

    schema = schema_of(plant)
    assert schema["properties"]["tree"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"]["additionalProperties"] is False


def google(city: str) -> str:
    """Find.

    Args:
        city: The place.
    """
    return city


def numpy(city: str) -> str:
    """Find.

    Parameters
    ----------
    city : str
        The place.
    """
    return city


def rest(city: str) -> str:
    """Find.

    :param city: The place.
    """
    return city


@pytest.mark.parametrize("function", [google, numpy, rest])
def test_docstring_styles(function: Callable[[str], str]) -> None:
    made = tool(function)
    assert made.spec.description == "Find."
    assert schema_of(made)["properties"]["city"]["description"] == "The place."


def test_no_docstring_no_description() -> None:
    @tool
    def bare(n: int) -> int:
        return n

    assert bare.spec.description == ""
    assert schema_of(bare) == {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }


def test_a_docstring_that_does_not_parse_is_the_description() -> None:
    @tool
    def odd(n: int) -> int:
        """Odd.

        Args:
        .. note:: x
            a (int): b
        (:param a: b
        Attributes:
        @:raises X: y
        ::
                :Example:
        """
        return n

    assert odd.spec.description.startswith("Odd.\n\nArgs:\n.. note:: x")


def test_no_parameters_is_an_empty_object() -> None:
    @tool
    def ping(context: ToolContext | None = None) -> str:
        return "pong"

    assert schema_of(ping) == {"type": "object", "properties": {}, "additionalProperties": False}


async def test_the_tool_stays_the_plain_function() -> None:
    @tool
    def double(n: int, *, times: int = 2) -> int:
        """Double."""
        return n * times

    @tool(name="other", timeout=math.inf, eager=True, max_result_bytes=10)
    async def half(n: int) -> int:
        return n // 2

    assert double(4) == 8
    assert double(4, times=3) == 12
    assert await half(4) == 2
    assert double.__doc__ == "Double."
    assert (double.eager, double.timeout, double.max_result_bytes) == (False, 10.0, 65_536)
    assert (half.name, half.eager, half.timeout, half.max_result_bytes) == ("other", True, math.inf, 10)
    assert repr(half) == "<Tool other>"


def starred(*args: int) -> int:
    return 0


def keywords(**options: int) -> int:
    return 0


def untyped(city) -> str:  # type: ignore[no-untyped-def]
    return str(city)


def unresolved(city: "Nowhere") -> str:  # type: ignore[name-defined]  # noqa: F821
    return ""


def unknown_type(city: str, handler: Callable[[], None]) -> str:
    return city


class Handle:
    """Not a type that JSON knows."""


def arbitrary(handle: Handle) -> str:
    return ""


def with_field(n: int = Field(default=1, ge=0)) -> int:
    return n


def bad_pattern(s: Annotated[str, Field(pattern="(")]) -> str:
    return s


def generator(n: int) -> Iterator[int]:
    yield n


async def agenerator(n: int) -> AsyncIterator[int]:
    yield n


def fine(city: str, days: int = 1) -> str:
    return city


@pytest.mark.parametrize(
    ("function", "options", "kind", "words"),
    [
        (starred, {}, TypeError, ["starred", "*args", "name each parameter"]),
        (keywords, {}, TypeError, ["keywords", "**options", "name each parameter"]),
        (untyped, {}, TypeError, ["untyped", "'city'", "city: str"]),
        (unresolved, {}, TypeError, ["unresolved", "'Nowhere'", "module level"]),
        (unknown_type, {}, TypeError, ["unknown_type", "'handler'", "use str"]),
        (arbitrary, {}, TypeError, ["arbitrary", "'handle'", "use str"]),
        (with_field, {}, TypeError, ["with_field", "'n'", "Annotated"]),
        (bad_pattern, {}, TypeError, ["bad_pattern", "'s'"]),
        (generator, {}, TypeError, ["generator", "return a list"]),
        (agenerator, {}, TypeError, ["agenerator", "return a list"]),
        (type, {}, TypeError, ["tool type", "signature"]),
        (7, {}, TypeError, ["function", "int"]),
        (tool(fine), {}, TypeError, ["fine", "already"]),
        (lambda: "", {}, ValueError, ["'<lambda>'", "name="]),
        (functools.partial(fine, "x"), {}, ValueError, ["name=", "''"]),
        (fine, {"name": "get weather"}, ValueError, ["fine", "'get weather'", "name="]),
        (fine, {"name": "n" * 65}, ValueError, ["fine", "64"]),
        (fine, {"name": "fine\n"}, ValueError, ["fine", "64"]),
        (fine, {"timeout": 0}, ValueError, ["fine", "timeout"]),
        (fine, {"timeout": math.nan}, ValueError, ["fine", "timeout"]),
        (fine, {"max_result_bytes": 0}, ValueError, ["fine", "max_result_bytes"]),
        (fine, {"activity": "In {town}"}, ValueError, ["fine", "{town}", "{city}, {days}"]),
        (fine, {"activity": "In {}"}, ValueError, ["fine", "{city}"]),
        (fine, {"activity": "In {city.__class__}"}, ValueError, ["fine", "{city.__class__}"]),
        (fine, {"activity": "In {city[0]}"}, ValueError, ["fine", "{city[0]}"]),
        (fine, {"activity": "In {city:>{days}}"}, ValueError, ["fine", "{city}"]),
        (fine, {"activity": "In {city!r}"}, ValueError, ["fine", "{city}"]),
        (fine, {"activity": "In {city"}, ValueError, ["fine", "not a template"]),
    ],
)
def test_what_cannot_be_a_tool_says_why(function: Any, options: Any, kind: type[Exception], words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        tool(**options)(function)
    for word in words:
        assert word in str(caught.value)


ACTIVITY = tool(activity="Checking {city} for {days} days")(fine)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"city": "Paris"}', "Checking Paris for 1 days"),
        ('{"city": "Paris", "days": 3, "more": [1]}', "Checking Paris for 3 days"),
        ('{"city": "a\\nb\\u0000\\u202ec\\ud83d\\ude00\\t\\u2028d"}', "Checking a b c\U0001f600 d for 1 days"),
        ('{"city": ["{days}", true]}', 'Checking ["{days}",true] for 1 days'),
        ('{"city": "%s"}' % ("x" * 81), f"Checking {'x' * 79}… for 1 days"),
        ('{"city": "%s"}' % ("x" * 80), f"Checking {'x' * 80} for 1 days"),
        ('{"city": " \\u0007 "}', "Running fine"),
        ('{"city": null}', "Running fine"),
        ("{}", "Running fine"),
        ("", "Running fine"),
        ("[]", "Running fine"),
        ('{"city": "Pa', "Running fine"),
        ('{"city": NaN}', "Running fine"),
        ('{"city": "\\ud800"}', "Running fine"),
        ('"\ud800"', "Running fine"),
        ("[" * 100_000, "Running fine"),
        ('{"city": 1' + "0" * 5_000 + "}", "Running fine"),
    ],
)
def test_activity_text(arguments: str, text: str) -> None:
    assert ACTIVITY.activity_text(arguments) == text


def test_activity_without_template_and_with_odd_defaults() -> None:
    def odd(colour: Colour = Colour.BLUE, point: Point = Point(x=1)) -> str:  # noqa: B008
        return ""

    assert tool(odd).activity_text("{}") == "Running odd"
    assert tool(activity="In {colour}, {{{{")(odd).activity_text("") == "In blue, {{"
    assert tool(activity="At {point}")(odd).activity_text("") == "Running odd"
