"""Connections that the system has set up and nobody has accepted yet."""

import socket
from collections.abc import Iterable, Iterator

import trio

AnyStream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


def accepted(
    listening: Iterable[socket.socket], most: int, like: trio.SSLStream[trio.SocketStream] | None
) -> Iterator[AnyStream]:
    """Accept what waits at `listening`, at most `most`, without waiting; under TLS if `like` is, in its context."""
    for listener in listening:
        for _ in range(most):
            try:
                plain, _address = listener.accept()
            except OSError:  # nobody waits; anything else is Trio's to find out and to report
                break
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(plain))
            if like is None:
                yield stream
            else:
                yield trio.SSLStream(stream, like.context, server_side=True, https_compatible=True)
