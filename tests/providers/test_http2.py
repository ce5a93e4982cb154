"""HTTP/2 servers that break off, take their leave or talk nonsense, by a peer that sends frame by frame."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import trio
import trio.testing

from sluicegate.providers.base import ProviderError, ProviderUnavailable, StreamLost
from sluicegate.providers.environment import provider_of
from sluicegate.providers.failures import LOST, UNREACHABLE
from sluicegate.providers.proxies import Proxies
from sluicegate.providers.sdk import SdkProvider, UpstreamOptions
from sluicegate.providers.stock import StockTransport
from tests.path import path
from tests.providers.origin import client_tls, server_tls
from tests.providers.ways import BOUND, DIALECTS, REQUEST

pytestmark = pytest.mark.sockets

HEAD = [(":status", "200"), ("content-type", "text/event-stream")]
WORDS = b": words\n\n"
NO_ERROR = 0
INTERNAL_ERROR = 2
NONSENSE = b"\x00\x00\x01\x00\x00\x00\x00\x00\x63x"  # DATA on stream 99, which nobody opened


class Peer:
    """The server's side of one connection; streams are answered in turn."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.stream = stream

    async def request(self) -> int | None:
        """Return the stream of the next request once it is complete, None at the end of the connection."""
        while data := await self.stream.receive_some():
            events = self.h2.receive_data(data)
            for event in events:
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
            await self.flush()
            for event in events:
                if isinstance(event, h2.events.StreamEnded):
                    return event.stream_id
        return None

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())


Answer = Callable[[Peer, int], Awaitable[None]]


class Server:
    """Answers the requests in the order in which they come with `answers`, whatever their connections."""

    def __init__(self, port: int, answers: list[Answer]) -> None:
        self.port = port
        self.connections = 0
        self.alive = 0
        self._answers = iter(answers)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.alive += 1
        tls = trio.SSLStream(stream, server_tls("h2"), server_side=True, https_compatible=True)
        peer = Peer(tls)
        try:
            async with stream:
                peer.h2.initiate_connection()
                await peer.flush()
                while (number := await peer.request()) is not None:
                    await next(self._answers)(peer, number)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h2.exceptions.ProtocolError):  # h2 ends with GOAWAY
            pass
        finally:
            self.alive -= 1

    async def wait_alone(self) -> None:
        """Wait until no connection is open. Fails after BOUND."""
        with trio.fail_after(BOUND):
            while self.alive:
                await trio.lowlevel.checkpoint()


@asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[tuple[Server, StockTransport]]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server(listener.socket.getsockname()[1], list(answers))
    transport = StockTransport(Proxies({}), http2=True, ssl_context=client_tls())
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, server.serve, [listener])
        yield server, transport
        await transport.aclose()
        await server.wait_alone()
        nursery.cancel_scope.cancel()


def provider(server: Server, transport: StockTransport, dialect: str) -> SdkProvider:
    return provider_of(dialect, UpstreamOptions(max_retries=0), transport, "key", f"https://127.0.0.1:{server.port}")


async def ask(asked: SdkProvider) -> tuple[bytes, ProviderError | None]:
    data = b""
    try:
        async with asked.open(REQUEST) as chunks:
            async for chunk in chunks:
                data += chunk
    except ProviderError as failure:
        return data, failure
    return data, None


async def whole(peer: Peer, number: int) -> None:
    peer.h2.send_headers(number, HEAD)
    peer.h2.send_data(number, WORDS, end_stream=True)
    await peer.flush()


async def begin(peer: Peer, number: int) -> None:
    peer.h2.send_headers(number, HEAD)
    peer.h2.send_data(number, WORDS)
    await peer.flush()


async def reset(peer: Peer, number: int) -> None:
    peer.h2.reset_stream(number, INTERNAL_ERROR)
    await peer.flush()


async def farewell(peer: Peer, number: int) -> None:
    peer.h2.close_connection(NO_ERROR, last_stream_id=number)
    await peer.flush()


async def talk_nonsense(peer: Peer, _number: int) -> None:
    await peer.stream.send_all(NONSENSE)


async def hang_up(peer: Peer, _number: int) -> None:
    await peer.stream.transport_stream.aclose()


class Fault(NamedTuple):
    """What breaks an exchange."""

    name: str
    happens: Answer


FAULTS = [
    Fault("reset", reset),
    Fault("farewell", farewell),
    Fault("nonsense", talk_nonsense),
    Fault("hang-up", hang_up),
]
each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


@each_fault
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_before_the_head_the_provider_is_unreachable_and_then_there_again(fault: Fault, dialect: str) -> None:
    async with serving(fault.happens, whole) as (server, transport):
        asked = provider(server, transport, dialect)
        data, failure = await ask(asked)
        assert (data, type(failure)) == (b"", ProviderUnavailable)
        assert failure is not None
        assert failure.error == UNREACHABLE
        assert transport.open_connections == 0
        assert await ask(asked) == (WORDS, None)
        assert (server.connections, transport.idle_connections) == (2, 1)


@each_fault
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_in_mid_reply_the_stream_is_lost_and_what_came_is_kept(fault: Fault, dialect: str) -> None:
    async def break_off(peer: Peer, number: int) -> None:
        await begin(peer, number)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await fault.happens(peer, number)

    async with serving(break_off, whole) as (server, transport):
        asked = provider(server, transport, dialect)
        data, failure = await ask(asked)
        assert (data, type(failure)) == (WORDS, StreamLost)
        assert failure is not None
        assert failure.error == LOST
        assert transport.open_connections == 0
        assert await ask(asked) == (WORDS, None)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name != "reset"], ids=lambda fault: fault.name)
async def test_a_server_that_leaves_while_idle_costs_no_request(fault: Fault) -> None:
    """The next one is not sent where nobody would answer it, so there is nothing to try again."""

    async def then_leave(peer: Peer, number: int) -> None:
        await whole(peer, number)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await fault.happens(peer, number)

    async with serving(then_leave, whole) as (server, transport):
        asked = provider(server, transport, "openai_chat")
        assert await ask(asked) == (WORDS, None)
        assert transport.idle_connections == 1
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert await ask(asked) == (WORDS, None)
        assert (server.connections, transport.open_connections) == (2, 1)


async def test_replies_side_by_side_have_a_connection_each_and_leave_it_to_the_next() -> None:
    """So none waits for a stream of its own, however few the server allows, and none is hurt by another's end."""
    count = 150

    async def gather(peer: Peer, number: int) -> None:
        await begin(peer, number)
        arrived.append(number)
        if len(arrived) == count:
            all_there.set()
        await all_there.wait()
        peer.h2.send_data(number, path.FOLLOW_UPS["openai_chat"], end_stream=True)
        await peer.flush()

    arrived: list[int] = []
    all_there = trio.Event()
    got: list[tuple[bytes, ProviderError | None]] = []
    async with serving(*[gather] * count, *[whole] * count) as (server, transport):
        asked = provider(server, transport, "openai_chat")

        async def one() -> None:
            got.append(await ask(asked))

        with trio.fail_after(BOUND * 10):
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(one)
        assert got == [(WORDS + path.FOLLOW_UPS["openai_chat"], None)] * count
        assert (server.connections, transport.idle_connections) == (count, count)
        assert await ask(asked) == (WORDS, None)
        assert server.connections == count
