"""One client for both protocols, so that a test may run over either."""

from contextlib import AbstractAsyncContextManager
from typing import Literal, TypeAlias, cast, get_args

from tests.sockets.caller import HOWS, Caller, How, calling
from tests.sockets.h2_caller import H2_HOWS, H2Caller, H2How, calling_h2

Protocol = Literal["http1", "http2"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
WAYS: dict[Protocol, tuple[str, ...]] = {"http1": HOWS, "http2": H2_HOWS}  # in which a client may leave
AnyCaller: TypeAlias = Caller | H2Caller


def calling_over(protocol: Protocol, port: int) -> AbstractAsyncContextManager[AnyCaller]:
    """A connection to the service on `port`; closed at the end if it has not been left."""
    return calling(port) if protocol == "http1" else calling_h2(port)


async def leave(caller: AnyCaller, how: str) -> None:
    """Go away in one of the WAYS of the caller's protocol."""
    if isinstance(caller, Caller):
        await caller.leave(cast(How, how))
    else:
        await caller.leave(cast(H2How, how))
