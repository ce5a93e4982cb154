"""What the log of a run says, read as a client would: from the bytes of its frames."""

from typing import Any

import msgspec

from sluicegate.client.frame import Frame
from sluicegate.machine.usage import estimate_tokens
from tests.sockets.upstream import USAGE, Phase

STOPPED = "The run was stopped."
LEFT = "The client disconnected."


def data_of(frames: list[bytes]) -> list[bytes]:
    """Return the data lines of `frames`."""
    return [line[6:] for frame in frames for line in frame.split(b"\n") if line.startswith(b"data: ")]


def check_log(data: list[bytes], phase: Phase, message: str) -> None:
    """Check the data lines of a cancelled run: one terminal, the last, CANCELLED, and its usage what came until then."""
    assert data.count(b"[DONE]") == 1
    assert data[-1] == b"[DONE]"
    frames = [msgspec.json.decode(line, type=Frame) for line in data[:-1]]
    assert [frame for frame in frames if frame.error or frame.done] == frames[-1:]
    assert frames[-1].error == {"code": "CANCELLED", "message": message}
    check_usage(frames, phase)


def check_usage(frames: list[Frame], phase: Phase) -> None:
    """Each complete reply costs what the provider said, the one that was cut what we estimate, and that is marked."""
    usage: dict[str, Any] = frames[-1].usage or {}
    if not any(frame.step for frame in frames):
        assert usage == {"input_tokens": 0, "output_tokens": 0}
        return
    text = "".join(frame.content or "" for frame in frames)
    replied = any(frame.tool_calls for frame in frames)
    cut = phase in ("silent", "text") or any(frame.step == 2 for frame in frames)
    assert usage.get("estimated", False) is cut or not replied
    assert usage["input_tokens"] >= (USAGE.input_tokens or 0 if replied else 1)
    if replied:
        assert usage["output_tokens"] == USAGE.output_tokens
    else:
        assert usage["estimated"] is True
        assert usage["output_tokens"] >= estimate_tokens(len(text.encode()))
        assert (usage["output_tokens"] > 0) is (phase == "tool" or bool(text)) or not text
