"""Every recorded stream through `sluicegate replay`: what it came to is what the corpus expects."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sluicegate.cli.replay import replay, summary, trace
from sluicegate.machine.reply_table import TABLE, State, Symbol
from sluicegate.providers.dialects import DIALECTS, dialect_of
from tests import shared
from tests.path.verdicts import VERDICTS, Side, page

Json = dict[str, Any]
STREAMS = 400
"""The floor on uncontested streams."""

PAGE = shared.CHECKOUT / "specs" / "verdicts.md"
SOURCES = shared.CHECKOUT / "src"


def line(stream: shared.Stream, pieces: int | None = None) -> Json:
    data = stream.read()
    found: Json = msgspec.to_builtins(
        summary(str(stream.path), replay(dialect_of(stream.dialect).decoder(), data, pieces or len(data)))
    )
    return found


def differences(stream: shared.Stream, got: Json) -> set[str]:
    """The fields in which a line of `sluicegate replay` differs from what the corpus expects of `stream`."""
    expected = stream.expected
    usage = expected["usage"]
    wanted = {
        "text": expected["text"],
        "reasoning": expected["reasoning"],
        "refusal": expected.get("refusal") or "",
        "tool_calls": expected["tool_calls"],
        "raw_finish_reason": expected["finish_reason"],
        "usage": usage and {"input_tokens": usage["input"], "output_tokens": usage["output"]},
    }
    return {field for field in wanted if got[field] != wanted[field]}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_uncontested_streams_are_heard_as_expected(dialect: str) -> None:
    streams = [stream for stream in shared.streams(dialect) if not stream.contested]
    for stream in streams:
        got = line(stream)
        assert differences(stream, got) == set(), (stream.name, got)
        assert got == line(stream, pieces=7), stream.name


def test_there_are_enough_streams(note: Callable[[str], None]) -> None:
    count = sum(not stream.contested for stream in shared.streams())
    note(f"recorded streams: {count} as expected, {len(VERDICTS)} with a verdict")
    assert count >= STREAMS


def test_contested_streams_are_heard_as_our_verdicts_say() -> None:
    verdicts = {(verdict.dialect, verdict.name): verdict for verdict in VERDICTS}
    assert len(verdicts) == len(VERDICTS)
    contested = {(stream.dialect, stream.name): stream for stream in shared.streams() if stream.contested}
    assert contested.keys() == verdicts.keys()
    for key, stream in contested.items():
        verdict = verdicts[key]
        assert (verdict.side is Side.EXPECTED) == (not verdict.fields), key
        assert differences(stream, line(stream)) == verdict.fields, key


def test_the_page_of_verdicts_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.path.write_verdicts"


def test_no_source_knows_a_recording() -> None:
    """Quirks are told by their form: nothing in src names a recorded stream, its cassette or a hash in its name."""
    names = {part for stream in shared.streams() for part in telling_parts(stream)}
    assert len(names) > 400
    for path in SOURCES.rglob("*.py"):
        said = set(re.findall(r"[\w.-]+", path.read_text()))
        assert not said & names, path


def telling_parts(stream: shared.Stream) -> set[str]:
    """What only somebody who had seen `stream` could write: its name, its file in its repository, hashes in either."""
    source = Path(str(stream.about["source_path"]))
    _, _, own = stream.name.partition("__")
    words = {word for text in (stream.name, str(source)) for word in re.split(r"[_./-]", text)}
    hashes = {word for word in words if re.fullmatch(r"(?=.*\d)[0-9a-f]{8,}", word)}
    return {stream.name, own, *hashes, *({source.stem} if len(source.stem) > 16 else set())}


# -- the installed command --------------------------------------------------------------------------------------------


def command(*arguments: str) -> str:
    """What the installed command prints; it must leave with 0 and say nothing on stderr."""
    executable = Path(sys.executable).with_name("sluicegate")
    ran = subprocess.run([executable, "replay", *arguments], capture_output=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, b""), arguments
    return ran.stdout.decode()


def sample(dialect: str) -> list[shared.Stream]:
    streams = shared.streams(dialect)
    return streams[:: len(streams) // 5][:5]


@pytest.mark.parametrize("pieces", [None, 7])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_command_prints_the_same(dialect: str, pieces: int | None) -> None:
    streams = sample(dialect)
    options = ["--pieces", str(pieces)] if pieces else []
    printed = command("--dialect", dialect, *options, *(str(stream.path) for stream in streams))
    assert [msgspec.json.decode(row) for row in printed.splitlines()] == [line(stream) for stream in streams]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_command_traces_transitions_of_the_table(dialect: str) -> None:
    streams = sample(dialect)
    printed = command("--dialect", dialect, "--trace", *(str(stream.path) for stream in streams)).splitlines()
    traces = [trace(dialect_of(dialect).decoder(), stream.read(), len(stream.read())) for stream in streams]
    assert printed == [row for rows in traces for row in rows]
    for rows in traces:
        here = State.WAITING
        for row in rows:
            state, symbol, target = re.fullmatch(r"(\w+) --(\w+)--> (\w+)", row).groups()  # type: ignore[union-attr]
            assert state == here
            assert TABLE[State(state)][Symbol(symbol)].target == target
            here = State(target)
        assert here in (State.DONE, State.FAILED)
