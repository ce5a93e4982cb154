"""The transition table of `Reply`: one model reply, from the first byte to its end.

States name the part that is open. Any number of tool calls may stay open beside it (Chat Completions has no explicit
end of a call and may interleave them): CALL means that a call was the last to speak. Text, reasoning, refusal and
provider parts exclude each other; opening one closes the one before.
"""

from enum import StrEnum

from .table import Arrow, Table


class State(StrEnum):
    """Where a reply is."""

    WAITING = "waiting"
    BETWEEN = "between"
    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    CALL = "call"
    PROVIDER = "provider"
    FINISHING = "finishing"
    FINISHED = "finished"
    DONE = "done"
    FAILED = "failed"


class Symbol(StrEnum):
    """What a delta means, given what the reply holds already.

    *_OPEN begins a part, *_MORE goes on with the open one. SIGNATURE_STRAY signs while no reasoning is open and
    CALL_LATE goes on with a call that has ended, which no provider may do; END_* are the explicit end where nothing
    was said, and where calls were made.
    """

    START = "start"
    TEXT_OPEN = "text_open"
    TEXT_MORE = "text_more"
    REASONING_OPEN = "reasoning_open"
    REASONING_MORE = "reasoning_more"
    SIGNATURE = "signature"
    SIGNATURE_STRAY = "signature_stray"
    REFUSAL_OPEN = "refusal_open"
    REFUSAL_MORE = "refusal_more"
    CITATION = "citation"
    CALL_OPEN = "call_open"
    CALL_MORE = "call_more"
    CALL_LATE = "call_late"
    CALL_END = "call_end"
    PROVIDER_OPEN = "provider_open"
    PROVIDER_MORE = "provider_more"
    PART_UPDATE = "part_update"
    PART_END = "part_end"
    NOTHING_NEW = "nothing_new"
    USAGE = "usage"
    FINISH = "finish"
    FINISH_NOTICE = "finish_notice"
    END = "end"
    END_EMPTY = "end_empty"
    END_WITH_CALLS = "end_with_calls"
    EOF = "eof"
    ERROR = "error"
    LIMIT = "limit"


class Action(StrEnum):
    """What an arrow does; each is a method of `Reply`."""

    CLOSE = "close"
    OPEN = "open"
    APPEND = "append"
    SIGN = "sign"
    CITE = "cite"
    OPEN_CALL = "open_call"
    APPEND_CALL = "append_call"
    END_CALL = "end_call"
    END_CALLS = "end_calls"
    UPDATE = "update"
    NOTE_USAGE = "note_usage"
    NOTE_FINISH = "note_finish"
    INFER_STOP = "infer_stop"
    FAIL = "fail"
    FAIL_TRUNCATED = "fail_truncated"
    FAIL_EMPTY = "fail_empty"
    FAIL_LIMIT = "fail_limit"


_S, _Y, _A = State, Symbol, Action

# From every state before the finish reason.
_ACTIVE = {
    _Y.ERROR: Arrow(_S.FAILED, (_A.CLOSE, _A.END_CALLS, _A.FAIL)),
    _Y.LIMIT: Arrow(_S.FAILED, (_A.CLOSE, _A.END_CALLS, _A.FAIL_LIMIT)),
    _Y.EOF: Arrow(_S.FAILED, (_A.CLOSE, _A.END_CALLS, _A.FAIL_TRUNCATED)),
    _Y.TEXT_OPEN: Arrow(_S.TEXT, (_A.CLOSE, _A.OPEN, _A.APPEND)),
    _Y.REASONING_OPEN: Arrow(_S.REASONING, (_A.CLOSE, _A.OPEN, _A.APPEND)),
    _Y.REFUSAL_OPEN: Arrow(_S.REFUSAL, (_A.CLOSE, _A.OPEN, _A.APPEND)),
    _Y.PROVIDER_OPEN: Arrow(_S.PROVIDER, (_A.CLOSE, _A.OPEN, _A.APPEND)),
    _Y.CALL_OPEN: Arrow(_S.CALL, (_A.CLOSE, _A.OPEN_CALL, _A.APPEND_CALL)),
    _Y.FINISH: Arrow(_S.FINISHED, (_A.CLOSE, _A.NOTE_FINISH)),
    _Y.FINISH_NOTICE: Arrow(_S.FINISHING, (_A.CLOSE, _A.NOTE_FINISH)),
}

