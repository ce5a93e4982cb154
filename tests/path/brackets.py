"""The order that the events of every run keep, whatever the provider sent."""

from collections.abc import Iterable
from typing import Final

from sluicegate.machine.events import (
    CallBroken,
    CallReady,
    CitationAdded,
    Event,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    RunDone,
    RunFailed,
    RunStarted,
    StepStarted,
    ToolResult,
    ToolsStarted,
)

_TERMINAL: Final = (RunDone, RunFailed)


def check_brackets(events: list[Event]) -> None:
    """Raises AssertionError unless `events` are those of one run, from its first event to its only terminal.

    Every part is opened once, grows only while it is open and is closed before its reply is over; parts other than
    calls exclude each other. Every call gets one verdict, after its end; only calls that are ready run, and each that
    runs has one result before the next step, or the run fails.
    """
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], _TERMINAL)
    steps = [index for index, event in enumerate(events) if isinstance(event, StepStarted)]
    assert steps[0] == 1
    assert [events[index].step for index in steps] == list(range(1, len(steps) + 1))  # type: ignore[union-attr]
    for start, stop in zip(steps, [*steps[1:], len(events) - 1], strict=True):
        running = _check_step(events[start + 1 : stop])
        assert not running or (stop == len(events) - 1 and isinstance(events[-1], RunFailed)), "a tool without a result"


def _check_step(events: Iterable[Event]) -> set[str]:
    """Returns the calls that run without a result at the end of the step."""
    kinds: dict[int, PartKind] = {}
    opened: dict[int, PartKind] = {}
    judged: dict[int, CallReady | CallBroken] = {}
    started: set[str] = set()
    running: list[str] = []
    for event in events:
        match event:
            case PartStarted(part=part, kind=kind):
                assert part not in kinds, "a part opened twice"
                assert not [other for other in opened.values() if other is not PartKind.CALL] or kind is PartKind.CALL
                kinds[part] = opened[part] = kind
            case PartDelta(part=part, kind=kind, text=text):
                assert opened.get(part) is kind, "words for a part that is not open"
                assert text, "words that are none"
            case PartEnded(part=part, kind=kind):
                assert opened.pop(part, None) is kind, "an end of a part that is not open"
            case CallReady(part=part) | CallBroken(part=part):
                assert kinds.get(part) is PartKind.CALL, "a verdict on no call"
                assert part not in opened, "a verdict before the end"
                assert part not in judged, "two verdicts"
                judged[part] = event
            case ToolsStarted(calls=calls):
                assert not opened, "tools start while a part is open"
                for call in calls:
                    assert judged.get(call.part) == call, "a call runs that is not ready"
                    assert call.call_id not in started, "a call runs twice"
                    started.add(call.call_id)
                    running.append(call.call_id)
            case ToolResult(call_id=call_id):
                if call_id in started:
                    running.remove(call_id)
                else:
                    assert any(isinstance(call, CallBroken) and call.call_id == call_id for call in judged.values())
            case CitationAdded():
                pass
            case _:
                raise AssertionError(f"{event} within a step")
    assert not opened, "a part is open after its reply"
    assert {part for part, kind in kinds.items() if kind is PartKind.CALL} == judged.keys(), "a call without a verdict"
    return set(running)
