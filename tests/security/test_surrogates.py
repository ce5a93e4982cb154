"""Halves of surrogate pairs and numbers that are none: from a model they do not end a stream, from a client they do."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from sluicegate.machine import reply
from sluicegate.machine.deltas import CallDelta, CallEnd, ReasoningDelta, RefusalDelta, TextDelta
from sluicegate.machine.events import Event, RunDone, RunFailed
from sluicegate.machine.reply_table import State
from sluicegate.providers.dialects import dialect_of
from sluicegate.providers.script import Action, Reply, Say
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from sluicegate.wire.downstream.native import NativeEncoder
from tests.security.rows import COUNTS
from tests.service.harness import DIALECTS, JSON, kinds, stack, text_of, virtually
from tests.service.test_errors import recorded

HIGH, LOW = "\ud83d", "\ude00"
WRITTEN = {HIGH: "HIGHHALF", LOW: "LOWHALF"}  # where the encoders write plain text, for what only a model would write
TEXTS = ("a😀b", "😀", "😀😀", "x\\😀")
KINDS = ("content", "reasoning", "refusal", "delta")


def deltas(kind: str, pieces: Sequence[str]) -> list[Action]:
    """`pieces` as deltas that are shown under the key `kind`."""
    match kind:
        case "delta":
            more = [CallDelta(0, arguments=piece) for piece in pieces]
            return [CallDelta(0, "c", "echo"), *more, CallEnd(0)]
        case "reasoning":
            return [ReasoningDelta(piece) for piece in pieces]
        case "refusal":
            return [RefusalDelta(piece) for piece in pieces]
        case _:
            return [TextDelta(piece) for piece in pieces]


def units(text: str) -> list[str]:
    """The UTF-16 code units of `text`, which JSON escapes one by one."""
    data = text.encode("utf-16-le", "surrogatepass")
    return [data[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(data), 2)]


def splits(text: str) -> Iterator[list[str]]:
    """Yield every way to cut `text` between code units into one, two or three deltas."""
    every = units(text)
    for count in range(3):
        for cuts in itertools.combinations(range(1, len(every)), count):
            yield ["".join(every[start:end]) for start, end in itertools.pairwise((0, *cuts, len(every)))]


def wire(dialect: str, kind: str, pieces: Sequence[str]) -> bytes:
    """A reply of `pieces`, each a delta, in which every code unit outside ASCII is escaped by itself."""
    plain = ["".join(WRITTEN.get(unit, unit) for unit in piece) for piece in pieces]
    data = recorded(dialect, deltas(kind, plain))
    for half, name in WRITTEN.items():
        data = data.replace(name.encode(), b"\\u%04x" % ord(half))
    return data


class Seen(NamedTuple):
    """What clients are sent of a reply."""

    frames: list[dict[str, Any]]
    state: State

    def text(self, kind: str) -> str:
        if kind == "delta":
            return "".join(frame["tool_call"].get("delta", "") for frame in self.frames if "tool_call" in frame)
        # Messages says a refusal as content.
        return "".join(frame.get(kind, frame.get("content", "")) for frame in self.frames)


def seen(dialect: str, reads: Sequence[bytes]) -> Seen:
    """Decode `reads`, and encode and parse again what comes of them."""
    decoder, machine, encoder = dialect_of(dialect).decoder(), reply.Reply(), NativeEncoder("e")
    events: list[Event] = []
    for read in reads:
        for delta in decoder.feed(read):
            events += machine.receive(delta)
    for delta in decoder.eof():
        events += machine.receive(delta)
    assert not any(isinstance(event, RunDone | RunFailed) for event in events)
    frames = [frame.split(b"\n")[1] for event in events for frame in encoder.frames(event)]
    return Seen([msgspec.json.decode(data.removeprefix(b"data: ")) for data in frames], machine.state)


def around_escapes(data: bytes) -> list[int]:
    """Where to cut: in every escape of half a pair, and next to it."""
    found = {at for match in re.finditer(rb"\\ud[8-f]..", data) for at in range(match.start() - 1, match.end() + 2)}
    return sorted(found)


@pytest.mark.once
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_split_of_a_pair_is_read(dialect: str) -> None:
    """Between any two code units, over deltas, and between any two bytes of an escape, over reads."""
    tried = 0
    for kind, text in itertools.product(KINDS, TEXTS):
        said = msgspec.json.encode({"a": text}).decode() if kind == "delta" else text
        for pieces in splits(said) if kind != "delta" else [*splits(said)][::3]:
            data = wire(dialect, kind, pieces)
            assert b"HALF" not in data
            for cut in around_escapes(data):
                found = seen(dialect, [data[:cut], data[cut:]])
                assert found.text(kind) == said, (pieces, cut)
                assert found.state is State.DONE
                tried += 1
    assert tried >= COUNTS["splits"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("halves", [HIGH, LOW, LOW + HIGH, HIGH + HIGH, HIGH + "x" + LOW], ids=ascii)
def test_halves_alone_are_replaced(dialect: str, halves: str) -> None:
    for kind in KINDS:
        said = f'{{"a":"{halves}"}}' if kind == "delta" else f"a{halves}b"
        for pieces in splits(said):
            found = seen(dialect, [wire(dialect, kind, pieces)])
            assert found.text(kind) == said.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            assert found.state is State.DONE


@pytest.mark.parametrize("dialect", DIALECTS)
def test_halves_come_through_the_whole_service(dialect: str) -> None:
    async def main() -> None:
        replies = [[wire(dialect, "content", pieces)] for pieces in splits("a😀b")]
        async with stack(replies, dialect=dialect, pieces=7) as up:
            for _ in replies:
                frames = (await up.ask()).frames
                assert kinds(frames) == ["run", "step", "content", "done"]
                assert text_of(frames) == "a😀b"

    virtually(main)


@tool
async def echo(a: str) -> str:
    """Say the same."""
    return a


@pytest.mark.parametrize("dialect", DIALECTS)
def test_halves_in_a_call_go_to_its_tool_and_back_to_the_model_as_replaced(dialect: str) -> None:
    async def main() -> None:
        said = f'{{"a":"x{LOW}{HIGH}y"}}'
        replies: list[Reply] = [[wire(dialect, "delta", [said])], [Say("Yes.")]]
        async with stack(replies, dialect=dialect, tools=Registry([echo])) as up:
            frames = (await up.ask()).frames
            assert "done" in frames[-1], frames[-1]
            assert [frame["tool_result"]["content"] for frame in frames if "tool_result" in frame] == ["x\ufffd\ufffdy"]
            assert up.transport.requests[1].messages[-1].text == "x\ufffd\ufffdy"

    virtually(main)


HALVES = (rb"\ud83d", rb"\ude00", rb"\ude00\ud83d", rb"x\udfffx", b"\xed\xa0\xbd", b"\xed\xb8\x80")
PLACES = (
    b'{"messages":[{"role":"user","content":"%b"}]}',
    b'{"messages":[{"role":"user","content":[{"type":"text","text":"%b"}]}]}',
    b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/%b"}}]}]}',
    b'{"messages":[{"role":"user","content":"Hi","name":"%b"}]}',
    b'{"messages":[{"role":"user","content":"Hi"}],"model":"%b"}',
    b'{"messages":[{"role":"user","content":"Hi"}],"system":"%b"}',
    b'{"messages":[{"role":"user","content":"Hi"}],"tools":["%b"]}',
    b'{"messages":[{"role":"user","content":"Hi"}],"%b":1}',
    b'{"messages":[{"role":"assistant","tool_calls":[{"id":"%b","name":"f"}]},{"role":"user","content":"Hi"}]}',
    b'{"messages":[{"role":"assistant","tool_calls":[{"id":"a","name":"f","arguments":{"a":"%b"}}]},'
    b'{"role":"user","content":"Hi"}]}',
    b'{"messages":[{"role":"assistant","tool_calls":[{"id":"a","name":"f","arguments":"{\\"a\\":\\"%b\\"}"}]},'
    b'{"role":"user","content":"Hi"}]}',
)
NUMBERS = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"nan", b"0x1", b"1_0", b"01", b"+1", b".5", b"1.")
NUMBERED = (
    b'{"messages":[{"role":"user","content":"Hi"}],"temperature":%b}',
    b'{"messages":[{"role":"user","content":"Hi"}],"max_output_tokens":%b}',
    b'{"messages":[{"role":"assistant","tool_calls":[{"id":"a","name":"f","arguments":{"a":%b}}]},'
    b'{"role":"user","content":"Hi"}]}',
)


def test_halves_and_numbers_that_are_none_are_refused_at_the_edge() -> None:
    bodies = [place % half for place in PLACES for half in HALVES] + [
        place % number for place in NUMBERED for number in NUMBERS
    ]

    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")]) as up:
            for body in bodies:
                answer = await (await up.open("POST", "/chat", body, JSON)).answer()
                assert answer.status == 400, (body, answer)
                assert answer.error["code"] == "INVALID_REQUEST"
                answer.body.decode()
            assert up.transport.requests == []

    virtually(main)