# From those among them in which something was said.
_SPOKEN = {
    _Y.CALL_MORE: Arrow(_S.CALL, (_A.CLOSE, _A.APPEND_CALL)),
    _Y.END: Arrow(_S.DONE, (_A.CLOSE, _A.INFER_STOP)),
    _Y.END_WITH_CALLS: Arrow(_S.FAILED, (_A.CLOSE, _A.END_CALLS, _A.FAIL_TRUNCATED)),
}

# After the finish reason: usage and the end are awaited.
_CLOSING = {
    _Y.ERROR: Arrow(_S.FAILED, (_A.CLOSE, _A.END_CALLS, _A.FAIL)),
    _Y.LIMIT: Arrow(_S.FAILED, (_A.CLOSE, _A.END_CALLS, _A.FAIL_LIMIT)),
    _Y.END: Arrow(_S.DONE, (_A.CLOSE,)),
    _Y.END_EMPTY: Arrow(_S.DONE),
    _Y.END_WITH_CALLS: Arrow(_S.DONE, (_A.CLOSE, _A.END_CALLS)),
}


def _stay(state: State) -> dict[Symbol, Arrow]:
    """What never leads out of a state."""
    return {
        _Y.START: Arrow(state),
        _Y.CITATION: Arrow(state, (_A.CITE,)),
        _Y.NOTHING_NEW: Arrow(state),
        _Y.USAGE: Arrow(state, (_A.NOTE_USAGE,)),
    }


def _spoken_stay(state: State) -> dict[Symbol, Arrow]:
    """What never leads out of a state in which something was said."""
    return {
        **_stay(state),
        _Y.CALL_END: Arrow(state, (_A.END_CALL,)),
        _Y.PART_UPDATE: Arrow(state, (_A.UPDATE,)),
    }


def _late(state: State) -> dict[Symbol, Arrow]:
    """What comes after the finish reason: words still count; calls are too late (case 32)."""
    return {
        _Y.TEXT_OPEN: Arrow(state, (_A.CLOSE, _A.OPEN, _A.APPEND)),
        _Y.TEXT_MORE: Arrow(state, (_A.APPEND,)),
        _Y.REASONING_OPEN: Arrow(state, (_A.CLOSE, _A.OPEN, _A.APPEND)),
        _Y.REASONING_MORE: Arrow(state, (_A.APPEND,)),
        _Y.SIGNATURE: Arrow(state, (_A.SIGN,)),
        _Y.REFUSAL_OPEN: Arrow(state, (_A.CLOSE, _A.OPEN, _A.APPEND)),
        _Y.REFUSAL_MORE: Arrow(state, (_A.APPEND,)),
        _Y.PROVIDER_OPEN: Arrow(state, (_A.CLOSE, _A.OPEN, _A.APPEND)),
        _Y.PROVIDER_MORE: Arrow(state, (_A.APPEND,)),
        _Y.PART_END: Arrow(state, (_A.CLOSE,)),
        _Y.CALL_OPEN: Arrow(state),
        _Y.CALL_MORE: Arrow(state),
        _Y.CALL_LATE: Arrow(state),
        _Y.FINISH: Arrow(state, (_A.NOTE_FINISH,)),
        _Y.FINISH_NOTICE: Arrow(state, (_A.NOTE_FINISH,)),
    }


