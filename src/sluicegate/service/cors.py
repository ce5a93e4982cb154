"""Which pages of other origins may read answers: exactly those that are named (the Fetch standard, "CORS protocol").

Requests carry a bearer token and no cookie, so credentials are never allowed, and a page that is not named can do no
more than anybody without a key.
"""

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, Last-Event-ID",
    "Access-Control-Max-Age": "7200",  # what browsers take at most
}
_EXPOSED: Final = {"Access-Control-Expose-Headers": "Run-Id, Retry-After, RateLimit, RateLimit-Policy"}
_VARY: Final = {"Vary": "Origin"}
_SCHEMES: Final = ("http", "https")


class Cors:
    """Answers for `origins`, as browsers write them: scheme, host and, if it is not the scheme's own, port."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    def headers(self, origin: str, *, preflight: bool = False) -> Mapping[str, str]:
        """Return the headers of an answer to a request of a page of `origin`, "" for one of no page."""
        if not self._origins:
            return {}
        if origin not in self._origins:
            return _VARY
        return {"Access-Control-Allow-Origin": origin, **_VARY, **(_PREFLIGHT if preflight else _EXPOSED)}


def checked_origin(name: str, origin: str) -> None:
    """Raise ValueError, which names the setting, if `origin` is none that a browser could send."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    usual = (parts.scheme, port) in (("http", 80), ("https", 443))
    written = f"{parts.scheme}://{parts.netloc.lower()}" == origin and not set("@*") & set(origin)
    if parts.scheme not in _SCHEMES or not parts.hostname or not written or usual:
        raise ValueError(
            f"{name}: must be origins as browsers write them, https://HOST or https://HOST:PORT in lower case, "
            f"not {origin!r}"
        )
