"""Coalesce what is already there: adjacent words of one part that one read brought become one delta."""

from typing import TypeGuard

from ..machine.deltas import Delta, ReasoningDelta, TextDelta


def merged(deltas: list[Delta]) -> list[Delta]:
    """Return `deltas` with runs of text (or reasoning) of the same part joined. Linear; never waits for more."""
    if len(deltas) < 2:
        return deltas
    out: list[Delta] = []
    at, end = 0, len(deltas)
    while at < end:
        first = deltas[at]
        at += 1
        if _is_words(first):
            texts = [first.text]
            while at < end and type(more := deltas[at]) is type(first) and _is_words(more) and more.key == first.key:
                texts.append(more.text)
                at += 1
            if len(texts) > 1:
                first = type(first)("".join(texts), first.key)
        out.append(first)
    return out


def _is_words(delta: Delta) -> TypeGuard[TextDelta | ReasoningDelta]:
    return type(delta) is TextDelta or (type(delta) is ReasoningDelta and not delta.raw)