# Nothing changes a reply that is over; these are the symbols that can still be named then.
_IGNORED = (
    _Y.START,
    _Y.TEXT_OPEN,
    _Y.REASONING_OPEN,
    _Y.SIGNATURE_STRAY,
    _Y.REFUSAL_OPEN,
    _Y.CITATION,
    _Y.CALL_OPEN,
    _Y.CALL_LATE,
    _Y.PROVIDER_OPEN,
    _Y.PART_UPDATE,
    _Y.NOTHING_NEW,
    _Y.USAGE,
    _Y.FINISH,
    _Y.FINISH_NOTICE,
    _Y.END,
    _Y.END_EMPTY,
    _Y.END_WITH_CALLS,
    _Y.EOF,
    _Y.ERROR,
    _Y.LIMIT,
)

TABLE: Table[State, Symbol] = {
    _S.WAITING: {
        **_stay(_S.WAITING),
        **_ACTIVE,
        _Y.START: Arrow(_S.BETWEEN),
        _Y.END_EMPTY: Arrow(_S.FAILED, (_A.FAIL_EMPTY,)),
    },
    _S.BETWEEN: {
        **_spoken_stay(_S.BETWEEN),
        **_ACTIVE,
        **_SPOKEN,
        _Y.END_EMPTY: Arrow(_S.FAILED, (_A.FAIL_EMPTY,)),
    },
    _S.TEXT: {
        **_spoken_stay(_S.TEXT),
        **_ACTIVE,
        **_SPOKEN,
        _Y.TEXT_MORE: Arrow(_S.TEXT, (_A.APPEND,)),
        _Y.PART_END: Arrow(_S.BETWEEN, (_A.CLOSE,)),
    },
    _S.REASONING: {
        **_spoken_stay(_S.REASONING),
        **_ACTIVE,
        **_SPOKEN,
        _Y.REASONING_MORE: Arrow(_S.REASONING, (_A.APPEND,)),
        _Y.SIGNATURE: Arrow(_S.REASONING, (_A.SIGN,)),
        _Y.PART_END: Arrow(_S.BETWEEN, (_A.CLOSE,)),
    },
    _S.REFUSAL: {
        **_spoken_stay(_S.REFUSAL),
        **_ACTIVE,
        **_SPOKEN,
        _Y.REFUSAL_MORE: Arrow(_S.REFUSAL, (_A.APPEND,)),
        _Y.PART_END: Arrow(_S.BETWEEN, (_A.CLOSE,)),
    },
    _S.PROVIDER: {
        **_spoken_stay(_S.PROVIDER),
        **_ACTIVE,
        **_SPOKEN,
        _Y.PROVIDER_MORE: Arrow(_S.PROVIDER, (_A.APPEND,)),
        _Y.PART_END: Arrow(_S.BETWEEN, (_A.CLOSE,)),
    },
    _S.CALL: {
        **_spoken_stay(_S.CALL),
        **_ACTIVE,
        _Y.CALL_MORE: Arrow(_S.CALL, (_A.APPEND_CALL,)),
        _Y.END_WITH_CALLS: Arrow(_S.FAILED, (_A.END_CALLS, _A.FAIL_TRUNCATED)),
    },
    _S.FINISHING: {
        **_spoken_stay(_S.FINISHING),
        **_late(_S.FINISHING),
        **_CLOSING,
        _Y.EOF: Arrow(_S.FAILED, (_A.CLOSE, _A.END_CALLS, _A.FAIL_TRUNCATED)),
    },
    _S.FINISHED: {
        **_spoken_stay(_S.FINISHED),
        **_late(_S.FINISHED),
        **_CLOSING,
        _Y.EOF: Arrow(_S.DONE, (_A.CLOSE, _A.END_CALLS)),
    },
    _S.DONE: {symbol: Arrow(_S.DONE) for symbol in _IGNORED},
    _S.FAILED: {symbol: Arrow(_S.FAILED) for symbol in _IGNORED},
}
