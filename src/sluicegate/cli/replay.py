"""`sluicegate replay`: recorded provider bytes through decoder and machine, one JSON line per file."""

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from ..machine.deltas import Delta, Failure
from ..machine.errors import RemoteProtocolError
from ..machine.history import CallPart, ReasoningPart, RefusalPart, TextPart
from ..machine.reply import Reply
from ..machine.reply_table import State
from ..machine.run import BROKEN_WIRE
from ..providers.dialects import dialect_of
from ..wire.upstream.base import Decoder
from ..wire.upstream.profiles import PROFILES


class CallLine(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: Any


class UsageLine(msgspec.Struct, frozen=True):
    input_tokens: int
    output_tokens: int


class ErrorLine(msgspec.Struct, frozen=True):
    code: str
    message: str
    retryable: bool
    truncated: bool


class Line(msgspec.Struct, frozen=True):
    """What one recorded reply came to."""

    file: str
    text: str
    reasoning: str
    refusal: str
    tool_calls: list[CallLine]
    finish_reason: str | None
    raw_finish_reason: str | None
    usage: UsageLine | None
    error: ErrorLine | None


def run_replay(options: argparse.Namespace) -> int:
    """Replay every file; 1 if one cannot be read."""
    dialect = dialect_of(options.dialect, PROFILES[options.profile])
    status = 0
    for name in options.files:
        try:
            data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        except OSError as error:
            print(f"sluicegate replay: {name}: {error.strerror}", file=sys.stderr)
            status = 1
            continue
        if options.trace:
            print("\n".join(trace(dialect.decoder(), data, options.pieces or len(data))))
        else:
            line = summary(name, replay(dialect.decoder(), data, options.pieces or len(data)))
            sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
            sys.stdout.buffer.flush()
    return status


def replay(decoder: Decoder, data: bytes, pieces: int) -> Reply:
    """Return the reply that `data` makes, fed in pieces of that many bytes."""
    reply = Reply()
    for delta in _deltas(decoder, data, pieces):
        _receive(reply, delta)
    return reply


def trace(decoder: Decoder, data: bytes, pieces: int) -> list[str]:
    """Return one line for each transition that `data` causes."""
    reply = Reply()
    lines = []
    for delta in _deltas(decoder, data, pieces):
        state, symbol = reply.state, reply.classify(delta)
        _receive(reply, delta)
        lines.append(f"{state} --{symbol}--> {reply.state}")
    return lines


def _deltas(decoder: Decoder, data: bytes, pieces: int) -> list[Delta]:
    deltas: list[Delta] = []
    for at in range(0, len(data), max(pieces, 1)):
        deltas += decoder.feed(data[at : at + pieces])
    return deltas + decoder.eof()


def _receive(reply: Reply, delta: Delta) -> None:
    try:
        reply.receive(delta)
    except RemoteProtocolError:
        reply.receive(Failure(BROKEN_WIRE))


def summary(name: str, reply: Reply) -> Line:
    """Return what `reply` came to, as printed."""
    parts = reply.message().parts
    usage, error = reply.usage, reply.error
    return Line(
        file=name,
        text="".join(part.text for part in parts if isinstance(part, TextPart)),
        reasoning="".join(part.text for part in parts if isinstance(part, ReasoningPart)),
        refusal="".join(part.text for part in parts if isinstance(part, RefusalPart)),
        tool_calls=[
            CallLine(part.call_id, part.name, _parsed(part.arguments)) for part in parts if isinstance(part, CallPart)
        ],
        finish_reason=reply.finish_reason if reply.state is State.DONE else None,
        raw_finish_reason=reply.raw_finish_reason or None,
        usage=UsageLine(usage.input_tokens, usage.output_tokens) if usage else None,
        error=ErrorLine(error.code, error.message, error.retryable, error.truncated) if error else None,
    )


def _parsed(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return arguments
