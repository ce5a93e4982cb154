"""A frame of the native wire as the client sees it: one struct, of which each frame sets some fields."""

from typing import Any

import msgspec


class Gap(msgspec.Struct, frozen=True):
    """The frames behind `after` up to `until` are no longer kept; `parts` is the whole answer up to there, `step` n."""

    after: int
    until: int
    parts: list[dict[str, Any]]
    step: int = 0
    run: dict[str, Any] | None = None


class Frame(msgspec.Struct, frozen=True):
    """See specs/wire.md. Unknown keys are ignored, so that an older client reads a newer service.

    `id` is the frame's own, `<epoch>-<seq>`. A frame with `gap` stands for many: replace what you have by its parts.
    """

    id: str = ""
    content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[str] | None = None
    tool_call: dict[str, Any] | None = None
    tool_result: dict[str, Any] | None = None
    tool_progress: dict[str, Any] | None = None
    activity: str | None = None
    call_id: str = ""
    citation: Any = None
    provider_tool: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    step: int | None = None
    trace: dict[str, Any] | None = None
    gap: Gap | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
