"""Cutting text into fragments, as `tests.laws.pieces` cuts bytes into reads."""

from collections.abc import Iterable
from itertools import pairwise


def cut(text: str, at: Iterable[int]) -> list[str]:
    """Cuts `text` at the offsets `at`, in any order; those beyond its end, or given twice, make empty fragments."""
    edges = (0, *sorted(min(offset, len(text)) for offset in at), len(text))
    return [text[start:stop] for start, stop in pairwise(edges)]
