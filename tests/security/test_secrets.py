"""No secret is compared by `==`, `!=` or `in`, which take longer the more of it is right."""

import ast
import re
from pathlib import Path

import pytest

import sluicegate

SOURCES = sorted(Path(sluicegate.__file__).parent.glob("**/*.py"))
SECRET = re.compile(
    r"secret|password|passwd|credential|bearer|signature|authorization|api_?key|(^|_)(hash|digest|hmac)(_|$)"
)
EMPTY = ("", b"", None, 0)


def secrets_compared(source: str) -> list[int]:
    """Return the lines on which something whose name says that it is secret is compared with something that is not
    empty.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
            sides = [node.left, *node.comparators]
            empty = any(isinstance(side, ast.Constant) and side.value in EMPTY for side in sides)
            if not empty and any(SECRET.search(name) for side in sides for name in names(side)):
                found.append(node.lineno)
    return found


def names(node: ast.expr) -> list[str]:
    """The names that a side of a comparison is made of."""
    return [
        each.attr.lower() if isinstance(each, ast.Attribute) else each.id.lower()
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute | ast.Name)
    ]


def test_no_secret_is_compared_by_its_bytes() -> None:
    assert len(SOURCES) > 100
    for path in SOURCES:
        assert secrets_compared(path.read_text(encoding="utf-8")) == [], path
    assert "hmac.compare_digest(" in (SOURCES[0].parent / "service" / "keys.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "source",
    [
        "key.hash == given", "given != self.options.secret", "secret in known", "found.api_key not in (a, b)",
        "stored[digest] == x", "f(password) == f(other)", "Authorization == x",
    ],
)  # fmt: skip
def test_the_check_sees_a_comparison(source: str) -> None:
    assert secrets_compared(source) == [1]
    assert secrets_compared(f"hmac.compare_digest({source.split()[0]}, other)") == []


def test_what_is_empty_may_be_asked_for() -> None:
    assert secrets_compared('secret == ""; api_key is None') == []
