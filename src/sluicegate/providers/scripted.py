"""A provider inside the process: real wire bytes of all three dialects from a script, without a key or a network.

`ScriptedTransport` goes under an official SDK (`AsyncOpenAI(http_client=httpx2.AsyncClient(transport=...))`), so all
that the SDK does to a request and a response happens as it does with the real provider.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat, takewhile
from typing import Final, TypeAlias

import httpx2
import trio

from ..machine.errors import ErrorCode, RunError
from ..wire.downstream import anthropic_messages, openai_chat
from ..wire.downstream.anthropic_messages import MessagesEncoder
from ..wire.downstream.dialect import DialectEncoder
from ..wire.downstream.openai_chat import ChatEncoder
from ..wire.downstream.openai_responses import ResponsesEncoder
from .script import Cut, Moment, Pause, Reply, Reset, Stall, Status, Unreachable, perform
from .scripted_request import ScriptedRequest, decode_request

Brain: TypeAlias = Callable[[ScriptedRequest], Reply]

_CREATED: Final = 1_700_000_000
_PATHS: Final = {"/chat/completions": "openai_chat", "/responses": "openai_responses", "/messages": "anthropic_messages"}
_CODES: Final = {
    400: ErrorCode.INVALID_REQUEST,
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.UNAUTHORIZED,
    404: ErrorCode.INVALID_REQUEST,
    408: ErrorCode.TIMEOUT,
    413: ErrorCode.CONTEXT_LENGTH,
    422: ErrorCode.INVALID_REQUEST,
    429: ErrorCode.RATE_LIMITED,
    503: ErrorCode.OVERLOADED,
    504: ErrorCode.TIMEOUT,
    529: ErrorCode.OVERLOADED,
}


class _Turns:
    """A plain list of replies as a brain: one for each request, and an error that no SDK retries after the last."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self._replies = iter(replies)

    def __call__(self, request: ScriptedRequest) -> Reply:
        return next(self._replies, [Status(500, {"x-should-retry": "false"})])


class ScriptedTransport(httpx2.AsyncBaseTransport):
    """Answers POST requests to .../chat/completions, .../responses and .../messages as `brain` says.

    `brain` is asked once for each request, or is a list of replies used up in turn. `pieces` cuts the stream into reads
    of that many bytes, whatever the frames, and with `seed` into reads of 1 to `pieces` bytes, the same ones each time;
    with 0 each delta is one read. Only pauses take time. Every read is a checkpoint.

    `requests` are the requests so far; of the response bodies `opened` counts all, `closed` those that were closed and
    `active` the others: a test can prove that no upstream was left open.
    """

    def __init__(self, brain: Brain | Sequence[Reply], *, pieces: int = 0, seed: int | None = None) -> None:
        self._brain: Brain = brain if callable(brain) else _Turns(brain)
        self._pieces = pieces
        self._seed = seed
        self.requests: list[ScriptedRequest] = []
        self.opened = 0
        self.closed = 0

    @property
    def active(self) -> int:
        return self.opened - self.closed

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response of one reply; raises ConnectError where the script says `Unreachable`."""
        body = await request.aread()
        await trio.lowlevel.checkpoint()
        dialect = next((name for path, name in _PATHS.items() if request.url.path.endswith(path)), "")
        if request.method != "POST" or not dialect:
            return _refusal(Status(404), dialect, "The scripted provider has no such route.")
        try:
            asked = decode_request(dialect, body)
        except ValueError as error:
            return _refusal(Status(400), dialect, str(error))
        self.requests.append(asked)
        reply = self._brain(asked)
        wait = sum(action.seconds for action in takewhile(_is_pause, reply) if isinstance(action, Pause))
        early = next((action for action in reply if not isinstance(action, Pause)), None)
        if isinstance(early, Status | Unreachable):
            await trio.sleep(wait)
        if isinstance(early, Unreachable):
            raise httpx2.ConnectError("the scripted provider is unreachable", request=request)
        if isinstance(early, Status):
            return _refusal(early, dialect, f"The scripted provider answered {early.status}.")
        stream = _Body(self, request, asked, reply)
        return httpx2.Response(200, headers=_headers(len(self.requests)), stream=stream)
