"""The Trio transport against a raw server on loopback: framing, pooling, cancellation, timeouts, TLS and both SDKs."""

import gc
import gzip
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

import anthropic
import httpx2
import openai
import pytest
import trio
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from sluicegate.providers.connection import MAX_OVERHEAD, ResponseParser, Stage
from sluicegate.providers.transport import TrioTransport
from tests.laws import byte_by_byte, chunkings, splits2

pytestmark = pytest.mark.sockets

CA = trustme.CA()
SERVER_TLS = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
CA.issue_cert("127.0.0.1").configure_cert(SERVER_TLS)
NO_TIMEOUT = httpx2.Timeout(None)
OK = b"HTTP/1.1 200 OK\r\n"
SMALL = OK + b"content-length: 2\r\n\r\nhi"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def client_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name, by our authority alone
    CA.configure_trust(context)
    return context


@dataclass(frozen=True)
class Case:
    """A response, and what a client must make of it."""

    name: str
    sent: bytes
    body: bytes = b""
    status: int = 200
    error: str | None = None  # part of the message of the RemoteProtocolError
    reusable: bool = True
    hangs_up: bool = False
    method: str = "POST"


CASES = [
    Case("content-length", SMALL, b"hi"),
    Case("no body", OK + b"content-length: 0\r\n\r\n"),
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", status=204),
    Case("304", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", status=304),
    Case("error status", b"HTTP/1.1 429 Slow\r\ncontent-length: 3\r\n\r\nno!", b"no!", status=429),
    Case("HEAD", OK + b"content-length: 9\r\n\r\n", method="HEAD", reusable=False),
    Case("HEAD with a body", SMALL, method="HEAD", reusable=False),
    Case("chunked", CHUNKED + b"2\r\nab\r\n3;ext=1\r\ncde\r\n0\r\n\r\n", b"abcde"),
    Case("trailers", CHUNKED + b"1\r\na\r\n0\r\nx-sum: 1\r\nset-cookie: a=b\r\n\r\n", b"a"),
    Case("gzip", OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(gzip.compress(b"hi", mtime=0))
         + gzip.compress(b"hi", mtime=0), b"hi"),
    Case("100", b"HTTP/1.1 100 Continue\r\n\r\n" + SMALL, b"hi"),
    Case("103 twice", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\ncontent-length: 5\r\n\r\n" * 2 + SMALL, b"hi"),
    Case("103, then ends with the connection", b"HTTP/1.1 103 Early\r\ncontent-length: 5\r\n\r\n" + OK + b"\r\nhi",
         b"hi", reusable=False, hangs_up=True),
    Case("101", b"HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc", status=0, error="status 101"),
    Case("status 99", b"HTTP/1.1 099 Odd\r\n\r\n", status=0, error="status 99"),
    Case("connection: close", OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", b"hi", reusable=False),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", b"hi", reusable=False),
    Case("ends with the connection", OK + b"\r\nhi", b"hi", reusable=False, hangs_up=True),
    Case("ends with the connection, empty", OK + b"\r\n", reusable=False, hangs_up=True),
    Case("short body", OK + b"content-length: 9\r\n\r\nhi", b"hi", error="before the end", hangs_up=True),
    Case("short chunk", CHUNKED + b"9\r\nhi", b"hi", error="before the end", hangs_up=True),
    Case("no last chunk", CHUNKED + b"2\r\nhi\r\n", b"hi", error="before the end", hangs_up=True),
    Case("no response", b"", status=0, error="without sending", hangs_up=True),
    Case("half a head", OK + b"x: ", status=0, error="without sending", hangs_up=True),
    Case("garbage behind", SMALL + b"garbage", b"hi", reusable=False),
    Case("second response behind", SMALL + SMALL, b"hi", reusable=False),
    Case("garbage behind close", OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhihi", b"hi", reusable=False),
    Case("garbage behind chunks", CHUNKED + b"2\r\nhi\r\n0\r\n\r\n5\r\n", b"hi", reusable=False),
    Case("not HTTP", b"SSH-2.0-OpenSSH\r\n", status=0, error="not valid"),
    Case("bare LF", b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi", status=0, error="not valid"),
    Case("two lengths", OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi", status=0, error="not valid"),
    Case("length and chunked", CHUNKED[:-2] + b"content-length: 2\r\n\r\n", status=0, error="not valid"),
    Case("other encoding", OK + b"transfer-encoding: gzip\r\n\r\nhi", status=0, error="encoding"),
    Case("two encodings", OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", status=0, error="encoding"),
    Case("bad chunk size", CHUNKED + b"2\r\nhi\r\nzz\r\n", b"hi", error="not valid"),
    Case("huge chunk size", CHUNKED + b"f" * 17 + b"\r\n", error="not valid"),
]  # fmt: skip
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


# The parser alone: no sockets, every cut.


def parse(case: Case, reads: Iterable[bytes]) -> tuple[object, ...]:
    parser = ResponseParser(case.method)
    body, error = b"", None
    try:
        for read in reads:
            parser.feed(read)
            body += parser.take()
        if case.hangs_up:
            parser.eof()
        body += parser.take() + parser.take()
    except httpx2.RemoteProtocolError as exc:
        error = str(exc)
    return parser.status, parser.headers, body, error, parser.stage, parser.reusable


@by_name
def test_parser_does_not_see_how_the_bytes_were_cut(case: Case) -> None:
    whole = parse(case, [case.sent] if case.sent else [])
    for reads in [byte_by_byte(case.sent), *splits2(case.sent)]:
        assert parse(case, reads) == whole, [len(read) for read in reads]
    assert whole[0] == case.status
    assert whole[4:] == ((Stage.COMPLETE, case.reusable) if case.error is None else (whole[4], False))


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.sampled_from([b"", b";x=y"])), max_size=6), st.data())
def test_chunks_are_taken_the_same_by_whatever_way(chunks: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """A read that is one whole chunk behind another does not pass through llhttp."""
    pieces = [b"%x%b\r\n%b\r\n" % (len(body), more, body) for body, more in chunks]
    sent = CHUNKED + b"".join(pieces) + b"0\r\n\r\n"
    borders = [len(CHUNKED + b"".join(pieces[:count])) for count in range(len(pieces) + 1)]
    cuts = sorted(
        {*data.draw(st.sets(st.integers(0, len(sent)), max_size=3)), *data.draw(st.sets(st.sampled_from(borders)))}
    )
    reads = [sent[at:end] for at, end in zip([0, *cuts], [*cuts, len(sent)], strict=True) if at < end]
    case = Case("chunks", sent)
    assert parse(case, reads) == parse(case, [sent])


def test_a_whole_chunk_behind_another_is_not_parsed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    execute = ResponseParser._execute

    def watched(parser: ResponseParser, data: bytes) -> None:
        parsed.append(data)
        execute(parser, data)

    monkeypatch.setattr(ResponseParser, "_execute", watched)
    ordinary = [CHUNKED + b"1\r\na\r\n", b"2;x\r\nbc\r\n", b"1\r\nd\r\n1\r\ne\r\n", b"2\r\nf", b"g\r\n", b"0\r\n\r\n"]
    parser, body = ResponseParser("POST"), b""
    for read in ordinary[:-1]:
        for each in (read, b"00000004\r\n\r\n\r\n\r\n", b"1\r\n0\r\n") if read != b"2\r\nf" else (read,):
            parser.feed(each)
            body += parser.take()
    parser.feed(ordinary[-1])
    assert parsed == ordinary
    assert body == b"".join(piece + b"\r\n\r\n0" for piece in (b"a", b"bc", b"de", b"fg"))
    assert parser.stage is Stage.COMPLETE
    assert parser.reusable


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + SMALL,
        OK + b"content-length: 2\r\n\r\nhi",
        CHUNKED[:-2] + b"X-A: b\r\n\r\n0\r\nset-cookie: a=b\r\n\r\n",
    ],
)
def test_headers_are_those_of_the_final_head(sent: bytes) -> None:
    final = sent[sent.index(OK) + len(OK) :].partition(b"\r\n\r\n")[0]
    headers = parse(Case("", sent), byte_by_byte(sent))[1]
    assert headers == [tuple(line.split(b": ")) for line in final.split(b"\r\n")]


@pytest.mark.parametrize("excess", [0, 1])
@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 1000, MAX_OVERHEAD, 2 * MAX_OVERHEAD])
def test_head_of_exactly_the_limit_is_the_longest(excess: int, interim: bytes, size: int) -> None:
    start, end = interim + OK + b"x: ", b"\r\ncontent-length: 2\r\n\r\n"
    data = start + b"y" * (MAX_OVERHEAD + excess - len(start) - len(end)) + end + b"hi"
    case = Case("long head", data)
    status, _, body, error, _, _ = parse(case, [data[i : i + size] for i in range(0, len(data), size)])
    assert (status, body, bool(error)) == ((0, b"", True) if excess else (200, b"hi", False))
    assert not error or "head" in str(error)
    blind = ResponseParser("POST")
    for i in range(0, len(data), size):
        blind.feed(data[i : i + size])
    assert blind.stage is (Stage.HEAD if excess else Stage.COMPLETE)


