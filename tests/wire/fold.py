"""Provider bytes through a decoder and `Reply`: what the tests of every upstream dialect compare."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from sluicegate.machine.deltas import Delta, Eof, Failure, FinishReason, Usage
from sluicegate.machine.errors import RunError
from sluicegate.machine.events import CallReady, PartDelta, ReplyEvent
from sluicegate.machine.history import AssistantMessage, ReasoningPart, RefusalPart, TextPart
from sluicegate.machine.reply import Reply
from sluicegate.wire.upstream.base import Decoder
from tests.laws import byte_by_byte, check_split_law, decode, near_boundaries, splits2


@dataclass(frozen=True)
class Outcome:
    """What a reply came to. `calls` are (id, name, arguments) of those that may run, `broken` of those that may not."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    broken: list[tuple[str, str, str]] = field(default_factory=list)
    finish: FinishReason | None = None
    raw_finish: str = ""
    usage: Usage | None = None
    error: RunError | None = None
    message: AssistantMessage | None = None
    events: list[ReplyEvent] = field(default_factory=list)


def frames(*datas: object, done: bool = True, end: str = "\n") -> bytes:
    """An event stream of `datas`, JSON values or ready bytes, with the `[DONE]` of Chat Completions unless told."""
    encoded = [data if isinstance(data, bytes) else msgspec.json.encode(data) for data in datas]
    lines = [b"data: " + data + b"\n\n" for data in [*encoded, *([b"[DONE]"] if done else [])]]
    return b"".join(lines).replace(b"\n", end.encode())


def named_frames(*events: tuple[str, object]) -> bytes:
    """An event stream of (event name, JSON value) pairs."""
    return b"".join(b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data)) for name, data in events)


def feed(decoder: Decoder, data: bytes) -> list[Delta]:
    return decoder.feed(data)


def finish(decoder: Decoder) -> list[Delta]:
    return decoder.eof()


def reply_of(data: bytes | Iterable[bytes], decoder: Decoder, log: list[ReplyEvent] | None = None) -> Reply:
    """The reply that `data` (whole, or in reads) makes; its events go to `log`."""
    reply = Reply()
    for delta in decode(decoder, feed, finish, [data] if isinstance(data, bytes) else data):
        events = reply.receive(delta)
        if log is not None:
            log.extend(events)
    return reply


def outcome(data: bytes | Iterable[bytes], decoder: Decoder) -> Outcome:
    """What `data` comes to."""
    events: list[ReplyEvent] = []
    reply = reply_of(data, decoder, events)
    message = reply.message()
    ready = [call for call in reply.calls if isinstance(call, CallReady)]
    broken = [call for call in reply.calls if not isinstance(call, CallReady)]
    return Outcome(
        text="".join(part.text for part in message.parts if isinstance(part, TextPart)),
        reasoning="".join(part.text for part in message.parts if isinstance(part, ReasoningPart)),
        refusal="".join(part.text for part in message.parts if isinstance(part, RefusalPart)),
        calls=[(call.call_id, call.name, call.arguments) for call in sorted(ready, key=lambda call: call.part)],
        broken=[(call.call_id, call.name, call.arguments) for call in sorted(broken, key=lambda call: call.part)],
        finish=None if reply.error else reply.finish_reason,
        raw_finish=reply.raw_finish_reason,
        usage=reply.usage,
        error=reply.error,
        message=message,
        events=merged(events),
    )


def merged(events: Iterable[ReplyEvent]) -> list[ReplyEvent]:
    """`events` with adjacent deltas of one part joined."""
    out: list[ReplyEvent] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, PartDelta) and isinstance(last, PartDelta) and last.part == event.part:
            out[-1] = PartDelta(last.part, last.kind, last.text + event.text)
        else:
            out.append(event)
    return out


def checked(
    data: bytes, make_decoder: Callable[[], Decoder], chunkings: Iterable[list[bytes]] | None = None
) -> Outcome:
    """What `data` comes to, after the decoder's laws were checked on it: every cut gives the same deltas, exactly one
    Eof, last, nothing but it after a Failure, and never an exception. Streams over 2000 bytes are cut in two only
    around their blank lines.
    """
    if chunkings is None and len(data) > 2000:
        chunkings = [byte_by_byte(data), *splits2(data, near_boundaries(data, around=8))]
    deltas = check_split_law(make_decoder, feed, finish, data, chunkings=chunkings)
    assert [delta for delta in deltas if isinstance(delta, Eof)] == deltas[-1:]
    failures = [index for index, delta in enumerate(deltas) if isinstance(delta, Failure)]
    assert failures in ([], [len(deltas) - 2])
    return outcome(data, make_decoder())
