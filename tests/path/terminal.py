"""Where each wire says that its reply is over: the oracle of the truncation law.

It reads the whole stream at leisure, block by block and with plain JSON, and shares no line with the decoders. A symbol
is said when the last byte of its data has come, be it without line end: an event that lacks only its blank line counts
at the end of input.

- Chat Completions: the first event whose choice 0 has a finish reason answers, and after it the stream may end any
  time; `[DONE]` answers where there is none, if something was said and no tool was called.
- Responses: `response.completed` and `response.incomplete` answer, and so does `[DONE]` before either, as above.
- Anthropic: `message_stop` answers, and so does `[DONE]` once a stop reason was said.
- On all of them an error, in the shape of that wire, fails the reply, unless the wire's explicit end came first.

Words may follow a finish reason of Chat Completions: then the last of them is a symbol too, for until it has come
something is missing.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final


class Verdict(Enum):
    """What a stream that ends here has come to."""

    CUT = auto()
    ANSWERED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Symbol:
    """`verdict` holds for a stream of `at` bytes and more, until the next symbol. The last one is the end of it."""

    at: int
    verdict: Verdict


def symbols(dialect: str, data: bytes) -> list[Symbol]:
    """The symbols of `data` in the order of the wire, at least one. LF only, one data line to an event."""
    return list(_READERS[dialect](_events(data)))


def verdict(found: list[Symbol], cut: int) -> Verdict:
    """What the first `cut` bytes come to."""
    return next((symbol.verdict for symbol in reversed(found) if symbol.at <= cut), Verdict.CUT)


_Event = tuple[int, str, Any]
_DONE: Final = object()


def _events(data: bytes) -> Iterator[_Event]:
    """(offset behind the data, event name, JSON of the data) of each event that has any."""
    start = 0
    for block in data.split(b"\n\n"):
        name, value, end = "", b"", 0
        at = start
        for line in block.split(b"\n"):
            if line.startswith(b"event:"):
                name = line[6:].strip().decode()
            elif line.startswith(b"data:"):
                value, end = line[5:].strip(), at + len(line.rstrip())
            at += len(line) + 1
        start += len(block) + 2
        if value == b"[DONE]":
            yield end, name, _DONE
        elif value.startswith(b"{"):
            yield end, name, json.loads(value)


def _chat(events: Iterator[_Event]) -> Iterator[Symbol]:
    said = called = answered = False
    for at, name, value in events:
        if value is _DONE:
            if not answered and said and not called:
                yield Symbol(at, Verdict.ANSWERED)
            elif not answered:
                yield Symbol(at, Verdict.FAILED)
            return
        if name == "error" or value.get("error"):
            yield Symbol(at, Verdict.FAILED)
            return
        for choice in value.get("choices") or ():
            delta = choice.get("delta") or {}
            if choice.get("index", 0) == 0:
                words = any(delta.get(key) for key in ("content", "reasoning", "reasoning_content", "refusal"))
                said = said or words
                called = called or bool(delta.get("tool_calls"))
                if (answered and words) or (choice.get("finish_reason") and not answered):
                    answered = True
                    yield Symbol(at, Verdict.ANSWERED)


def _responses(events: Iterator[_Event]) -> Iterator[Symbol]:
    said = called = False
    for at, name, value in events:
        kind = "[DONE]" if value is _DONE else value.get("type") or name
        if kind == "[DONE]":
            yield Symbol(at, Verdict.ANSWERED if said and not called else Verdict.FAILED)
            return
        if kind in ("response.completed", "response.incomplete"):
            yield Symbol(at, Verdict.ANSWERED)
            return
        if kind in ("response.failed", "response.cancelled", "response.error", "error"):
            yield Symbol(at, Verdict.FAILED)
            return
        said = said or kind.endswith(".delta")
        called = called or (value.get("item") or {}).get("type") in ("function_call", "custom_tool_call")


def _anthropic(events: Iterator[_Event]) -> Iterator[Symbol]:
    reason = False
    for at, name, value in events:
        kind = "[DONE]" if value is _DONE else value.get("type") or name
        if kind == "message_stop" or (kind == "[DONE]" and reason):
            yield Symbol(at, Verdict.ANSWERED)
            return
        if kind == "error" or (kind != "[DONE]" and value.get("error")):
            yield Symbol(at, Verdict.FAILED)
            return
        reason = reason or (kind == "message_delta" and bool(value["delta"].get("stop_reason")))


_READERS: Final[dict[str, Callable[[Iterator[_Event]], Iterator[Symbol]]]] = {
    "openai_chat": _chat,
    "openai_responses": _responses,
    "anthropic": _anthropic,
}
