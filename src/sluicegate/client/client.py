"""The client. A stream that ends without its terminal event is an error here, never a quiet success."""

import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec

from ..providers.transport import TrioTransport
from .calls import Calls, was_sent
from .errors import Interrupted, Lost
from .link import Link, words
from .outage import OnLost, Outage, Resume
from .place import Place
from .stream import OnDisconnect, Stream

KEY_BYTES = 16


class Client:
    """Talks to one service. Use it as an async context manager.

    `timeout` is the longest silence in seconds, after which a connection counts as lost; the service sends heartbeats
    every 15 s. `api_key`, a key or a token, goes with every request. `resume` says how to come back then. `on_lost` is
    called each time before that, synchronously, with the reason and the seconds until the next attempt. `transport`,
    `keys` and `jitter` are what tests replace: the HTTP transport, what makes idempotency keys, and random numbers from
    0 to 1.
    """

    def __init__(
        self,
        url: str,
        timeout: float = 45.0,
        *,
        api_key: str = "",
        resume: Resume | None = None,
        on_lost: OnLost = lambda _reason, _seconds: None,
        transport: httpx2.AsyncBaseTransport | None = None,
        keys: Callable[[], str] = lambda: secrets.token_hex(KEY_BYTES),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        limits = httpx2.Timeout(timeout, connect=10.0)
        # The stock transport leaves async generators behind wherever a stream is left early; Trio reports them.
        transport = transport or TrioTransport()
        self._http = httpx2.AsyncClient(base_url=url, timeout=limits, transport=transport, trust_env=False)
        if api_key:
            self._http.headers["authorization"] = f"Bearer {api_key}"
        self._calls = Calls(self._http)
        self._resume = resume or Resume()
        self._on_lost = on_lost
        self._keys = keys
        self._jitter = jitter

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def chat(
        self,
        messages: list[dict[str, Any]],
        *,
        on_disconnect: str = OnDisconnect.CANCEL,
        idempotency_key: str = "",
        resume: Resume | None = None,
        **options: Any,
    ) -> AsyncIterator[Stream]:
        """Start a run and hold its stream open; leaving the context early disconnects.

        Under `cancel` that ends the run, and so does a lost connection. Under `detach` the run goes on for the grace
        period of the service: call `Stream.stop` to end it; a lost connection is opened anew as `resume` (default: the
        client's) says. `idempotency_key` makes it safe to send the request again where no response came, and stands for
        the run's id in `stop` and `events`; under `detach` the client makes one. Without a key nothing is sent twice.

        Raises Refused if the service answers with an error status; httpx2.HTTPError if it does not answer; Interrupted
        if it did not with a key, and then the run may be going on; ValueError if `on_disconnect` is neither of the two.
        Already cancelled, it sends nothing.
        """
        policy = _policy(on_disconnect)
        if policy is OnDisconnect.DETACH:
            options["on_disconnect"] = policy
            idempotency_key = idempotency_key or self._keys()
        body = msgspec.json.encode({"messages": messages, **options})
        outage = self._outage(resume)
        link = await self._post(body, idempotency_key, outage)
        stream = Stream(link.run_id or idempotency_key, self._calls, policy, outage, Place())
        stream.connect(link)
        try:
            yield stream
        finally:
            await stream.aclose()

    @asynccontextmanager
    async def events(self, run_id: str, after: str = "", *, resume: Resume | None = None) -> AsyncIterator[Stream]:
        """Read a run as one more reader, from its first frame or from behind the frame `after`; leaving disconnects.

        A lost connection is opened anew. The stream is empty if `after` was the terminal frame. Raises Gone if the run,
        or `after` in it, is not known, Refused and Interrupted as `chat` does, ValueError if `after` is no frame's id.
        """
        place = Place(after)
        outage = self._outage(resume)
        stream = Stream(run_id, self._calls, OnDisconnect.DETACH, outage, place)

        async def read() -> Link | None:
            return await self._calls.read(run_id, after)

        try:
            link = await read()
        except Lost as lost:
            try:
                link = await outage.retry(read, lost)
            except Lost as last:
                raise Interrupted(run_id, after, str(last)) from last
        stream.connect(link)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def stop(self, run_id: str) -> None:
        """End a run, by its id or its idempotency key. Raises Refused if there is no such run."""
        await self._calls.stop(run_id)

    def _outage(self, resume: Resume | None) -> Outage:
        return Outage(resume or self._resume, self._jitter, self._on_lost)

    async def _post(self, body: bytes, key: str, outage: Outage) -> Link:
        try:
            return await self._calls.post(body, key)
        except httpx2.HTTPError as error:
            if not key or not was_sent(error):
                raise
            lost = Lost(words(error))

        async def post_again() -> Link:
            return await self._calls.post_again(body, key)

        try:
            return await outage.retry(post_again, lost)
        except Lost as last:
            raise Interrupted(key, "", f"no response came ({last})") from last


def _policy(name: str) -> OnDisconnect:
    try:
        return OnDisconnect(name)
    except ValueError:
        raise ValueError(f"on_disconnect: must be cancel or detach, not {name!r}") from None
