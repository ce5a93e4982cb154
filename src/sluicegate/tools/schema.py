"""The JSON Schema of a tool's arguments, as small and as strict as providers like it."""

from typing import Any

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

# Keys whose values are not schemas but maps from names to schemas, or plain data.
_MAPS = frozenset({"properties", "$defs", "patternProperties", "dependentSchemas"})
_DATA = frozenset({"default", "const", "enum", "examples", "required", "discriminator"})


class _Generator(GenerateJsonSchema):
    """pydantic's generator, quiet about defaults that have no JSON form: the schema just does not show them."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012


def encode_schema(model: type[BaseModel]) -> msgspec.Raw:
    """Return the JSON Schema of `model`, encoded: no titles, no object with extra properties; the same every time.

    Shared and recursive types stay under `$defs`. Raises pydantic's errors for types without a JSON Schema.
    """
    schema = model.model_json_schema(schema_generator=_Generator)
    return msgspec.Raw(msgspec.json.encode(_tidy(schema)))


def _tidy(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "title":
            continue
        if key in _MAPS:
            tidied[key] = {name: _tidy(inner) for name, inner in value.items()}
        else:
            tidied[key] = value if key in _DATA else _tidy(value)
    if "properties" in tidied:
        tidied["additionalProperties"] = False
    return tidied
