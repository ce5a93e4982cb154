"""A provider inside the process: real wire bytes of all three dialects from a script, without a key or a network.

`ScriptedTransport` goes under an official SDK (`AsyncOpenAI(http_client=httpx2.AsyncClient(transport=...))`), so all
that the SDK does to a request and a response happens as it does with the real provider.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Final, Self, TypeAlias

import httpx2
import trio

from ..machine.errors import ErrorCode, RunError
from ..wire.downstream import anthropic_messages, openai_chat
from ..wire.downstream.anthropic_messages import MessagesEncoder
from ..wire.downstream.dialect import DialectEncoder
from ..wire.downstream.openai_chat import ChatEncoder
from ..wire.downstream.openai_responses import ResponsesEncoder
from .base import BODY
from .script import Cut, Pause, Reply, Reset, Stall, Status, Stop, Unreachable, perform
from .scripted_request import ScriptedRequest, decode_request

Brain: TypeAlias = Callable[[ScriptedRequest], Reply]

_CREATED: Final = 1_700_000_000
_DIALECTS: Final = {
    "/chat/completions": "openai_chat",
    "/responses": "openai_responses",
    "/messages": "anthropic_messages",
}
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


class ScriptedTransport(httpx2.AsyncBaseTransport):
    """Answers POST requests to .../chat/completions, .../responses and .../messages as `brain` says.

    `brain` is asked once for each request, or is a list of replies used up in turn; a request after the last one gets
    a 500 that no SDK retries. `pieces` cuts the stream into reads of that many bytes, whatever the frames, and with
    `seed` into reads of 1 to `pieces` bytes, the same ones each time; with 0 each delta is one read. Every read is a
    checkpoint, and only pauses take time (`trio.sleep`).

    `requests` holds the requests so far. Of the streams, `opened` counts all, `closed` those that were closed and
    `active` the others, so a test can prove that no upstream was left open.
    """

    def __init__(self, brain: Brain | Sequence[Reply], *, pieces: int = 0, seed: int | None = None) -> None:
        self._brain = brain if callable(brain) else _in_turn(brain)
        self._pieces = pieces
        self._seed = seed
        self.requests: list[ScriptedRequest] = []
        self.opened = 0
        self.closed = 0

    @property
    def active(self) -> int:
        return self.opened - self.closed

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response of one reply. Raises ConnectError where the script says `Unreachable`."""
        body = await request.aread()
        await trio.lowlevel.checkpoint()
        dialect = next((name for path, name in _DIALECTS.items() if request.url.path.endswith(path)), "")
        if request.method != "POST" or not dialect:
            return _refused(Status(404), dialect, "The scripted provider has no such route.")
        try:
            asked = decode_request(dialect, body)
        except ValueError as error:
            return _refused(Status(400), dialect, str(error))
        self.requests.append(asked)
        reply = self._brain(asked)
        early = next((action for action in reply if not isinstance(action, Pause)), None)
        if isinstance(early, Status | Unreachable):
            await trio.sleep(sum(action.seconds for action in reply if isinstance(action, Pause)))
        if isinstance(early, Unreachable):
            raise httpx2.ConnectError("the scripted provider is unreachable", request=request)
        if isinstance(early, Status):
            return _refused(early, dialect, f"The scripted provider answered {early.status}.")
        return self._stream(request, asked, reply)

    def _stream(self, request: httpx2.Request, asked: ScriptedRequest, reply: Reply) -> httpx2.Response:
        number = len(self.requests)
        sizes: Iterator[int] = repeat(self._pieces)
        if self._seed is not None:
            draw = random.Random(f"{self._seed}/{number}")  # noqa: S311  (test data, not a secret)
            sizes = (draw.randint(1, max(1, self._pieces)) for _ in repeat(None))
        self.opened += 1
        stream = _Body(request, asked, reply, sizes, reply_id=f"scripted-{number}", on_close=self._count_close)
        headers = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": f"req-{number}"}
        return httpx2.Response(200, headers=headers, stream=stream, extensions={BODY: stream})

    def _count_close(self) -> None:
        self.closed += 1


class _Body(httpx2.AsyncByteStream):
    """One reply on its way. An iterator rather than a generator: a reader may leave it half read."""

    def __init__(
        self,
        request: httpx2.Request,
        asked: ScriptedRequest,
        reply: Reply,
        sizes: Iterator[int],
        *,
        reply_id: str,
        on_close: Callable[[], None],
    ) -> None:
        self._request = request
        self._encoder = _encoder(asked, reply_id)
        self._moments = perform(
            reply,
            call_prefix=f"call_{len(asked.messages)}",
            input_tokens=sum(len(said.text.split()) for said in asked.messages),
        )
        self._sizes = sizes
        self._on_close = on_close
        self._closed = False
        self._held = bytearray()
        self._barrier: Pause | Stop | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        size = next(self._sizes)
        while not self._held or len(self._held) < size:
            moment = self._barrier or next(self._moments, Cut())
            self._barrier = None
            if isinstance(moment, bytes):
                self._held += moment
            elif not isinstance(moment, Pause | Cut | Reset | Stall):
                self._held += self._encoder.encode(moment)
            elif self._held:
                self._barrier = moment
                break
            else:
                await self._meet(moment)
        taken = bytes(self._held[: size or None])
        del self._held[: len(taken)]
        return taken

    async def _meet(self, barrier: Pause | Stop) -> None:
        match barrier:
            case Pause(seconds=seconds):
                await trio.sleep(seconds)
            case Stall():
                await trio.sleep_forever()
            case Reset():
                raise httpx2.ReadError("the scripted provider reset the connection", request=self._request)
            case _:
                raise StopAsyncIteration

    async def aclose(self) -> None:
        """Count the close, once. No checkpoint: it works in a cancelled scope."""
        self.close()

    def close(self) -> None:
        """Count the close, once."""
        if not self._closed:
            self._closed = True
            self._on_close()


def _in_turn(replies: Sequence[Reply]) -> Brain:
    waiting = iter(replies)
    return lambda request: next(waiting, [Status(500, {"x-should-retry": "false"})])


def _encoder(asked: ScriptedRequest, reply_id: str) -> DialectEncoder:
    match asked.dialect:
        case "openai_chat":
            usage = asked.include_usage
            return ChatEncoder(asked.model, reply_id=f"chatcmpl-{reply_id}", created=_CREATED, include_usage=usage)
        case "openai_responses":
            return ResponsesEncoder(asked.model, reply_id=f"resp_{reply_id}", created=_CREATED)
        case _:
            return MessagesEncoder(asked.model, reply_id=f"msg_{reply_id}", created=_CREATED)


def _refused(status: Status, dialect: str, message: str) -> httpx2.Response:
    error = RunError(_CODES.get(status.status, ErrorCode.UPSTREAM_ERROR), message)
    encode = anthropic_messages.encode_error if dialect == "anthropic_messages" else openai_chat.encode_error
    headers = {"content-type": "application/json", **status.headers}
    return httpx2.Response(status.status, headers=headers, content=status.body or encode(error))
