"""Pictures of the tables, made from the tables: Mermaid diagrams and the state x symbol matrix."""

from enum import StrEnum

from .table import Table, arrows


def mermaid(table: Table[StrEnum, StrEnum], start: StrEnum) -> str:
    """Return the state diagram of `table` in Mermaid; arrows between the same two states share a line."""
    edges: dict[tuple[str, str], list[str]] = {}
    for state, symbol, arrow in arrows(table):
        edges.setdefault((state, arrow.target), []).append(symbol)
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    lines += [f"    {state} --> {target}: {', '.join(symbols)}" for (state, target), symbols in edges.items()]
    return "\n".join(lines) + "\n"


def matrix(table: Table[StrEnum, StrEnum], symbols: type[StrEnum]) -> str:
    """Return the table as Markdown: a row per symbol, a column per state; empty cells are protocol errors."""
    states = list(table)
    rows = ["| | " + " | ".join(states) + " |", "|---" * (len(states) + 1) + "|"]
    for symbol in symbols:
        cells = [table[state][symbol].target if symbol in table[state] else "" for state in states]
        rows.append(f"| {symbol} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def actions(table: Table[StrEnum, StrEnum]) -> str:
    """Return every arrow with its actions as a Markdown table."""
    rows = ["| state | symbol | next | actions |", "|---|---|---|---|"]
    rows += [
        f"| {state} | {symbol} | {arrow.target} | {', '.join(arrow.actions) or '-'} |"
        for state, symbol, arrow in arrows(table)
    ]
    return "\n".join(rows) + "\n"
