"""How the demo model fills in the arguments of any tool: from the message, as the tool's JSON Schema asks."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from .demo_words import Facts, Group, spoken, stem, stems

_TEXTS: Final = stems("text message question query search prompt content body topic keyword input sentence phrase note")
_EXPRESSIONS: Final = stems("expression formula calculation equation arithmetic math")
_CODES: Final = stems("id number code reference sku serial version")
_ROLES: Final = {
    "from": "from", "origin": "from", "source": "from", "departure": "from", "start": "from",
    "to": "to", "destination": "to", "target": "to", "arrival": "to", "end": "to",
}  # fmt: skip


class Filled(msgspec.Struct, frozen=True):
    """Arguments for one call, or for several side by side. `evidence` grows with what the message said itself;
    `missing` names an argument for which it said nothing, and then there are none.
    """

    arguments: tuple[dict[str, object], ...]
    evidence: int = 0
    missing: str = ""


class _MissingError(Exception):
    """A required argument for which the message has no value; its text is the argument's name."""


def fill(schema: Mapping[str, object], facts: Facts, own_words: frozenset[str]) -> Filled:
    """Return the arguments that `facts` give to `schema`; words of the tool itself are no argument.

    Only required arguments are filled in; where the schema does not say which are, those without a default that the
    message speaks of.
    Several names for the only free string argument make several calls.
    """
    filler = _Filler(schema, facts, own_words)
    try:
        calls = [filler.arguments(schema)]
        if filler.strings == 1:
            subjects = _subjects(facts, _options(schema))
            views = [_only(facts, subject) for subject in subjects] or [facts]
            calls = [_Filler(schema, view, own_words).arguments(schema) for view in views]
    except _MissingError as missing:
        return Filled((), 0, str(missing))
    return Filled(tuple(call for at, call in enumerate(calls) if call not in calls[:at]), filler.evidence)


def _subjects(facts: Facts, options: frozenset[str]) -> tuple[str, ...]:
    """Return what the message asks about: what it quotes, or the names after its first preposition with names."""
    if facts.quoted or not facts.groups:
        return facts.quoted
    first = facts.groups[0]
    alike = (
        group for group in facts.groups if (group.preposition, group.capital) == (first.preposition, first.capital)
    )
    return tuple(name for group in alike for name in group.names if stem(name) not in options)


def _options(schema: Mapping[str, object]) -> frozenset[str]:
    properties = _mapping(schema.get("properties")).values()
    lists = (_mapping(part).get("enum") for part in properties)
    return frozenset(stem(str(option)) for options in lists if isinstance(options, list) for option in options)


def _only(facts: Facts, subject: str) -> Facts:
    quoted = (subject,) if facts.quoted else ()
    return msgspec.structs.replace(facts, quoted=quoted, groups=(Group("", (subject,), capital=True),), names=())


