"""The arguments of a tool call: joined once, parsed once, at the end of the call."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from .events import CallFault


def is_json(text: str) -> bool:
    """True if `text` is one complete JSON value. Nesting too deep to parse counts as no."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    return True


def settle(fragments: Sequence[str]) -> tuple[str, CallFault | None]:
    """Return the final JSON text of a call's `fragments`, or what came and why it cannot be used.

    Nothing, or white space, is "{}" (case 21). Fragments that do not join to JSON, but each repeat the one before and
    go on, come from a server that sends cumulative arguments: the last one counts (case 20). Cost is linear in the
    bytes that came.
    """
    text = "".join(fragments)
    if not text or text.isspace():
        return "{}", None
    if is_json(text):
        return text, None
    last = fragments[-1]
    if is_json(last) and all(b.startswith(a) for a, b in pairwise(fragments)):
        return last, None
    return text, CallFault.TRUNCATED if _is_unfinished(text) else CallFault.MALFORMED


def _is_unfinished(text: str) -> bool:
    """True if `text` ends inside a string or an open bracket, or within a bare word at its top level."""
    depth = 0
    quoted = escaped = False
    for char in text:
        if quoted:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth < 0:
                return False
    return quoted or depth > 0