@pytest.mark.parametrize("endless", [b"x: y\r\n", b"x" * 100])
def test_endless_trailers_are_refused(endless: bytes) -> None:
    fed = 0
    parser = ResponseParser("POST")
    parser.feed(CHUNKED + b"1\r\na\r\n0\r\n")
    assert parser.take() == b"a"
    while fed + len(endless) <= MAX_OVERHEAD - len(b"\r\n0\r\n"):
        parser.feed(endless)
        assert parser.take() == b""
        fed += len(endless)
    parser.feed(endless)
    parser.feed(endless)
    with pytest.raises(httpx2.RemoteProtocolError, match="trailers"):
        parser.take()


def test_nothing_comes_out_behind_a_failure() -> None:
    parser = ResponseParser("POST")
    for read in (CHUNKED + b"1;", b"x" * MAX_OVERHEAD, b"x", b"\r\na\r\n0\r\n\r\n"):
        parser.feed(read)
    for _ in range(2):
        with pytest.raises(httpx2.RemoteProtocolError, match="framing"):
            parser.take()
    assert parser.stage is Stage.BODY


def test_many_small_chunks_are_no_overhead() -> None:
    parser = ResponseParser("POST")
    parser.feed(CHUNKED)
    for _ in range(MAX_OVERHEAD // 8):
        for piece in (b"00001;ext=abcdef\r\n", b"a", b"\r\n"):
            parser.feed(piece)
            parser.take()
    assert not parser.reusable


# A server on a real socket.


@dataclass
class Peer:
    """The server's side of one connection."""

    stream: trio.abc.Stream
    unread: bytes = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def request(self) -> tuple[bytes, bytes] | None:
        """Returns head and body of the next request, None at the end of the connection."""
        while b"\r\n\r\n" not in self.unread:
            if not await self._more():
                return None
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            while not self.unread.endswith(b"0\r\n\r\n"):
                if not await self._more():
                    return None
            body, self.unread = self.unread, b""
            return head, body
        length = 0
        if b"content-length: " in lowered:
            length = int(lowered.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(self.unread) < length:
            if not await self._more():
                return None
        body, self.unread = self.unread[:length], self.unread[length:]
        return head, body

    async def ended(self) -> None:
        """Waits for the client to close."""
        while await self._more():
            pass

    async def _more(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:  # a reset, or TLS without goodbye
            data = b""
        self.unread += data
        return bool(data)


Handler = Callable[[Peer], Awaitable[None]]


@dataclass
class Server:
    """Serves `handler` while `use` runs, then stops; counts the connections and those still open."""

    handler: Handler
    tls: bool = False
    accepted: int = 0
    alive: int = 0
    most_alive: int = 0

    async def run(self, use: Callable[[str], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)
            await use(f"{'https' if self.tls else 'http'}://127.0.0.1:{port}/")
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.accepted += 1
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        try:
            if self.tls:
                await self.handler(Peer(trio.SSLStream(stream, SERVER_TLS, server_side=True)))
            else:
                await self.handler(Peer(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            stream.socket.close()
            self.alive -= 1


def answer(*writes: bytes, hangs_up: bool = False) -> Handler:
    """Answers each request with `writes`, each of them a read of its own for the client."""

    async def handler(peer: Peer) -> None:
        while await peer.request():
            for data in writes:
                await peer.send(data)
                await wait_all_tasks_blocked()
            if hangs_up:
                if isinstance(peer.stream, trio.SSLStream):
                    await peer.stream.unwrap()
                return

    return handler


def transport_for(server: Server, **options: float) -> TrioTransport:
    return TrioTransport(ssl_context=client_tls() if server.tls else None, **options)  # type: ignore[arg-type]


def run(main: Callable[[], Awaitable[None]], clock: MockClock | None = None) -> None:
    """A Trio run of its own, after which nothing may be left: no watch task, no socket for the collector to find."""

    async def bounded() -> None:
        with trio.fail_after(60 if clock is None else math.inf):
            await main()
        await wait_all_tasks_blocked()
        assert not watching()

    trio.run(bounded, clock=clock)
    gc.collect(1)


def watching() -> bool:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return any("_keep_watch" in task.name for nursery in root.child_nurseries for task in nursery.child_tasks)


def exchange(case: Case, reads: list[bytes], *, tls: bool) -> None:
    async def main() -> None:
        server = Server(answer(*reads, hangs_up=case.hangs_up), tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                for turn in (1, 2):
                    got, status, error = b"", 0, None
                    try:
                        async with client.stream(case.method, url, content=b"{}") as response:
                            status = response.status_code
                            async for data in response.aiter_bytes():
                                got += data
                    except httpx2.RemoteProtocolError as exc:
                        error = str(exc)
                    assert got == case.body
                    assert bool(error) == bool(case.error)
                    assert (case.error or "") in (error or "")
                    assert status == case.status
                    reusable = case.reusable and case.error is None
                    assert (transport.open_connections, transport.idle_connections) == (reusable, reusable)
                    assert server.accepted == (1 if reusable else turn)

        await server.run(use)

    run(main)


@by_name
@plain_and_tls
def test_response_whole(case: Case, tls: bool) -> None:
    exchange(case, [case.sent], tls=tls)


# Bytes behind a complete response are left out here: they come while the connection is idle, or too late to be told
# from an answer to the next request.
CUT = [case for case in CASES if "behind" not in case.name]


@pytest.mark.parametrize("case", CUT, ids=lambda case: case.name.replace(" ", "-"))
def test_response_byte_by_byte(case: Case) -> None:
    exchange(case, byte_by_byte(case.sent), tls=False)


@plain_and_tls
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_response_in_random_reads(tls: bool, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CUT))
    exchange(case, [read for read in data.draw(chunkings(case.sent)) if read], tls=tls)


@plain_and_tls
def test_an_item_is_all_that_one_read_brought(tls: bool) -> None:
    writes = [
        CHUNKED + b"1\r\na\r\n",
        b"1\r\nb\r\n2\r\ncc\r\n",
        b"5\r\nd",
        b"dd",
        b"dd\r\n3\r\neee\r\n0\r\n\r\n",
    ]

    async def main() -> None:
        server = Server(answer(*writes), tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with (
                httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client,
                client.stream("POST", url) as response,
            ):
                assert [item async for item in response.aiter_raw()] == [b"a", b"bcc", b"d", b"dd", b"ddeee"]

        await server.run(use)

    run(main)


@plain_and_tls
def test_a_large_body_arrives_whole_in_both_directions(tls: bool) -> None:
    blob = bytes(range(256)) * 8192

    async def echo(peer: Peer) -> None:
        while request := await peer.request():
            await peer.send(OK + b"content-length: %d\r\n\r\n" % len(request[1]) + request[1])

    async def main() -> None:
        server = Server(echo, tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                for _ in range(2):
                    assert (await client.post(url, content=blob)).content == blob
                assert server.accepted == 1

        await server.run(use)

    run(main)


# Requests


class Parts:
    """A request body from an async iterable, which must be closed whatever happens."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = parts
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for part in self.parts:
                await trio.lowlevel.checkpoint()
                yield part
        finally:
            self.closed += 1


def test_request_bodies_arrive_as_given() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def handler(peer: Peer) -> None:
        while request := await peer.request():
            seen.append(request)
            await peer.send(SMALL)

    async def main() -> None:
        transport = TrioTransport()

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                await client.post(url + "path?q=a%20b", content=b'{"a": 1}', headers={"x-key": "k"})
                await client.post(url, content=Parts(b"ab", b"", b"cde"))
                await client.post(url, content=Parts(b"ab", b"c"), headers={"content-length": "3"})
                await client.get(url)

        await Server(handler).run(use)

    run(main)
    assert seen[0][0].startswith(b"POST /path?q=a%20b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nx-key: k" in seen[0][0]
    assert [body for _, body in seen] == [b'{"a": 1}', b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", b"abc", b""]


@pytest.mark.parametrize("length", [1, 4])
def test_a_body_of_another_length_than_announced_is_our_fault(length: int) -> None:
    seen = b""

    async def handler(peer: Peer) -> None:
        nonlocal seen
        await peer.ended()
        seen = peer.unread

    async def main() -> None:
        transport, body = TrioTransport(), Parts(b"ab", b"c")

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                with pytest.raises(httpx2.LocalProtocolError, match="content-length"):
                    await client.post(url, content=body, headers={"content-length": str(length)})
                assert (transport.open_connections, body.closed) == (0, 1)
                await wait_all_tasks_blocked(0.01)
                assert seen.partition(b"\r\n\r\n")[2] == (b"" if length == 1 else b"abc")

        await Server(handler).run(use)

    run(main)


@pytest.mark.parametrize("header", [("x-key", b"a\r\nx: b"), ("x-key", b"a\nb"), ("x-key", b"a\0"), ("x y", b"a")])
def test_headers_that_break_the_framing_are_never_sent(header: tuple[str, bytes]) -> None:
    async def main() -> None:
        server = Server(answer(SMALL))
        request = httpx2.Request("POST", "http://127.0.0.1:1/", headers=[(header[0].encode(), header[1])])
        with pytest.raises(httpx2.LocalProtocolError, match="illegal header") as caught:
            await TrioTransport().handle_async_request(request)
        assert "b" not in str(caught.value).removeprefix("the request has an illegal header b")
        assert not server.accepted

    run(main)


def test_an_answer_given_before_the_request_was_read_is_seen() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        assert isinstance(peer.stream, trio.SocketStream)
        await peer.stream.send_eof()
        for _ in range(4):
            await peer.stream.receive_some(1000)

    async def main() -> None:
        transport = TrioTransport()

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                response = await client.post(url, content=b"x" * 30_000_000)
                assert (response.status_code, response.content) == (413, b"no")
                assert not transport.open_connections

        await Server(refuse).run(use)

    run(main)


# The pool


def test_requests_take_turns_on_one_connection() -> None:
    async def main() -> None:
        transport = TrioTransport()
        server = Server(answer(SMALL))

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                for _ in range(10):
                    assert (await client.get(url)).text == "hi"
                assert (server.accepted, transport.open_connections) == (1, 1)
                assert watching()
            assert transport.open_connections == 0

        await server.run(use)

    run(main)


def test_the_cap_holds_and_everybody_gets_a_turn() -> None:
    async def main() -> None:
        transport = TrioTransport(max_connections=2)
        server = Server(answer(OK + b"content-length: 2\r\n\r\n", b"h", b"i"))
        served: list[int] = []

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:

                async def one(number: int) -> None:
                    assert (await client.get(url)).text == "hi"
                    served.append(number)

                async with trio.open_nursery() as nursery:
                    for number in range(9):
                        nursery.start_soon(one, number)
                assert sorted(served) == list(range(9))
                assert (server.most_alive, server.accepted, transport.idle_connections) == (2, 2, 2)

        await server.run(use)

    run(main)


def test_a_request_beyond_the_cap_gives_up_after_the_pool_timeout() -> None:
    async def main() -> None:
        transport = TrioTransport(max_connections=1)
        server = Server(answer(OK + b"content-length: 9\r\n\r\nhi"))

        async def use(url: str) -> None:
            limits = httpx2.Timeout(None, pool=7)
            async with httpx2.AsyncClient(transport=transport, timeout=limits) as client:
                async with client.stream("GET", url):
                    before = trio.current_time()
                    with pytest.raises(httpx2.PoolTimeout):
                        await client.get(url)
                    assert trio.current_time() - before == pytest.approx(7)
                assert transport.open_connections == 0
                async with client.stream("GET", url) as response:
                    assert response.status_code == 200

        await server.run(use)

    run(main, MockClock(autojump_threshold=0))


def test_an_idle_connection_is_closed_in_time_and_the_watch_ends() -> None:
    async def main() -> None:
        transport = TrioTransport(keepalive_seconds=30)
        server = Server(answer(SMALL))

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                await client.get(url)
                await trio.sleep(29)
                await client.get(url)
                await trio.sleep(29)
                assert (server.accepted, server.alive, transport.idle_connections, watching()) == (1, 1, 1, True)
                await trio.sleep(2)
                assert (server.accepted, server.alive, transport.open_connections, watching()) == (1, 0, 0, False)
                await client.get(url)
                assert (server.accepted, watching()) == (2, True)

        await server.run(use)

    run(main, MockClock(autojump_threshold=0))


@plain_and_tls
@pytest.mark.parametrize("unasked", [b"", b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"])
def test_a_stale_connection_is_never_used(unasked: bytes, tls: bool) -> None:
    """The server hangs up, or says something that nobody asked for, while the connection is idle."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(SMALL)
        await wait_all_tasks_blocked()
        if unasked:
            await peer.send(unasked)
            await peer.ended()

    async def main() -> None:
        server = Server(handler, tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                for turn in range(1, 4):
                    response = await client.post(url, content=b"{}")
                    assert (response.status_code, response.text, server.accepted) == (200, "hi", turn)
                    await wait_all_tasks_blocked(0.01)

        await server.run(use)

    run(main)


# Closing and cancelling


@plain_and_tls
def test_closing_an_unread_body_closes_the_socket_before_anything_else_runs(tls: bool) -> None:
    gone = trio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"content-length: 9\r\n\r\nhi")
        await peer.ended()
        gone.set()

    async def main() -> None:
        server = Server(handler, tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                response = await client.send(client.build_request("GET", url), stream=True)
                assert transport.open_connections == 1
                with trio.CancelScope() as cancelled:
                    cancelled.cancel()
                    await response.aclose()
                assert transport.open_connections == 0
                await gone.wait()

        await server.run(use)

    run(main)


def test_a_response_complete_on_the_wire_gives_its_connection_back_unread() -> None:
    async def main() -> None:
        transport = TrioTransport(max_connections=1)

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                async with client.stream("GET", url):
                    assert (await client.get(url)).text == "hi"
                assert transport.idle_connections == 1
                assert (await client.get(url)).text == "hi"
                async with client.stream("GET", url) as response, aclosing(response.aiter_bytes()) as items:
                    assert await anext(items) == b"hi"

        server = Server(answer(SMALL))
        await server.run(use)
        assert server.accepted == 1

    run(main)


def test_reading_on_after_the_last_event_keeps_the_connection() -> None:
    async def main() -> None:
        transport = TrioTransport()
        server = Server(answer(CHUNKED + b"e\r\ndata: [DONE]\n\n\r\n", b"0\r\n\r\n"))

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                for _ in range(3):
                    async with client.stream("GET", url) as response:
                        async for item in response.aiter_bytes():
                            assert item == b"data: [DONE]\n\n"
                assert (server.accepted, transport.idle_connections) == (1, 1)

        await server.run(use)

    run(main)


@plain_and_tls
def test_closing_the_transport_ends_everything(tls: bool) -> None:
    async def handler(peer: Peer) -> None:
        while request := await peer.request():
            if b"/idle" in request[0]:
                await peer.send(SMALL)
            elif b"/body" in request[0]:
                await peer.send(CHUNKED + b"1\r\na\r\n")

    async def main() -> None:
        server = Server(handler, tls)
        transport = transport_for(server)
        errors: list[BaseException] = []

        async def use(url: str) -> None:
            client = httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT)

            async def one(path: str) -> None:
                try:
                    await client.get(url + path)
                except httpx2.ReadError as exc:
                    errors.append(exc)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(one, "head")
                nursery.start_soon(one, "body")
                await one("idle")
                held = await client.send(client.build_request("GET", url + "body"), stream=True)
                await wait_all_tasks_blocked(0.01)
                assert (transport.open_connections, server.alive, errors) == (3, 3, [])
                await transport.aclose()
                assert transport.open_connections == 0
                await wait_all_tasks_blocked(0.01)
                assert (len(errors), server.alive, watching()) == (2, 0, False)
                with pytest.raises(httpx2.ReadError):
                    await held.aread()
                with pytest.raises(RuntimeError, match="closed"):
                    await client.get(url)
                await held.aclose()
                await client.aclose()
            assert transport.open_connections == 0

        await server.run(use)

    run(main)


def test_a_forgotten_transport_is_closed_by_the_end_of_the_run() -> None:
    async def main() -> None:
        async def use(url: str) -> None:
            transport = TrioTransport()
            client = httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT)
            await client.get(url)
            kept.append(transport)

        await Server(answer(SMALL)).run(use)

    kept: list[TrioTransport] = []
    trio.run(main)
    assert kept.pop().open_connections == 0
    gc.collect()  # an open socket would warn here


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` when `task` has run `step` steps, so at each of its awaits in turn."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self.left = step
        self.scope = scope
        self.task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


@plain_and_tls
def test_cancelled_at_any_await_it_leaves_nothing_behind(tls: bool) -> None:
    async def handler(peer: Peer) -> None:
        while await peer.request():
            for write in (b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED, b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n"):
                await wait_all_tasks_blocked()
                await peer.send(write)

    async def main() -> None:
        server = Server(handler, tls)
        transport = transport_for(server, max_connections=1)
        open_after: list[int] = []

        async def use(url: str) -> None:
            client = httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT)
            for step in range(1, 100):
                request = client.build_request("POST", url, content=Parts(b"ab", b"c"))
                with trio.CancelScope() as scope:
                    instrument = CancelAtStep(step, scope)
                    trio.lowlevel.add_instrument(instrument)
                    # No client in between and nobody who closes the response: the transport does it by itself.
                    response = await transport.handle_async_request(request)
                    assert isinstance(response.stream, httpx2.AsyncByteStream)
                    async for _ in response.stream:
                        pass
                trio.lowlevel.remove_instrument(instrument)
                # The slot is free at once, in the same step: a connection is idle and whole, or it is closed.
                assert transport.open_connections == transport.idle_connections
                open_after.append(transport.open_connections)
                await wait_all_tasks_blocked(0.005)
                assert server.alive == transport.open_connections
                if not scope.cancelled_caught:
                    break
                assert (await client.post(url, content=b"{}")).content == b"ab"
                if step % 2:  # from a new connection, and from a pooled one
                    for pool in transport._pools.values():
                        pool.idle.pop()[1].close()
                    await wait_all_tasks_blocked(0.005)
            await client.aclose()

        await server.run(use)
        assert len(open_after) > 8
        assert open_after[-1] == 1

    run(main)


# Timeouts, on a mock clock: only the deadline under test exists, so it alone can let the clock jump.


@dataclass(frozen=True)
class Overdue:
    limits: dict[str, float]
    error: type[httpx2.TimeoutException]
    writes: tuple[bytes, ...] = ()
    content: bytes = b""


@plain_and_tls
@pytest.mark.parametrize(
    "overdue",
    [
        Overdue({"read": 5}, httpx2.ReadTimeout),
        Overdue({"read": 5}, httpx2.ReadTimeout, (OK, b"x: y\r\n")),
        Overdue({"read": 5}, httpx2.ReadTimeout, (CHUNKED, b"1\r\na\r\n")),
        Overdue({"write": 5}, httpx2.WriteTimeout, content=b"x" * 30_000_000),
    ],
    ids=["head", "half-a-head", "body", "write"],
)
def test_a_silent_server_is_given_up_in_time(overdue: Overdue, tls: bool) -> None:
    async def handler(peer: Peer) -> None:
        if isinstance(peer.stream, trio.SSLStream):
            await peer.stream.do_handshake()
        for write in overdue.writes:
            await trio.sleep(4)
            await peer.send(write)
        await trio.sleep_forever()

    async def main() -> None:
        server = Server(handler, tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            limits = httpx2.Timeout(**{"connect": None, "read": None, "write": None, "pool": None, **overdue.limits})
            async with httpx2.AsyncClient(transport=transport, timeout=limits) as client:
                before = trio.current_time()
                with pytest.raises(overdue.error):
                    await client.post(url, content=overdue.content)
                assert trio.current_time() - before == pytest.approx(4 * len(overdue.writes) + 5)
                assert transport.open_connections == 0

        await server.run(use)

    run(main, MockClock(autojump_threshold=0))


async def never_answer(peer: Peer) -> None:
    await trio.sleep_forever()


def test_connecting_is_given_up_in_time_with_the_handshake() -> None:
    async def main() -> None:
        server = Server(never_answer)
        transport = TrioTransport(ssl_context=client_tls())

        async def use(url: str) -> None:
            limits = httpx2.Timeout(None, connect=5)
            async with httpx2.AsyncClient(transport=transport, timeout=limits) as client:
                before = trio.current_time()
                with pytest.raises(httpx2.ConnectTimeout):
                    await client.get(url.replace("http", "https"))
                assert trio.current_time() - before == pytest.approx(5)
                assert (server.accepted, transport.open_connections) == (1, 0)

        await server.run(use)

    run(main, MockClock(autojump_threshold=0))


def test_only_waiting_for_the_server_counts_as_waiting() -> None:
    """Ten pieces four seconds apart, then silence, to a client that thinks for a minute, under a limit of five."""

    async def handler(peer: Peer) -> None:
        while await peer.request():
            await peer.send(CHUNKED)
            for _ in range(10):
                await trio.sleep(4)
                await peer.send(b"1\r\na\r\n")

    async def main() -> None:
        transport = TrioTransport()
        got = 0

        async def use(url: str) -> None:
            nonlocal got
            limits = httpx2.Timeout(None, read=5)
            async with httpx2.AsyncClient(transport=transport, timeout=limits) as client:
                for pause in (0, 60):
                    waiting_since = math.nan
                    async with client.stream("GET", url) as response:
                        with pytest.raises(httpx2.ReadTimeout):  # noqa: PT012
                            async for item in response.aiter_raw():
                                got += len(item)
                                await trio.sleep(pause)
                                waiting_since = trio.current_time()
                        assert trio.current_time() - waiting_since == pytest.approx(5)

        await Server(handler).run(use)
        assert got == 20

    run(main, MockClock(autojump_threshold=0))


# Connections that cannot be made


def test_nobody_there_is_a_connect_error() -> None:
    async def main() -> None:
        with trio.socket.socket() as unused:
            await unused.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can take the port
            async with httpx2.AsyncClient(transport=TrioTransport(), timeout=NO_TIMEOUT) as client:
                with pytest.raises(httpx2.ConnectError):
                    await client.get(f"http://127.0.0.1:{unused.getsockname()[1]}/")
                with pytest.raises(httpx2.UnsupportedProtocol):
                    await client.get("ftp://127.0.0.1/")

    run(main)


def test_a_certificate_must_verify() -> None:
    async def main() -> None:
        server = Server(answer(SMALL), tls=True)

        async def use(url: str) -> None:
            for context, address in (
                (None, url),  # httpx2's own default does not know our authority
                (client_tls(), url.replace("127.0.0.1", "localhost")),
            ):
                transport = TrioTransport(ssl_context=context)
                async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                    with pytest.raises(httpx2.ConnectError, match="certificate verify failed"):
                        await client.get(address)
                    assert transport.open_connections == 0

        await server.run(use)

    run(main)


def test_tls_cut_without_goodbye_does_not_end_a_body() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"\r\nhalf")

    async def main() -> None:
        server = Server(handler, tls=True)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with httpx2.AsyncClient(transport=transport, timeout=NO_TIMEOUT) as client:
                with pytest.raises(httpx2.RemoteProtocolError, match="close_notify"):
                    await client.get(url)

        await server.run(use)

    run(main)


# Under the official SDKs

EVENT = b'data: {"n": 1}\n\n'
HEAD = OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SDK = openai.AsyncOpenAI | anthropic.AsyncAnthropic


def sdk(name: str, url: str, transport: TrioTransport) -> SDK:
    http_client = httpx2.AsyncClient(transport=transport)
    if name == "openai":
        return openai.AsyncOpenAI(base_url=url, api_key="k", http_client=http_client)
    return anthropic.AsyncAnthropic(base_url=url, api_key="k", http_client=http_client)


async def post(client: SDK) -> httpx2.Response:
    return await client.post(
        "/v1/x",
        cast_to=httpx2.Response,
        stream=True,
        content=b"{}",
        options={"headers": {"content-type": "application/json"}},
    )


both_sdks = pytest.mark.parametrize("name", ["openai", "anthropic"])


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@both_sdks
@plain_and_tls
def test_an_sdk_streams_and_its_connection_returns(name: str, tls: bool) -> None:
    async def main() -> None:
        server = Server(answer(HEAD, framed(EVENT), framed(EVENT * 2), framed(b"data: [DONE]\n\n"), b"0\r\n\r\n"), tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with sdk(name, url, transport) as client:
                for _ in range(2):
                    response = await post(client)
                    items = [item async for item in response.aiter_bytes()]
                    assert items == [EVENT, EVENT * 2, b"data: [DONE]\n\n"]
                    assert (server.accepted, transport.idle_connections) == (1, 1)
            assert transport.open_connections == 0

        await server.run(use)

    run(main)


@both_sdks
@plain_and_tls
def test_an_sdk_cancelled_in_mid_stream_closes_upstream(name: str, tls: bool) -> None:
    gone = trio.Event()

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + framed(EVENT))
        await peer.ended()
        gone.set()

    async def main() -> None:
        server = Server(handler, tls)
        transport = transport_for(server)

        async def use(url: str) -> None:
            async with sdk(name, url, transport) as client:
                with trio.CancelScope() as scope:
                    response = await post(client)
                    async with aclosing(response.aiter_bytes()) as items:
                        async for item in items:
                            assert item == EVENT
                            scope.cancel()
                assert scope.cancelled_caught
                assert transport.open_connections == 0
                await gone.wait()

        await server.run(use)

    run(main)


@both_sdks
@pytest.mark.parametrize("fault", [b"", b"HTTP/1.1 200", b"nonsense\r\n\r\n", b"HTTP/1.1 503 Busy\r\n"])
def test_an_sdk_tries_again_after_a_fault_before_the_response(name: str, fault: bytes) -> None:
    """One good answer, then on the kept-alive connection the fault, then a good one on a new connection."""
    turns = 0

    async def handler(peer: Peer) -> None:
        nonlocal turns
        while await peer.request():
            turns += 1
            if turns == 2:
                await peer.send(fault)
                if fault.startswith(b"HTTP/1.1 503"):
                    await peer.send(b"content-length: 2\r\n\r\nno")
                    continue
                return
            await peer.send(HEAD + framed(EVENT) + b"0\r\n\r\n")

    async def main() -> None:
        server = Server(handler)
        transport = TrioTransport()

        async def use(url: str) -> None:
            async with sdk(name, url, transport) as client:
                for _ in range(2):
                    response = await post(client)
                    assert await response.aread() == EVENT
                # The refusal was complete on the wire, so the second try found its connection in the pool.
                assert server.accepted == (1 if b"503" in fault else 2)
                assert turns == 3

        await server.run(use)

    run(main, MockClock(autojump_threshold=0.02))


def test_an_sdk_gives_its_own_error_when_nobody_is_there() -> None:
    async def main() -> None:
        transport = TrioTransport()
        with trio.socket.socket() as unused:
            await unused.bind(("127.0.0.1", 0))
            async with sdk("openai", f"http://127.0.0.1:{unused.getsockname()[1]}/", transport) as client:
                with pytest.raises(openai.APIConnectionError):
                    await post(client)
        assert transport.open_connections == 0

    run(main, MockClock(autojump_threshold=0.02))
