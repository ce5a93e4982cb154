"""Cancelled at any wait, the client leaves no connection, sends nothing more, and can read on."""

import functools
from collections.abc import Awaitable, Callable

import pytest
import trio

from sluicegate.client import Client, Frame

from ..service.harness import virtually
from .rig import HI, TALK, Cut, Fake, How, Memory, client_of, decoded, detached, frames_of, read_all, served, streamed

FRAMES = frames_of(TALK)
WHOLE = decoded(FRAMES)
RAW = streamed(FRAMES)
SIZE = 64
CUTS = [
    Cut(20, How.RESET), Cut(RAW.index(FRAMES[4])), Cut(0, How.REFUSED), Cut(0, How.SILENT), Cut(500, How.RESET)
]  # fmt: skip


class Waits:
    """Counts the waits of a transport, and calls `then` at number `at`, in the middle of the wait."""

    def __init__(self, at: int, then: Callable[[], object]) -> None:
        self.count = 0
        self._at = at
        self._then = then

    async def __call__(self) -> None:
        await trio.lowlevel.checkpoint()
        self.count += 1
        if self.count == self._at:
            self._then()
        await trio.lowlevel.checkpoint()


def cancelled_at(at: int, *, delays: bool) -> tuple[int, bool]:
    """Cancel a chat at its wait number `at`, of the transport or (`delays`) before an attempt; return how many waits
    there were and whether it was cut off.
    """
    scope = trio.CancelScope()
    waits = Waits(0 if delays else at, scope.cancel)
    lost = 0

    def on_lost(_reason: str, _seconds: float) -> None:
        nonlocal lost
        lost += 1
        if delays and lost == at:
            scope.cancel()

    async def one() -> None:
        memory = Memory(Fake(FRAMES), CUTS, waits, SIZE)
        async with client_of(memory, on_lost=on_lost) as client:
            with scope:
                assert await detached(client) == WHOLE
            assert memory.open == 0, at
        assert trio.lowlevel.current_statistics().tasks_living == LIVING

    virtually(one)
    return lost if delays else waits.count, scope.cancelled_caught


def living() -> int:
    """How many tasks live in an idle run on a virtual clock."""
    found = 0

    async def look() -> None:
        nonlocal found
        found = trio.lowlevel.current_statistics().tasks_living

    virtually(look)
    return found


LIVING = living()


@pytest.mark.sweep
@pytest.mark.parametrize("delays", [False, True], ids=["waits", "delays"])
def test_cancelled_at_any_wait_it_leaves_nothing(delays: bool, note: Callable[[str], None]) -> None:
    total, cut_off = cancelled_at(0, delays=delays)
    assert not cut_off
    assert total >= (len(CUTS) if delays else 30)
    for at in range(1, total + 1):
        count, cut_off = cancelled_at(at, delays=delays)
        assert cut_off, at
        assert count <= at + 1, "nothing goes on"
    note(f"client cancelled at {total} {'delays' if delays else 'waits'}")


async def patiently(wait: Callable[[], Awaitable[Frame]], scopes: list[trio.CancelScope]) -> Frame:
    """Wait for a frame; as often as that is cancelled, again."""
    while True:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            return await wait()


@pytest.mark.sweep
def test_a_frame_that_was_given_up_comes_all_the_same() -> None:
    """Any single wait within a detached stream is cancelled, as by a time limit: the next call reads on."""
    count = 0

    async def one(at: int) -> None:
        nonlocal count
        scopes: list[trio.CancelScope] = []
        waits = Waits(at, lambda: scopes and scopes[-1].cancel())
        memory = Memory(Fake(FRAMES), CUTS, waits, SIZE)
        async with client_of(memory) as client, client.chat(HI, on_disconnect="detach") as stream:
            got: list[Frame] = []
            while not got or got[-1].finish_reason is None:
                got.append(await patiently(lambda: anext(stream), scopes))
            assert got == WHOLE, at
            assert await read_all(stream) == []
        assert memory.open == 0
        count = waits.count

    virtually(functools.partial(one, 0))
    for at in range(1, count + 1):
        virtually(functools.partial(one, at))
    assert count >= 30


@pytest.mark.parametrize("read", [0, 1, len(WHOLE)])
def test_left_at_once_or_later_nothing_stays_open(read: int) -> None:
    async def one() -> None:
        memory = Memory(Fake(FRAMES), size=SIZE)
        async with client_of(memory) as client:
            for reader in (client.chat(HI), client.chat(HI, on_disconnect="detach"), client.events("r-1")):
                async with reader as stream:
                    for _ in range(read):
                        await anext(stream)
                assert memory.open == 0
                assert await read_all(stream) == [], "what is left is over"

    virtually(one)


def test_case_64_who_has_given_up_already_sends_nothing() -> None:
    async def one() -> None:
        service = Fake(FRAMES)
        memory = Memory(service)
        async with client_of(memory) as client:
            for ask in asks(client):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await ask()
                assert scope.cancelled_caught
        assert service.requests == []
        assert memory.open == 0

    virtually(one)


def asks(client: Client) -> list[Callable[[], Awaitable[object]]]:
    async def events() -> None:
        async with client.events("r-1"):
            pass

    async def chat() -> None:
        async with client.chat(HI):
            pass

    return [chat, functools.partial(detached, client), events, functools.partial(client.stop, "r-1")]


@pytest.mark.sockets
async def test_case_64_not_even_on_a_connection_that_is_open_already() -> None:
    """There a request would go out without a checkpoint, and start a run that nobody reads."""
    requests: list[bytes] = []

    async def keep_alive(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some():
            requests.append(data)
            await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, keep_alive, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        async with Client(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as client:
            await client.stop("r-1")
            for ask in asks(client):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await ask()
                assert scope.cancelled_caught
            await client.stop("r-2")
        nursery.cancel_scope.cancel()
    assert [data.split(b" ")[1] for data in requests] == [b"/runs/r-1", b"/runs/r-2"]


@pytest.mark.sockets
async def test_cancelled_over_a_real_socket_the_service_sees_the_end() -> None:
    """In mid-stream, and in the middle of an attempt to come back."""
    for cuts in ([Cut(400, How.SILENT)], [Cut(400), Cut(30, How.SILENT)]):
        service = Fake(FRAMES)
        with trio.fail_after(10):
            async with served(service, cuts) as url, Client(url, jitter=lambda: 0.0) as client:
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(detached, client)
                        while len(service.requests) < len(cuts):
                            await trio.testing.wait_all_tasks_blocked(0.001)
                        scope.cancel()
                assert scope.cancelled_caught
                assert client._http._transport.open_connections == 0  # type: ignore[attr-defined]  # TrioTransport
