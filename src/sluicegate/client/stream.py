"""One run as its reader sees it, over as many connections as that takes."""

from collections import deque
from enum import StrEnum

import msgspec

from ..wire.sse import SseEvent, SseFault
from .calls import Calls
from .errors import Interrupted, Lost
from .frame import Frame
from .link import Link
from .outage import Outage
from .place import Misplaced, Place, Turn

_decode = msgspec.json.Decoder(Frame).decode


class OnDisconnect(StrEnum):
    """What becomes of a run when its last reader leaves: it ends, or it goes on for a while."""

    CANCEL = "cancel"
    DETACH = "detach"


class Stream:
    """One run as it comes in. Iterate over it once, in one task; each item is a Frame with the key that it carries.

    Ends after the terminal frame. Under `detach` a lost connection (closed, reset, silent for too long) is opened anew
    and the run read on from where it was: every frame comes once, in order. Raises Interrupted if the terminal frame
    never comes: under `cancel` with the connection, under `detach` when all attempts are used up. Raises it also, at
    once, if what comes is not the native wire or not the next frame; Gone if the run is no longer known; Refused if
    reading on is refused. Waits, and so is a checkpoint, only where nothing has come yet. Cancelled, it loses the
    connection but no frame: under `detach` the next call reads on.
    """

    def __init__(self, run_id: str, calls: Calls, policy: OnDisconnect, outage: Outage, place: Place) -> None:
        self.run_id = run_id
        self._calls = calls
        self._policy = policy
        self._outage = outage
        self._place = place
        self._link: Link | None = None
        self._before: str | None = None  # the id of the last frame of this connection
        self._waiting: deque[SseEvent | SseFault] = deque()
        self._over = False

    @property
    def after(self) -> str:
        """The id of the last frame that came, "" if none did: where `Client.events` would read on."""
        return self._place.id

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Frame:
        """Return the next frame."""
        while not self._over:
            if not self._waiting:
                await self._receive()
            elif (frame := self._take(self._waiting.popleft())) is not None:
                return frame
        raise StopAsyncIteration

    async def stop(self) -> None:
        """End the run; its terminal frame is still to be read. Any task may call it, also while the connection is lost.

        Raises Refused (404: no such run) or httpx2.HTTPError.
        """
        await self._calls.stop(self.run_id)
        self._outage.hurry()

    async def aclose(self) -> None:
        """Disconnect, for good. Does not wait."""
        self._over = True
        if self._link is not None:
            await self._link.aclose()

    def connect(self, link: Link | None) -> None:
        """Read from `link`, or end if there is None. For the package's own use, as is the constructor."""
        self._link = link
        self._before = None
        self._over = link is None

    async def _receive(self) -> None:
        if self._link is None:
            await self._reconnect(Lost("the connection was closed"))
            return
        try:
            self._waiting += await self._link.read()
        except Lost as lost:
            self._link = None
            if self._policy is OnDisconnect.CANCEL:
                raise self._interrupted(str(lost)) from lost
            await self._reconnect(lost)
        else:
            self._outage.note_life()

    async def _reconnect(self, lost: Lost) -> None:
        try:
            link = await self._outage.retry(self._read_on, lost)
        except Lost as last:
            raise self._interrupted(f"no attempt to read on succeeded ({last})") from last
        if link is None:
            raise self._interrupted(f"the service says that frame {self.after} was the last, but it was no terminal")
        self.connect(link)

    async def _read_on(self) -> Link | None:
        return await self._calls.read(self.run_id, self._place.id)

    def _take(self, event: SseEvent | SseFault) -> Frame | None:
        """Return the frame of `event`, None if it has come before."""
        if isinstance(event, SseFault):
            raise self._interrupted(event.reason)
        try:
            frame = _decode(event.data)  # `[DONE]` without a terminal before it is no frame either
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._interrupted("what came is not a frame of the native wire") from error
        if event.id == self._before:
            raise self._interrupted(f"a frame came without an id of its own, behind {event.id or 'nothing'}")
        self._before = event.id
        try:
            turn = self._place.take(event.id, jump=frame.gap is not None)
        except Misplaced as error:
            raise self._interrupted(str(error)) from error
        if turn is Turn.SEEN:
            return None
        self._outage.note_frame()
        self._over = frame.done or frame.error is not None
        msgspec.structs.force_setattr(frame, "id", event.id)
        return frame

    def _interrupted(self, reason: str) -> Interrupted:
        self._over = True
        return Interrupted(self.run_id, self.after, reason)
