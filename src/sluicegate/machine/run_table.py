"""The transition table of `Run`: the whole answer to one user turn, step by step."""

from enum import StrEnum

from .table import Arrow, Table


class State(StrEnum):
    """Where a run is. CALLING awaits the first word of a reply, REPLYING the rest, TOOLS the results of its calls."""

    READY = "ready"
    CALLING = "calling"
    REPLYING = "replying"
    TOOLS = "tools"
    DONE = "done"
    FAILED = "failed"


class Symbol(StrEnum):
    """What happened. REPLY_* name how a reply ended, TOOL_* what a tool did to the step.

    TOOL_STRAY is a result that no call of this step waits for: legal only after the end, when tools are cut off.
    """

    BEGIN = "begin"
    DELTA = "delta"
    CALL_EAGER = "call_eager"
    REPLY_STOP = "reply_stop"
    REPLY_LENGTH = "reply_length"
    REPLY_CALLS = "reply_calls"
    REPLY_SETTLED = "reply_settled"
    REPLY_REPEATED = "reply_repeated"
    REPLY_EXHAUSTED = "reply_exhausted"
    REPLY_PAUSE = "reply_pause"
    REPLY_FILTERED = "reply_filtered"
    REPLY_OVERFLOW = "reply_overflow"
    REPLY_FAILED = "reply_failed"
    TOOL_DONE = "tool_done"
    TOOL_LAST = "tool_last"
    TOOL_REPEATED = "tool_repeated"
    TOOL_NOTE = "tool_note"
    TOOL_STRAY = "tool_stray"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_CLOSED = "upstream_closed"
    CANCEL = "cancel"


class Action(StrEnum):
    """What an arrow does; each is a method of `Run`."""

    START = "start"
    OPEN_STEP = "open_step"
    FORWARD = "forward"
    FORWARD_EOF = "forward_eof"
    START_EAGER = "start_eager"
    START_TOOLS = "start_tools"
    NOTE_RESULT = "note_result"
    RELAY_NOTE = "relay_note"
    SETTLE_STEP = "settle_step"
    KEEP_REPLY = "keep_reply"
    SPEND = "spend"
    ABORT_REPLY = "abort_reply"
    FINISH = "finish"
    FAIL = "fail"
    FAIL_REPLY = "fail_reply"
    FAIL_FILTERED = "fail_filtered"
    FAIL_OVERFLOW = "fail_overflow"
    FAIL_EXHAUSTED = "fail_exhausted"
    FAIL_REPEATED = "fail_repeated"


_S, _Y, _A = State, Symbol, Action

# Nothing changes a run that is over; these are the inputs that may still come then.
_IGNORED = (
    _Y.BEGIN,
    _Y.DELTA,
    _Y.TOOL_DONE,
    _Y.TOOL_STRAY,
    _Y.TOOL_NOTE,
    _Y.UPSTREAM_FAILED,
    _Y.CANCEL,
)

TABLE: Table[State, Symbol] = {
    _S.READY: {
        _Y.BEGIN: Arrow(_S.CALLING, (_A.START, _A.OPEN_STEP)),
        _Y.CANCEL: Arrow(_S.FAILED, (_A.START, _A.FAIL)),
    },
    _S.CALLING: {
        _Y.DELTA: Arrow(_S.REPLYING, (_A.FORWARD,)),
        _Y.UPSTREAM_FAILED: Arrow(_S.FAILED, (_A.FAIL,)),
        _Y.CANCEL: Arrow(_S.FAILED, (_A.SPEND, _A.FAIL)),
    },
    _S.REPLYING: {
        _Y.DELTA: Arrow(_S.REPLYING, (_A.FORWARD,)),
        _Y.CALL_EAGER: Arrow(_S.REPLYING, (_A.START_EAGER,)),
        _Y.TOOL_DONE: Arrow(_S.REPLYING, (_A.NOTE_RESULT,)),
        _Y.TOOL_NOTE: Arrow(_S.REPLYING, (_A.RELAY_NOTE,)),
        _Y.REPLY_STOP: Arrow(_S.DONE, (_A.SPEND, _A.KEEP_REPLY, _A.FINISH)),
        _Y.REPLY_LENGTH: Arrow(_S.DONE, (_A.SPEND, _A.KEEP_REPLY, _A.FINISH)),
        _Y.REPLY_CALLS: Arrow(_S.TOOLS, (_A.SPEND, _A.KEEP_REPLY, _A.START_TOOLS)),
        _Y.REPLY_SETTLED: Arrow(_S.CALLING, (_A.SPEND, _A.KEEP_REPLY, _A.START_TOOLS, _A.SETTLE_STEP, _A.OPEN_STEP)),
        _Y.REPLY_REPEATED: Arrow(_S.FAILED, (_A.SPEND, _A.KEEP_REPLY, _A.START_TOOLS, _A.FAIL_REPEATED)),
        _Y.REPLY_EXHAUSTED: Arrow(_S.FAILED, (_A.SPEND, _A.KEEP_REPLY, _A.FAIL_EXHAUSTED)),
        _Y.REPLY_PAUSE: Arrow(_S.CALLING, (_A.SPEND, _A.KEEP_REPLY, _A.OPEN_STEP)),
        _Y.REPLY_FILTERED: Arrow(_S.FAILED, (_A.SPEND, _A.KEEP_REPLY, _A.FAIL_FILTERED)),
        _Y.REPLY_OVERFLOW: Arrow(_S.FAILED, (_A.SPEND, _A.KEEP_REPLY, _A.FAIL_OVERFLOW)),
        _Y.REPLY_FAILED: Arrow(_S.FAILED, (_A.SPEND, _A.KEEP_REPLY, _A.FAIL_REPLY)),
        _Y.UPSTREAM_FAILED: Arrow(_S.FAILED, (_A.ABORT_REPLY, _A.SPEND, _A.KEEP_REPLY, _A.FAIL)),
        _Y.UPSTREAM_CLOSED: Arrow(_S.REPLYING, (_A.FORWARD_EOF,)),
        _Y.CANCEL: Arrow(_S.FAILED, (_A.ABORT_REPLY, _A.SPEND, _A.KEEP_REPLY, _A.FAIL)),
    },
    _S.TOOLS: {
        _Y.TOOL_DONE: Arrow(_S.TOOLS, (_A.NOTE_RESULT,)),
        _Y.TOOL_LAST: Arrow(_S.CALLING, (_A.NOTE_RESULT, _A.SETTLE_STEP, _A.OPEN_STEP)),
        _Y.TOOL_REPEATED: Arrow(_S.FAILED, (_A.NOTE_RESULT, _A.FAIL_REPEATED)),
        _Y.TOOL_NOTE: Arrow(_S.TOOLS, (_A.RELAY_NOTE,)),
        _Y.CANCEL: Arrow(_S.FAILED, (_A.FAIL,)),
    },
    _S.DONE: {symbol: Arrow(_S.DONE) for symbol in _IGNORED},
    _S.FAILED: {symbol: Arrow(_S.FAILED) for symbol in _IGNORED},
}
