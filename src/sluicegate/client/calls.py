"""The three requests of the native wire, each sent once."""

from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import trio

from .errors import Gone, Lost, Refused
from .link import Link, words

_LIMITED = 429
_SERVER_ERRORS = 500
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_OUR_FAULT = (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol)


class Calls:
    """Sends requests to one service. All methods raise Cancelled before anything is sent if they are cancelled already,
    and leave no connection behind if they are cancelled later.
    """

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def post(self, body: bytes, key: str) -> Link:
        """`POST /chat`. Raises Refused, httpx2.HTTPError."""
        headers = {"content-type": "application/json"}
        if key:
            headers["idempotency-key"] = key
        response = await self._send("POST", "/chat", headers, body)
        if response.status_code != httpx2.codes.OK:
            raise await _refusal(response)
        return Link(response)

    async def post_again(self, body: bytes, key: str) -> Link:
        """`POST /chat` once more with the same `key`. Raises Lost where it is worth another attempt, Refused."""
        try:
            return await self.post(body, key)
        except _OUR_FAULT:
            raise
        except httpx2.HTTPError as error:
            raise Lost(words(error)) from error
        except Refused as refused:
            # With words of its own it is the service that answers for this run, else a proxy in front of it.
            if refused.error or not _may_pass(refused.status):
                raise
            raise Lost(str(refused), refused.retry_after) from refused

    async def read(self, run_id: str, after: str) -> Link | None:
        """`GET /runs/{id}/events` from behind the frame `after`; None if that was the run's last.

        Raises Lost where it is worth another attempt, Gone, Refused.
        """
        headers = {"last-event-id": after} if after else {}
        try:
            response = await self._send("GET", f"{_path(run_id)}/events", headers)
        except _OUR_FAULT:
            raise
        except httpx2.HTTPError as error:
            raise Lost(words(error)) from error
        if response.status_code == httpx2.codes.OK:
            return Link(response)
        if response.status_code == httpx2.codes.NO_CONTENT:
            await response.aclose()
            return None
        refused = await _refusal(response)
        if refused.status == httpx2.codes.NOT_FOUND:
            raise Gone(run_id, after) from refused
        if _may_pass(refused.status):
            raise Lost(str(refused), refused.retry_after) from refused
        raise refused

    async def stop(self, run_id: str) -> None:
        """`DELETE /runs/{id}`. Raises Refused, httpx2.HTTPError."""
        response = await self._send("DELETE", _path(run_id), {})
        if response.status_code != httpx2.codes.NO_CONTENT:
            raise await _refusal(response)
        await response.aclose()

    async def _send(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> httpx2.Response:
        # On a connection that is already open a request is sent without a checkpoint: too late for who has given up.
        await trio.lowlevel.checkpoint_if_cancelled()
        request = self._http.build_request(method, path, content=body or None, headers=headers)
        return await self._http.send(request, stream=True)


def was_sent(error: httpx2.HTTPError) -> bool:
    """Return whether the service may have seen the request that failed with `error`."""
    return isinstance(error, httpx2.TransportError) and not isinstance(error, (*_NOT_SENT, *_OUR_FAULT))


def _path(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"


def _may_pass(status: int) -> bool:
    return status == _LIMITED or status >= _SERVER_ERRORS


async def _refusal(response: httpx2.Response) -> Refused:
    """Read and close an error response. What cannot be read of it is not known, its status is."""
    try:
        body = await response.aread()
    except httpx2.HTTPError:
        body = b""
    finally:
        await response.aclose()
    return Refused(response.status_code, _error(body), _seconds(response.headers.get("retry-after", "")))


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() else 0.0


def _error(body: bytes) -> dict[str, Any]:
    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}
