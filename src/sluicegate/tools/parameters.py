"""The parameters of a tool: read from a typed signature, bound from the JSON text that a model wrote."""

import inspect
import json
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .context import ToolContext
from .faults import ToolError
from .jsontext import argument_fault
from .schema import encode_schema
from .text import plain

MAX_PROBLEMS = 10

# Strict, so that what reaches a tool has exactly the JSON types of its schema.
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=False)


class ArgumentsError(ToolError):
    """The model's arguments do not fit the tool; the message lists what is wrong, without any value."""


class _Parameter(NamedTuple):
    name: str
    field: str  # "" for a ToolContext
    positional: bool


class Parameters:
    """The parameters of one function. `schema` is what the model sees, `names` and `defaults` what it may set."""

    def __init__(self, where: str, function: Callable[..., Any], descriptions: Mapping[str, str]) -> None:
        self._plan: list[_Parameter] = []
        self.defaults: dict[str, object] = {}
        fields: dict[str, Any] = {}
        for parameter in _signature(where, function).parameters.values():
            _check(where, parameter)
            positional = parameter.kind is parameter.POSITIONAL_ONLY
            if _is_context(parameter.annotation):
                self._plan.append(_Parameter(parameter.name, "", positional))
                continue
            # Own names for the fields: a parameter may be called "schema", "json" or "_x", a pydantic field may not.
            field = f"field_{len(fields)}"
            self._plan.append(_Parameter(parameter.name, field, positional))
            fields[field] = _field(where, parameter, descriptions.get(parameter.name))
            if parameter.default is not parameter.empty:
                self.defaults[parameter.name] = parameter.default
        self.names = tuple(parameter.name for parameter in self._plan if parameter.field)
        self._model: type[BaseModel] = create_model("Arguments", __config__=_STRICT, **fields)
        self.schema = encode_schema(self._model)

    def bind(self, arguments: str, context: ToolContext) -> tuple[list[object], dict[str, object]]:
        """Return the positional and the named arguments of the call; empty `arguments` mean no arguments (case 21).

        Raises ArgumentsError where they are not JSON, too large, too deep, or do not fit the schema. What a
        validator of the tool's own types raises passes through.
        """
        text = arguments if arguments.strip() else "{}"
        if fault := argument_fault(text):
            raise ArgumentsError(fault)
        model = self._validate(text)
        positional: list[object] = []
        named: dict[str, object] = {}
        for parameter in self._plan:
            value = getattr(model, parameter.field) if parameter.field else context
            if parameter.positional:
                positional.append(value)
            else:
                named[parameter.name] = value
        return positional, named

    def _validate(self, text: str) -> BaseModel:
        try:
            return self._model.model_validate_json(text, strict=True, extra="forbid")
        except ValidationError as error:
            problems = _problems(error)
        if any(problem["type"] == "int_type" for problem in problems):
            # 1.0 is an integer for JSON Schema, and models write it; for pydantic's strict mode it is not.
            rewritten = json.dumps(json.loads(text, parse_float=_whole))
            try:
                return self._model.model_validate_json(rewritten, strict=True, extra="forbid")
            except ValidationError as error:
                problems = _problems(error)
        raise ArgumentsError(_listing(problems))


def _signature(where: str, function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError as error:
        raise TypeError(
            f"{where}: the annotation {error.name!r} cannot be resolved; define or import it at module level"
        ) from error
    except ValueError as error:
        raise TypeError(f"{where}: it has no signature to read; wrap it in a typed Python function") from error


def _check(where: str, parameter: inspect.Parameter) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise TypeError(
            f"{where}: the parameter {star}{parameter.name} cannot be described to a model; "
            "name each parameter, or take one list or dict"
        )
    if parameter.annotation is parameter.empty:
        raise TypeError(
            f"{where}: the parameter {parameter.name!r} has no type; annotate it, for example {parameter.name}: str"
        )
    if isinstance(parameter.default, FieldInfo):
        raise TypeError(
            f"{where}: the parameter {parameter.name!r} has a Field as its default; "
            f"write {parameter.name}: Annotated[..., Field(...)] = value"
        )


def _is_context(annotation: object) -> bool:
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_is_context(option) for option in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _is_context(get_args(annotation)[0])
    return annotation is ToolContext


def _field(where: str, parameter: inspect.Parameter, described: str | None) -> tuple[Any, Any]:
    options: dict[str, Any] = {"alias": parameter.name, "validation_alias": parameter.name}
    if described and not _describes_itself(parameter.annotation):
        options["description"] = described
    if parameter.default is not parameter.empty:
        options["default"] = parameter.default
    field = (parameter.annotation, Field(**options))
    try:
        encode_schema(create_model("Argument", __config__=_STRICT, field=field))
    except Exception as error:
        raise TypeError(
            f"{where}: the type of the parameter {parameter.name!r} has no JSON Schema; "
            f"use str, int, float, bool, Literal, an enum, a list, a dict or a pydantic model ({type(error).__name__})"
        ) from error
    return field


def _describes_itself(annotation: object) -> bool:
    if get_origin(annotation) is not Annotated:
        return False
    return any(isinstance(mark, FieldInfo) and mark.description for mark in get_args(annotation)[1:])


def _whole(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _problems(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


def _listing(problems: list[ErrorDetails]) -> str:
    lines = [f"- {_place(problem)}: {_words(problem)}" for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"- and {len(problems) - MAX_PROBLEMS} more")
    return "\n".join(lines)


def _place(problem: ErrorDetails) -> str:
    return ".".join(plain(str(step), 80) for step in problem["loc"]) or "arguments"


def _words(problem: ErrorDetails) -> str:
    match problem["type"]:
        case "value_error" | "assertion_error":
            return "Input is not accepted"  # the exception's words are the validator's own: they may hold anything
        case "union_tag_invalid":
            return f"Input should have a tag among {problem['ctx']['expected_tags']}"  # pydantic's words echo the tag
        case "extra_forbidden" | "unexpected_keyword_argument":
            return "No such property"
        case _:
            return problem["msg"]
