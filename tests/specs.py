"""Writes the generated files of specs/: `python -m tests.specs`. `test_specs.py` checks that they are current."""

import json
from collections.abc import Mapping
from enum import StrEnum
from inspect import cleandoc
from pathlib import Path
from typing import Any, cast

from sluicegate.machine import reply_table, run_table
from sluicegate.machine.diagram import actions, matrix, mermaid
from sluicegate.machine.table import Table, arrows
from sluicegate.service import openapi
from sluicegate.settings import report
from sluicegate.wire.downstream.native import schema
from tests import checklist
from tests.security import rows

FOLDER = Path(__file__).resolve().parent.parent / "specs"
HEAD = """# The two tables

Made from the code by `python -m tests.specs`; do not edit. Diagrams: `reply.mmd`, `run.mmd`. A row is what happened, a
column where the machine was, a cell where it goes. An empty cell is a protocol error: it raises and changes nothing.
Actions are performed in the order given; each is a method of the machine.
"""
SETTINGS = """# Settings

Made from the code by `python -m tests.specs`; do not edit. All of it may stand in one TOML file (`--config FILE`, or
the file that `SLUICEGATE_CONFIG` names), in the environment, and behind `--set NAME=VALUE`, where a name may be
shortened to its end as long as that is clear. Arguments win over the environment, the environment over the file.
`sluicegate check` reads them as `serve` does, says what is wrong and where, or else what is in force. Times are in
seconds, sizes in bytes; `inf` is a number. [settings.schema.json](settings.schema.json) is the same for editors.
"""


def generated() -> dict[str, str]:
    """The content of every generated file, by name."""
    return {
        "reply.mmd": mermaid(plain(reply_table.TABLE), reply_table.State.WAITING),
        "run.mmd": mermaid(plain(run_table.TABLE), run_table.State.READY),
        "tables.md": "\n".join(
            [
                HEAD,
                _chapter("Reply", reply_table.TABLE, reply_table.State, reply_table.Symbol),
                _chapter("Run", run_table.TABLE, run_table.State, run_table.Symbol),
            ]
        ),
        "openapi.json": json.dumps(_dedented(openapi.document(is_guarded=True)), indent=2) + "\n",
        "security.md": rows.page(),
        "checklist.md": checklist.page(),
        "settings.md": f"{SETTINGS}\n{report.reference()}\n",
        "settings.schema.json": json.dumps(_dedented(report.schema()), indent=2) + "\n",
        "wire.schema.json": json.dumps(_dedented(schema()), indent=2) + "\n",
    }


def plain(table: Mapping[Any, Any]) -> Table[StrEnum, StrEnum]:
    """Return `table` as one of plain strings, for which all pictures are made."""
    return cast(Table[StrEnum, StrEnum], table)


def _chapter(name: str, table: Mapping[Any, Any], states: type[StrEnum], symbols: type[StrEnum]) -> str:
    made = plain(table)
    count = len(list(arrows(made)))
    title = f"## `{name}`: {len(states)} states, {len(symbols)} symbols, {count} arrows\n"
    words = [_words(states), _words(symbols)]
    return "\n".join([title, *words, matrix(made, symbols), f"### Actions of `{name}`\n", actions(made)])


def _dedented(node: Any) -> Any:
    """`node` with docstrings as Python 3.13 has them: before, their indentation is part of them."""
    if isinstance(node, dict):
        return {key: cleandoc(value) if key == "description" else _dedented(value) for key, value in node.items()}
    return [_dedented(each) for each in node] if isinstance(node, list) else node


def _words(names: type[StrEnum]) -> str:
    """The docstring of `names`, its indentation taken off."""
    return "\n".join(line.strip() for line in (names.__doc__ or "").splitlines()).strip() + "\n"


def write() -> None:
    """Write every generated file."""
    for name, text in generated().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
