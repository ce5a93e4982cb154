"""Limit row: byte pass-through on bare trio sockets (no parse)."""

import os

import trio

PORT, UP = int(os.environ["PORT"]), int(os.environ["UP_PORT"])


async def pump(a, b, scope):
    try:
        while data := await a.receive_some(65536):
            await b.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


async def handler(client):
    async with await trio.open_tcp_stream("127.0.0.1", UP) as up, trio.open_nursery() as n:
        n.start_soon(pump, client, up, n.cancel_scope)
        n.start_soon(pump, up, client, n.cancel_scope)


trio.run(trio.serve_tcp, handler, PORT)
