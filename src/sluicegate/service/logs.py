"""How log lines are written: as text or as JSON, one line each, and without anything of what people or models say.

Exceptions are the one place where foreign words may get into a log, and with them prompts or keys; of those only the
types and the places in the code are written, unless `redact` is off. Of other packages nothing below a warning is
heard: on DEBUG they log whole requests.
"""

import contextlib
import json
import logging
import re
import sys
import time
import traceback
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from ..machine.quantities import DOCUMENTED

OWN: Final = "sluicegate"
_PLAIN: Final = re.compile(r'[^ "=]+')
MAX_DEPTH: Final = 8  # of exceptions within and before each other
LevelName: TypeAlias = Literal["debug", "info", "warning", "error"]
_Exception: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LogFormat(StrEnum):
    """TEXT is for people, JSON one object for each line."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class LogOptions:
    """What is logged, on standard error."""

    __pydantic_config__: ClassVar[dict[str, Any]] = DOCUMENTED

    format: LogFormat = LogFormat.TEXT
    """Lines for people, or a JSON object for each."""
    level: LevelName = "info"
    """What is worth a line: `info` has one for each run."""
    redact: bool = True
    """Whether the words of exceptions are left out; they may hold what people or models said."""


def configure(options: LogOptions) -> logging.Handler:
    """Let everything be logged as `options` say; returns the handler, which is the only one from now on."""
    # What no format of ours shows need not be looked up for each line (the logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(options.redact) if options.format is LogFormat.JSON else Formatter(options.redact)
    )
    handler.addFilter(_is_heard)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # At their source, since a line that is made and then not heard costs 40 us: httpx2 has one for each request.
    level = logging.getLevelNamesMapping()[options.level.upper()]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger(OWN).setLevel(level)
    return handler


def _is_heard(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == OWN


class Formatter(logging.Formatter):
    """One line of text, fields behind it as `name=value`. Whatever is in it, it stays one line."""

    def __init__(self, redact: bool = True) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record)} {record.levelname} {record.name} {record.getMessage()}"
        words = [head, *(f"{name}={_word(value)}" for name, value in _fields(record).items())]
        if record.exc_info:
            words.append(f"exception={json.dumps(told(record.exc_info, self._redact))}")
        return _one_line(" ".join(words))


class JsonFormatter(logging.Formatter):
    """One JSON object in one line: `at` (UTC), `level`, `logger`, `message`, and the fields of the record."""

    def __init__(self, redact: bool = True) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "at": f"{at}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = told(record.exc_info, self._redact)
        return _ascii(line)


def told(exception: _Exception, redact: bool) -> str:
    """Return an exception for a log: the chain of types with the places in the code; their words unless `redact`."""
    _, error, _ = exception
    if error is None:
        return ""
    if not redact:
        return "".join(traceback.format_exception(error))
    return "\n".join(_places(error, MAX_DEPTH))


def _places(error: BaseException, depth: int) -> list[str]:
    """The types of `error`, of what was raised before it and of what it holds, with the places in the code."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [*_places(before, depth - 1), "then"] if before is not None and depth else []
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    lines += [
        f"{type(error).__qualname__} at",
        *(f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames),
    ]
    if isinstance(error, BaseExceptionGroup) and depth:
        for inner in error.exceptions:
            lines += ["  with", *(f"  {line}" for line in _places(inner, depth - 1))]
    return lines


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return msgspec.to_builtins(fields) if isinstance(fields, msgspec.Struct) else {}


def _ascii(line: dict[str, Any]) -> str:
    with contextlib.suppress(UnicodeEncodeError):
        text = msgspec.json.encode(line).decode()  # at a tenth of the cost
        if text.isascii():
            return text
    return json.dumps(line, ensure_ascii=True)


def _word(value: object) -> str:
    if type(value) is int or type(value) is float:
        return repr(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) < 0x20 else f"\\u{ord(character):04x}"
