"""Hypercorn's HTTP/2 made safe. Each override names the fault that it mends, by the names of `safety`.

H2  DATA for a stream that is over, a path that is not ASCII, PRIORITY frames: each ends the worker.
H3  The producer is woken by what is sent, not by what is left: a shut window holds nobody back.
H4  A message for a dead stream returns without a checkpoint: a producer that awaits nothing else cannot be cancelled.

Beside these: a peer may keep its window shut for ever; the death of a connection does not wake a producer that waits
for room; a connection has no timer before its first request, nor after a reset of its last stream; a response that the
application breaks off does not end; and the request that is one too many on a connection ends all that run on it.
"""

import contextlib
from typing import Final

import h2.errors
import h2.events
import h2.exceptions
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BUFFER_LOW_WATER, BufferCompleteError, H2Protocol, StreamBuffer
from hypercorn.typing import Event as Flag
from hyperframe.frame import GoAwayFrame
from priority.priority import DeadlockError, MissingStreamError

from .options import note_eviction, options_of
from .writer import Patience

SHIELD_SECONDS: Final = 5.0  # for what is shielded: it waits for no client, so they are never needed


class SafeStreamBuffer(StreamBuffer):
    """What a stream has to send, and the patience with the window that holds it up."""

    patience: Patience

    def __init__(self, event_class: type[Flag]) -> None:
        super().__init__(event_class)
        self.ended = event_class()

    async def drain(self) -> None:
        """Wait until all is sent, and the end of the stream with it: what closes the stream then cuts nothing off."""
        await super().drain()
        if self._complete:
            await self.ended.wait()

    async def close(self) -> None:
        """Forget what there is, and wake whoever waits."""
        await super().close()
        await self.ended.set()

    async def push(self, data: bytes) -> None:
        """H3: wait while there is too much left."""
        if self._complete:
            raise BufferCompleteError
        self.buffer.extend(data)
        await self._is_empty.clear()
        while len(self.buffer) >= BUFFER_HIGH_WATER and not self._complete:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        """H3: wake the producer when little is left."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[: len(data)]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        if data:
            self.patience.took(len(data))
        elif self.buffer:
            self.patience.wait()
        return data


class SafeH2Protocol(H2Protocol):
    """HTTP/2 that survives its peer."""

    stream_buffers: dict[int, SafeStreamBuffer]  # type: ignore[assignment]

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # handed on as they are
        self._options = options_of(self.config)

    async def initiate(self, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None) -> None:
        """Also arm the timer again: what came before by prior knowledge was no request, but has stopped it."""
        await super().initiate(headers, settings)
        await self.send(Updated(idle=self.idle))

    @property
    def _is_spent(self) -> bool:
        """Whether the connection has had its requests. The release closes it then, whatever runs on it."""
        return self.keep_alive_requests >= self.config.keep_alive_max_requests

    async def send_task(self) -> None:
        """Send, and reset the streams whose window stays shut for longer than our patience."""
        while not self.closed:
            try:
                stream_id = next(self.priority)
            except DeadlockError:
                deadlines = [buffer.patience.deadline for buffer in self.stream_buffers.values()]
                with trio.move_on_at(min(deadlines, default=float("inf"))):
                    await self.has_data.wait()
                await self.has_data.clear()
                await self._reset_stalled()
            else:
                await self._send_data(stream_id)

    async def handle(self, event: Event) -> None:
        """Also wake the producers of a connection that is gone."""
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in self.stream_buffers.values():
                await buffer.close()

    async def stream_send(self, event: StreamEvent) -> None:
        """H4: a checkpoint, except where the end of a stream is noted, which must not be lost."""
        if not isinstance(event, StreamClosed):
            await trio.lowlevel.checkpoint()
            await super().stream_send(event)
            return
        buffer = self.stream_buffers.get(event.stream_id)
        if buffer is not None and not buffer.complete:  # the application failed in the midst of its response
            await self._reset(event.stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        await super().stream_send(event)
        await self._flush()

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if self.closed:
                return
            try:
                await self._handle_event(event)
            except h2.exceptions.ProtocolError:  # the connection has ended meanwhile
                await self.send(Closed())

    async def _handle_event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
            # H2: the response was over before the request. The credit is the connection's.
            self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            await self._flush()
        elif isinstance(event, h2.events.RequestReceived) and not _is_sound(event):
            self.connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            await self._flush()
        elif isinstance(event, h2.events.RequestReceived) and self._is_spent:
            self.connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.REFUSED_STREAM)
            await self._flush()
            await self.send(RawData(GoAwayFrame(last_stream_id=event.stream_id - 1).serialize()))
            if self.idle:
                await self.send(Closed())
        elif isinstance(event, h2.events.StreamReset):
            if (buffer := self.stream_buffers.get(event.stream_id)) is not None:
                await buffer.close()
            await super()._handle_events([event])
            await self.send(Updated(idle=self.idle))
        else:
            await super()._handle_events([event])

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        await super()._create_stream(request)
        self.stream_buffers[request.stream_id].patience = Patience(
            self._options.write_seconds, self._options.least_rate
        )

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        """H2: priorities are obsolete, and a tree of them that the peer can shape raises in many ways."""

    async def _window_updated(self, stream_id: int | None) -> None:
        for buffer in self.stream_buffers.values() if not stream_id else [self.stream_buffers.get(stream_id)]:
            if buffer is not None:
                buffer.patience.rest()
        await super()._window_updated(stream_id)

    async def _send_data(self, stream_id: int) -> None:
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None:
            self.priority.block(stream_id)
            return
        await super()._send_data(stream_id)
        if stream_id not in self.stream_buffers:
            await buffer.ended.set()
            await self._end_request(stream_id)

    async def _end_request(self, stream_id: int) -> None:
        """The response is complete, so the client may stop sending what is left of its request."""
        stream = self.connection.streams.get(stream_id)
        if stream is not None and not stream.closed and not self.closed:
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.NO_ERROR)
            await self._flush()

    async def _reset_stalled(self) -> None:
        now = trio.current_time()
        for stream_id, buffer in list(self.stream_buffers.items()):
            if buffer.patience.deadline <= now:
                note_eviction(self.config)
                await self._reset(stream_id, h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                await self._close_stream(stream_id)
                await self.send(Updated(idle=self.idle))
        await self._flush()

    async def _reset(self, stream_id: int, code: h2.errors.ErrorCodes) -> None:
        buffer = self.stream_buffers[stream_id]
        buffer.patience.rest()
        await buffer.close()
        with contextlib.suppress(h2.exceptions.ProtocolError, MissingStreamError):  # the peer was first
            self.priority.unblock(stream_id)  # for the sending task to clear away
            self.connection.reset_stream(stream_id, code)
        await self.has_data.set()

    async def _close_stream(self, stream_id: int) -> None:
        """Tell the application, even from a task that is being cancelled; its queue of messages may be full."""
        with trio.move_on_after(SHIELD_SECONDS, shield=True):
            await super()._close_stream(stream_id)


def _is_sound(request: h2.events.RequestReceived) -> bool:
    """Whether a request has what its scope is made of (H2)."""
    fields = dict(request.headers)
    return all(fields.get(name, b"").isascii() and fields.get(name) for name in (b":method", b":path"))
