"""How a request names a run and a place in its log: ids, the client's own key, cursors."""

import re
from hashlib import blake2b

from quart import request

from ..runtime.driver import Driver
from ..runtime.feed import FeedState
from ..runtime.runs import Key
from .problems import Problem

KEY_HEADER = "Idempotency-Key"
CURSOR_HEADER = "Last-Event-ID"
NAME = "[A-Za-z0-9._~:-]{1,128}"
_KEY = re.compile(f'"?({NAME})"?')
_CURSOR = re.compile(r"([0-9a-f]{1,40})-(\d{1,12})")


def key_of(owner: str, body: bytes) -> Key | None:
    """Return the key that the request names its run by, None if it has none. Raises Problem 400."""
    text = request.headers.get(KEY_HEADER, "")
    if not text:
        return None
    name = name_in(text)
    if name is None:
        raise Problem(400, f"{KEY_HEADER}: must be 1 to 128 of the characters A-Z a-z 0-9 . _ ~ : -.", field=KEY_HEADER)
    return Key(owner, name, blake2b(body, digest_size=16).digest())


def name_in(text: str) -> str | None:
    """Return the name in the value of an `Idempotency-Key`, None if it is not one."""
    match = _KEY.fullmatch(text)
    return None if match is None else match[1]


def place_in(driver: Driver) -> int:
    """Return the number of the last frame that the client says to have, 0 for none. Raises Problem 404 for a cursor of
    another run, or of a frame that there is not.
    """
    cursor = request.headers.get(CURSOR_HEADER, "")
    if not cursor:
        return 0
    match = _CURSOR.fullmatch(cursor)
    if match is None or match[1] != driver.feed.epoch or int(match[2]) > driver.feed.end:
        raise Problem(404, f"{CURSOR_HEADER} is not an event of this run.", field=CURSOR_HEADER)
    return int(match[2])


def refuse_place() -> None:
    """Raise Problem 404 if a request that would start a run says what it has: of a run that is gone, so it would get
    another one behind it.
    """
    if request.headers.get(CURSOR_HEADER, ""):
        raise Problem(404, f"{CURSOR_HEADER}: the run is gone; leave it out to start a new one.", field=CURSOR_HEADER)


def is_past_the_end(driver: Driver, after: int) -> bool:
    """Whether a client that has all frames up to `after` has seen the run's terminal."""
    return driver.feed.state is not FeedState.OPEN and after == driver.feed.end