class _Filler:
    """Fills one set of arguments; what it has used, it does not use again."""

    def __init__(self, root: Mapping[str, object], facts: Facts, own_words: frozenset[str]) -> None:
        self._root = root
        self._facts = facts
        self._own_words = own_words
        self._numbers = iter(facts.numbers)
        self._used: set[str] = set()
        self.evidence = 0
        self.strings = 0

    def arguments(self, schema: Mapping[str, object]) -> dict[str, object]:
        properties = _mapping(schema.get("properties"))
        required = schema.get("required")
        wanted = {name: self._resolve(_mapping(part)) for name, part in properties.items()}
        if isinstance(required, list):
            wanted = {name: wanted.get(name, {}) for name in required}
        else:
            wanted = {name: part for name, part in wanted.items() if "default" not in part}
        self.strings += sum(_type(part) == "string" and "enum" not in part for part in wanted.values())
        values: dict[str, object] = {}
        for name, part in wanted.items():
            before = self.evidence
            try:
                value = self._value(name, part)
            except _MissingError:
                if isinstance(required, list):
                    raise
                continue
            if isinstance(required, list) or self.evidence > before:
                values[name] = value
        return values

    def _resolve(self, schema: Mapping[str, object]) -> Mapping[str, object]:
        for _ in range(8):
            choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
            reference = schema.get("$ref")
            if isinstance(choices, list):
                some = [_mapping(choice) for choice in choices if _mapping(choice).get("type") != "null"]
                schema = {**schema, "anyOf": None, "oneOf": None, "allOf": None, **(some[0] if some else {})}
            elif isinstance(reference, str):
                target: object = self._root
                for step in reference.removeprefix("#/").split("/"):
                    target = _mapping(target).get(step)
                schema = {**schema, "$ref": None, **_mapping(target)}
            else:
                break
        return schema

    def _value(self, name: str, schema: Mapping[str, object]) -> object:
        if "const" in schema:
            return schema["const"]
        options = schema.get("enum")
        if isinstance(options, list) and options:
            return self._option(options, schema)
        match _type(schema):
            case "boolean":
                return True
            case "integer" | "number" as kind:
                return self._number(name, schema, kind)
            case "array":
                return self._array(name, self._resolve(_mapping(schema.get("items"))))
            case "object":
                return self.arguments(schema)
            case "null":
                return None
            case _:
                return self._string(name, schema)

    def _option(self, options: list[object], schema: Mapping[str, object]) -> object:
        for option in options:
            words = stems(str(option)) or {stem(str(option))}
            if words <= self._facts.words:
                self.evidence += 2
                return option
        return schema.get("default", options[0])

    def _number(self, name: str, schema: Mapping[str, object], kind: str) -> object:
        for text in self._numbers:
            if kind == "number" or "." not in text:
                self.evidence += 1
                return float(text) if "." in text else int(text)
        for fallback in ("default", "minimum"):
            if schema.get(fallback) is not None:
                return schema[fallback]
        raise _MissingError(name)

    def _array(self, name: str, items: Mapping[str, object]) -> list[object]:
        if _type(items) == "string" and "enum" not in items and (subjects := _subjects(self._facts, frozenset())):
            self.evidence += 1
            return list(subjects)
        values = [self._value(name, items)]
        while _type(items) in {"integer", "number"}:
            try:
                values.append(self._value(name, {**items, "default": None, "minimum": None}))
            except _MissingError:
                break
        return values

    def _string(self, name: str, schema: Mapping[str, object]) -> str:
        for certain, value in self._candidates(name, schema):
            if value not in self._used:
                self._used.add(value)
                self.evidence += certain
                return value
        raise _MissingError(name)

    def _candidates(self, name: str, schema: Mapping[str, object]) -> Iterator[tuple[int, str]]:
        """Yield what the argument could be, best first, with how much it says for the tool."""
        facts, words = self._facts, stems(name)
        shape = str(schema.get("format", "")) or name.lower()
        quoted = [(2, value) for value in facts.quoted]
        if words & _EXPRESSIONS:
            yield from ((4, found) for found in (facts.expression, *facts.numbers[:1]) if found)
            return
        for label, found in (("mail", facts.emails), ("url", facts.urls), ("uri", facts.urls), ("date", facts.dates)):
            if label in shape:
                yield from ((2, value) for value in found)
        if words & _CODES:
            yield from ((2, value) for value in facts.codes)
        if words & _TEXTS or self.strings == 1:
            yield from quoted
        if words & _TEXTS and facts.topic:
            yield 1, facts.topic
        yield from ((1, value) for value in self._names(spoken(name).split()))
        yield from quoted
        yield from ((1, value) for value in facts.codes)
        if isinstance(schema.get("default"), str):
            yield 0, str(schema["default"])
        yield from ((0, word) for word in facts.nouns if stem(word) not in self._own_words)

    def _names(self, words: list[str]) -> Iterator[str]:
        roles = {_ROLES[word] for word in words if word in _ROLES}
        yield from (name for group in self._facts.groups if group.preposition in roles for name in group.names)
        listed = [name for group in self._facts.groups for name in group.names]
        named = self._facts.names
        yield from (*listed, *named) if self.strings == 1 else (*named, *listed)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _type(schema: Mapping[str, object]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else "string"
