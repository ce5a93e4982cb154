"""From a client's close to the upstream's: `python -m tests.benchmarks.drops --streams 64 --rate 10 --drops 1000`.

With `--http2` the clients speak HTTP/2.

Three processes on loopback: a provider that paces tokens, `sluicegate serve`, and the clients here. So many streams
are kept open; one of them, drawn at random, is dropped and replaced. Both ends are timed with CLOCK_MONOTONIC.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from functools import partial

import trio

from sluicegate.machine.deltas import Started, TextDelta
from sluicegate.wire.downstream.openai_chat import ChatEncoder
from tests.benchmarks.links import Http1Link, Http2Link, Link, Lost
from tests.benchmarks.processes import line, process, serving

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PATIENCE = 10.0  # seconds until a drop that the provider has not seen counts as lost


def main() -> int:
    """Run the benchmark; 1 if a drop was never seen."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.drops")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rate", type=float, default=10.0, help="tokens per second of each stream")
    parser.add_argument("--drops", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--http2", action="store_true", help="the clients speak HTTP/2")
    parser.add_argument("--provider", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.provider:
        trio.run(_provide, 1 / options.rate)
        return 0
    me = [sys.executable, "-m", "tests.benchmarks.drops", "--provider", "--rate", str(options.rate)]
    with process(me) as provider, serving(int(line(provider))) as (_, port):
        clients = Clients(port, random.Random(options.seed), options.http2)
        trio.run(clients.run, options.streams, options.drops, provider)
    return _report(clients, options)


def _report(clients: "Clients", options: argparse.Namespace) -> int:
    took = sorted((seen - clients.dropped[drop]) * 1e3 for drop, seen in clients.seen.items())
    lost = len(clients.dropped) - len(took)

    def at(share: float) -> float:
        return round(took[min(len(took) - 1, int(share * len(took)))], 2)

    figures = {
        "http": 2 if options.http2 else 1.1,
        "streams": options.streams, "rate": options.rate, "drops": len(took), "lost": lost,
        "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": at(1.0),
        "load": os.getloadavg()[0],
    }  # fmt: skip
    print(json.dumps(figures))
    print(
        f"{len(took)} drops over HTTP/{figures['http']} at {options.streams} streams of {options.rate:g} tokens/s: "
        f"close of the client to close of the upstream p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms, max "
        f"{figures['max_ms']} ms; {lost} lost"
    )
    return 1 if lost else 0


class Clients:
    """Keeps streams open; `dropped` and `seen` are the times of a drop at both ends, by its number."""

    def __init__(self, port: int, rng: random.Random, http2: bool) -> None:
        self.dropped: dict[int, float] = {}
        self.seen: dict[int, float] = {}
        self._port = port
        self._rng = rng
        self._link = Http2Link if http2 else Http1Link
        self._next = 0
        self._open: dict[int, Link] = {}

    async def run(self, streams: int, drops: int, provider: "subprocess.Popen[str]") -> None:
        assert provider.stdout is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, trio.lowlevel.FdStream(os.dup(provider.stdout.fileno())))
            for _ in range(streams):
                await self._start(nursery)
            for _ in range(drops):
                number = self._rng.choice(list(self._open))
                link = self._open.pop(number)
                # Drops fall anywhere between two tokens.
                await trio.sleep(self._rng.uniform(0, 0.02))
                self.dropped[number] = time.monotonic()
                await link.leave("fin")
                await self._start(nursery)
            with trio.move_on_after(PATIENCE):
                while len(self.seen) < len(self.dropped):  # noqa: ASYNC110  # the figures come from another process
                    await trio.sleep(0.05)
            for link in self._open.values():
                await link.leave("fin")
            nursery.cancel_scope.cancel()

    async def _start(self, nursery: trio.Nursery) -> None:
        """Open a stream and wait for its first token."""
        number, self._next = self._next, self._next + 1
        link = self._link(await trio.open_tcp_stream("127.0.0.1", self._port))
        body = json.dumps({"messages": [{"role": "user", "content": f"drop={number}."}], "tools": []}).encode()
        await link.ask("POST", "/chat", {"Content-Type": "application/json"}, body)
        heard = b""
        while b'"content"' not in heard:
            data = await link.read()
            if not data:
                raise ConnectionError(heard.decode())
            heard += data
        self._open[number] = link
        nursery.start_soon(_read_on, link)

    async def _watch(self, lines: trio.lowlevel.FdStream) -> None:
        pending = b""
        async with lines:
            async for data in lines:
                *whole, pending = (pending + data).split(b"\n")
                for line in whole:
                    number, at = line.split()
                    if int(number) in self.dropped:
                        self.seen[int(number)] = float(at)


async def _read_on(link: Link) -> None:
    try:
        while await link.read():
            pass
    except (Lost, trio.ClosedResourceError):
        pass


async def _provide(pause: float) -> None:
    """The provider: prints its port, then a line for each request whose client left: its drop and the time."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(partial(_answer, pause), listeners)


async def _answer(pause: float, stream: trio.SocketStream) -> None:
    asked = b""
    while (found := re.search(rb"drop=(\d+)\.", asked)) is None:
        asked += await stream.receive_some()
    number = int(found[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_pace, stream, pause)
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
        print(number, time.monotonic(), flush=True)
        nursery.cancel_scope.cancel()


async def _pace(stream: trio.SocketStream, pause: float) -> None:
    encoder = ChatEncoder("m", reply_id="r")
    try:
        await stream.send_all(HEAD + _chunk(encoder.encode(Started("m"))))
        while True:
            await stream.send_all(_chunk(encoder.encode(TextDelta("word "))))
            await trio.sleep(pause)
    except trio.BrokenResourceError:
        pass


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


if __name__ == "__main__":
    sys.exit(main())
