"""What the log of a run says, read as a client would: from the bytes of its frames."""

from typing import Any

import msgspec

from sluicegate.client.frame import Frame
from sluicegate.machine.usage import estimate_tokens
from tests.sockets.upstream import SPENT

STOPPED = "The run was stopped."
LEFT = "The client disconnected."


def data_of(frames: list[bytes]) -> list[bytes]:
    """Return the data lines of `frames`."""
    return [line[6:] for frame in frames for line in frame.split(b"\n") if line.startswith(b"data: ")]


def check_log(data: list[bytes], message: str) -> list[Frame]:
    """Check the data lines of a cancelled run, and return its frames: one terminal, the last, CANCELLED, and its usage.

    Each complete reply costs what the provider said, the one that was cut what we estimate, and then that is marked; a
    step of which nothing came may have ended before anybody was asked, and then costs nothing.
    """
    assert data.count(b"[DONE]") == 1
    assert data[-1] == b"[DONE]"
    frames = [msgspec.json.decode(line, type=Frame) for line in data[:-1]]
    assert [frame for frame in frames if frame.error or frame.done] == frames[-1:]
    assert frames[-1].error == {"code": "CANCELLED", "message": message}
    usage: dict[str, Any] = frames[-1].usage or {}
    complete = sum(bool(frame.tool_calls) for frame in frames)  # here every reply but the last calls tools, once
    cut = sum(frame.step is not None for frame in frames) - complete
    last = frames[max(at for at, frame in enumerate(frames) if frame.step or at == 0) :]
    words = "".join((frame.content or "") + (frame.tool_call or {}).get("delta", "") for frame in last)
    guessed = estimate_tokens(len(words.encode())) if cut else 0
    is_asked: bool = usage.get("estimated", False)
    assert is_asked <= bool(cut)
    assert is_asked or not cut or len(last) == len(("step", "terminal"))
    assert usage["output_tokens"] == complete * SPENT.output_tokens + guessed
    spent = complete * SPENT.input_tokens  # nothing, where the client left before the first step
    assert usage["input_tokens"] > spent if is_asked else usage["input_tokens"] == spent
    return frames
