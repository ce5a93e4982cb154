"""The stock transport by itself: what it makes of responses, how it keeps connections, and its limits."""

import httpx2
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sluicegate.providers.proxies import Proxies
from sluicegate.providers.stock import StockTransport
from tests.laws import byte_by_byte
from tests.test_transport import (
    CASES,
    CHUNKED,
    CUT,
    NO_TIMEOUT,
    SMALL,
    Case,
    Peer,
    Server,
    answer,
    client_tls,
    never_answer,
    plain_and_tls,
    run,
)

pytestmark = pytest.mark.sockets


def transport_for(server: Server, max_connections: int = 1000, keepalive_seconds: float = 30) -> StockTransport:
    return StockTransport(
        Proxies({}),
        http2=False,
        ssl_context=client_tls() if server.tls else None,
        max_connections=max_connections,
        keepalive_seconds=keepalive_seconds,
    )


def exchange(case: Case, reads: list[bytes], *, tls: bool) -> tuple[object, ...]:
    """What a client makes of `case`, twice in a row, and how many connections that took."""
    seen: list[object] = []

    async def main() -> None:
        server = Server(answer(*reads, hangs_up=case.hangs_up), tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                for _ in range(2):
                    got, status = b"", 0
                    try:
                        async with client.stream(case.method, url, content=b"{}") as response:
                            status = response.status_code
                            async for data in response.aiter_bytes():
                                got += data
                    except httpx2.RemoteProtocolError:
                        seen.append("error")
                    seen.extend((got, status, transport.open_connections, transport.idle_connections))
                seen.append(server.accepted)

        await server.run(use)
        assert transport.open_connections == 0

    run(main)
    return tuple(seen)


# Bytes behind a response, and bodies of HEAD, h11 takes for the next response; it waits for more of what is not HTTP.
TAKEN = [case for case in CUT if case.error is None and case.method == "POST"]
REFUSED = [case for case in CASES if case.error is not None and (case.hangs_up or case.name in ("101", "two lengths"))]


def expected(case: Case) -> tuple[object, ...]:
    kept = case.reusable and case.error is None
    one = (*(("error",) if case.error else ()), case.body, case.status, kept, kept)
    return (*one, *one, 1 if kept else 2)


each_case = pytest.mark.parametrize("case", TAKEN + REFUSED, ids=lambda case: case.name.replace(" ", "-"))


@each_case
def test_a_response_is_what_our_own_transport_makes_of_it(case: Case) -> None:
    assert exchange(case, [case.sent], tls=False) == expected(case)
    assert exchange(case, byte_by_byte(case.sent), tls=False) == expected(case)


@each_case
def test_a_response_is_the_same_over_tls(case: Case) -> None:
    assert exchange(case, [case.sent], tls=True) == expected(case)


def test_a_connection_that_was_idle_too_long_is_not_used_again() -> None:
    async def main() -> None:
        server = Server(answer(SMALL))
        transport = transport_for(server, keepalive_seconds=30)

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                for idle, accepted in ((0, 1), (29, 1), (29, 1), (30, 2), (0, 2)):
                    clock.jump(idle)
                    assert (await client.get(url)).content == b"hi"
                    assert (server.accepted, transport.open_connections) == (accepted, 1)
                await wait_all_tasks_blocked(0.01)
                assert server.alive == 1

        await server.run(use)

    clock = MockClock()
    run(main, clock)


def test_a_connection_beyond_the_limit_waits_for_one_that_becomes_free() -> None:
    async def main() -> None:
        server = Server(answer(CHUNKED + b"1\r\na\r\n"))  # and never ends
        transport = transport_for(server, max_connections=2)

        async def use(url: str) -> None:
            limits = httpx2.Timeout(None, pool=5)
            async with httpx2.AsyncClient(transport=transport, timeout=limits) as client:
                held = [await client.send(client.build_request("GET", url), stream=True) for _ in range(2)]
                before = trio.current_time()
                with pytest.raises(httpx2.PoolTimeout, match="within 5 s"):
                    await client.get(url)
                assert trio.current_time() - before == pytest.approx(5)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(held[0].aclose)
                    third = await client.send(client.build_request("GET", url), stream=True)
                assert (server.accepted, server.most_alive, transport.open_connections) == (3, 2, 2)
                await third.aclose()
                await held[1].aclose()

        await server.run(use)

    run(main, MockClock(autojump_threshold=0))


@plain_and_tls
def test_a_response_that_was_closed_is_no_shorter_one(tls: bool) -> None:
    async def main() -> None:
        server = Server(answer(CHUNKED + b"1\r\na\r\n"), tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            request = httpx2.Request("GET", url)
            response = await transport.handle_async_request(request)
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            pieces = aiter(response.stream)
            assert await anext(pieces) == b"a"
            await response.stream.aclose()
            assert transport.open_connections == 0
            with pytest.raises(httpx2.StreamClosed):
                await anext(pieces)

        await server.run(use)

    run(main)


@plain_and_tls
def test_closed_it_ends_requests_in_every_phase(tls: bool) -> None:
    async def handler(peer: Peer) -> None:
        while request := await peer.request():
            path = request[0].split()[1]
            await peer.send(b"" if path == b"/head" else SMALL if path == b"/idle" else CHUNKED + b"1\r\na\r\n")

    async def main() -> None:
        server, silent = Server(handler, tls), Server(Peer.ended)
        transport = StockTransport(Proxies({}), http2=True, ssl_context=client_tls())
        errors: list[httpx2.HTTPError] = []

        async def use(url: str) -> None:
            async def one(target: str) -> None:
                try:
                    await client.get(target)
                except httpx2.HTTPError as error:
                    errors.append(error)

            async def meanwhile(silent_url: str) -> None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(one, url + "head")
                    nursery.start_soon(one, url + "body")
                    nursery.start_soon(one, silent_url.replace("http", "https"))  # in the handshake
                    await one(url + "idle")
                    await wait_all_tasks_blocked(0.01)
                    assert (transport.open_connections, server.alive, silent.alive, errors) == (4, 3, 1, [])
                    await transport.aclose()
                    await wait_all_tasks_blocked(0.01)
                    assert (len(errors), server.alive, silent.alive) == (3, 0, 0)

            client = httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT)
            await silent.run(meanwhile)
            assert [type(error) for error in errors] == [httpx2.ReadError] * 3
            assert transport.open_connections == 0
            with pytest.raises(RuntimeError, match="closed"):
                await client.get(url)
            await client.aclose()

        await server.run(use)

    run(main)


def test_a_silent_server_is_given_up_in_time() -> None:
    async def main() -> None:
        server = Server(never_answer)

        async def use(url: str) -> None:
            for target, limits, error in (
                (url, httpx2.Timeout(None, read=5), httpx2.ReadTimeout),
                (url.replace("http", "https"), httpx2.Timeout(None, connect=5), httpx2.ConnectTimeout),
            ):
                transport = StockTransport(Proxies({}), http2=True, ssl_context=client_tls())
                async with httpx2.AsyncClient(transport=transport, timeout=limits) as client:
                    before = trio.current_time()
                    with pytest.raises(error):
                        await client.get(target)
                    assert trio.current_time() - before == pytest.approx(5)
                    assert transport.open_connections == 0

        await server.run(use)

    run(main, MockClock(autojump_threshold=0))
