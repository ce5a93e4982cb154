"""Runs beyond their first response: read again, stopped, left, kept for a while, slowed down by a slow reader."""

import gc
import math
import socket as sockets
import weakref
from typing import Any

import pytest
import trio
import trio.testing

from sluicegate.machine.errors import ErrorCode, RunError
from sluicegate.machine.limits import ReplyLimits, RunLimits
from sluicegate.providers.script import Call, Pause, Reply, Say, Stall
from sluicegate.runtime.driver import Driver
from sluicegate.runtime.options import RunOptions
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry

from .harness import (
    DONE,
    JSON,
    LINKS,
    MAX_WRITE,
    SocketExchange,
    Stack,
    eventually,
    kinds,
    over,
    read_frames,
    stack,
    text_of,
    virtually,
)

TALK: Reply = [Say("one two three four"), Call("calculate", {"expression": "1+1"})]


def cursors(body: bytes) -> list[tuple[str, bytes]]:
    """Return each event id of `body` with what follows its frame."""
    found = []
    at = 0
    while (end := body.find(b"\n\n", at)) >= 0:
        frame, at = body[at:end], end + 2
        if frame.startswith(b"id: "):
            rest = body[at:]
            found.append((frame[4:].split(b"\n")[0].decode(), b"" if rest == DONE else rest))
    return found


def _undated(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in headers if name != "Date")


# --- resume


@LINKS
def test_a_log_replays_byte_for_byte_from_every_cursor(socket: bool) -> None:
    async def main() -> None:
        async with stack([TALK, [Say("It is 2.")]], socket=socket) as up:
            whole = await up.ask()
            run_id = whole.header("Run-Id") or ""
            again = await up.get(run_id)
            assert again.body == whole.body
            assert _undated(again.headers) == _undated(whole.headers)
            places = cursors(whole.body)
            assert len(places) > 10
            for cursor, rest in places:
                answer = await up.get(run_id, cursor)
                assert (answer.status, answer.body) == (200 if rest else 204, rest), cursor
            epoch = places[0][0].rpartition("-")[0]
            assert (await up.get(run_id, f"{epoch}-0")).body == whole.body

    over(socket, main)


@LINKS
def test_readers_that_join_a_live_run_get_the_rest_of_it(socket: bool) -> None:
    pause = 0.01 if socket else 1.0
    reply: Reply = [Say("one two three four five six seven", rate=1 / pause), Say(" end")]
    bodies: list[bytes] = []

    async def main() -> None:
        async with stack([reply], socket=socket) as up:
            exchange = await up.chat()
            for word in (b"two", b"four", b"six"):
                sofar = await exchange.until(word)
                cursor, _ = cursors(sofar)[-2]
                for after in ("", cursor):
                    up.nursery.start_soon(join, up, exchange.run_id, after, bodies)
            whole = await exchange.answer()
            await eventually(lambda: len(bodies) == 6)
            assert text_of(whole.frames) == "one two three four five six seven end"
            assert bodies.count(whole.body) == 3
            tails = [body for body in bodies if body != whole.body]
            assert all(whole.body.endswith(body) and read_frames(body) for body in tails)
            assert len(set(tails)) == 3

    over(socket, main)


async def join(up: Stack, run_id: str, after: str, bodies: list[bytes]) -> None:
    bodies.append((await up.get(run_id, after)).body)


@LINKS
def test_a_cursor_that_is_not_of_this_run_is_404(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("One.")], [Say("Two.")]], socket=socket) as up:
            one, other = await up.ask(), await up.ask()
            run_id = one.header("Run-Id") or ""
            mine, foreign = cursors(one.body)[0][0], cursors(other.body)[0][0]
            epoch = mine.rpartition("-")[0]
            last = len(cursors(one.body))
            for cursor in (
                foreign, "x", "1", "-", epoch, f"{epoch}-", f"{epoch}--1", f"{epoch}-x", f"{epoch}-{last + 1}",
                f"{epoch}-{10**12}", f"{epoch}-1 x", f"{epoch.upper()}-1x", "a" * 5_000, f"{epoch}-" + "1" * 5_000,
            ):  # fmt: skip
                answer = await up.get(run_id, cursor)
                assert (answer.status, answer.error["field"]) == (404, "Last-Event-ID"), cursor
            for unknown in ("nobody", "0" * 32, run_id[:-1], run_id + "0"):
                answer = await up.get(unknown)
                assert (answer.status, answer.error["field"]) == (404, "id")

    over(socket, main)


@LINKS
def test_a_head_request_reads_nothing_and_ends_nothing(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("One "), Pause(0.05), Say("two.")]], socket=socket) as up:
            exchange = await up.chat()
            await exchange.until(b"One")
            answer = await (await up.open("HEAD", f"/runs/{exchange.run_id}/events")).answer()
            assert (answer.status, answer.body) == (200, b"")
            assert answer.header("Content-Type") == "text/event-stream"
            assert answer.header("Run-Id") == exchange.run_id
            assert text_of((await exchange.answer()).frames) == "One two."

    over(socket, main)


# --- stop


@LINKS
def test_delete_stops_a_run_for_all_its_readers(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("Half an answer"), Stall()]], socket=socket) as up:
            exchange = await up.chat()
            await exchange.until(b"answer")
            joined = await up.open("GET", f"/runs/{exchange.run_id}/events")
            await joined.until(b"answer")
            assert up.transport.active == 1
            answer = await up.delete(exchange.run_id)
            assert (answer.status, answer.body) == (204, b"")
            for reader in (exchange, joined):
                frames = (await reader.answer()).frames
                assert kinds(frames) == ["run", "step", "content", "error"]
                assert frames[-1]["error"] == {"code": "CANCELLED", "message": "The run was stopped."}
            await eventually(lambda: up.transport.active == 0)
            assert (await up.delete(exchange.run_id)).status == 204
            assert (await up.get(exchange.run_id)).frames[-1]["error"]["code"] == "CANCELLED"
            assert (await up.delete("nobody")).status == 404

    over(socket, main)


def test_delete_after_the_end_changes_nothing() -> None:
    async def main() -> None:
        async with stack([[Say("Done.")]]) as up:
            whole = await up.ask()
            run_id = whole.header("Run-Id") or ""
            assert (await up.delete(run_id)).status == 204
            assert (await up.get(run_id)).body == whole.body

    virtually(main)


def test_delete_before_the_first_byte() -> None:
    """The run's id is the client's only after the headers; whoever stops it earlier makes the answer a status."""

    async def main() -> None:
        async with stack([[Stall()]]) as up:
            exchange = await up.chat()
            await trio.testing.wait_all_tasks_blocked()
            up.service.runs.cancel_all(RunError(ErrorCode.CANCELLED, "Stopped."))
            answer = await exchange.answer()
            assert (answer.status, answer.error["code"]) == (499, "CANCELLED")

    virtually(main)


@LINKS
def test_a_server_that_stops_tells_every_reader(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("Half"), Stall()]] * 3, socket=socket) as up:
            exchanges = [await up.chat() for _ in range(3)]
            for exchange in exchanges:
                await exchange.until(b"Half")
            up.service.stop_runs()
            for exchange in exchanges:
                error = (await exchange.answer()).frames[-1]["error"]
                assert (error["code"], error["retryable"]) == ("SHUTTING_DOWN", True)
            answer = await up.ask()
            assert (answer.status, answer.error["code"], answer.error["retryable"]) == (503, "SHUTTING_DOWN", True)
            assert answer.header("Retry-After") == "1"
            assert len(up.transport.requests) == 3

    over(socket, main)


# --- leave


def sleeper() -> tuple[Registry, list[str]]:
    told: list[str] = []

    @tool
    async def sleep() -> str:
        """Sleep."""
        told.append("began")
        try:
            await trio.sleep_forever()
        finally:
            told.append("ended")
        return ""

    return Registry([sleep]), told


@LINKS
def test_the_last_reader_to_leave_ends_the_run_and_none_before(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("Half"), Stall()]], socket=socket) as up:
            exchange = await up.chat()
            await exchange.until(b"Half")
            driver = up.driver(exchange)
            joined = [await up.open("GET", f"/runs/{exchange.run_id}/events") for _ in range(2)]
            for reader in joined:
                await reader.until(b"Half")
            for number, reader in enumerate([exchange, *joined]):
                assert len(driver.feed.readers) == 3 - number
                assert driver.run.terminal is None
                assert up.transport.active == 1
                await reader.leave()
                await eventually(lambda left=2 - number: len(driver.feed.readers) == left)  # type: ignore[misc]
            await eventually(lambda: up.transport.active == 0)
            error = (await up.get(exchange.run_id)).frames[-1]["error"]
            assert error == {"code": "CANCELLED", "message": "The client disconnected."}

    over(socket, main)


@LINKS
@pytest.mark.parametrize("moment", ["before the headers", "in the text", "in a tool"])
def test_who_leaves_takes_the_whole_run_along(socket: bool, moment: str) -> None:
    tools, told = sleeper()
    replies: dict[str, Reply] = {
        "before the headers": [Stall()],
        "in the text": [Say("Half"), Stall()],
        "in a tool": [Call("sleep")],
    }

    async def main() -> None:
        async with stack([replies[moment]], socket=socket, tools=tools) as up:
            exchange = await up.chat()
            if moment == "before the headers":
                await eventually(lambda: up.transport.active == 1)
            else:
                await exchange.until(b"Half" if moment == "in the text" else b'"tool_calls"')
            await eventually(lambda: moment != "in a tool" or told == ["began"])
            await exchange.leave()
            await eventually(lambda: len(up.service.runs) == 0)
            assert up.transport.active == 0
            assert told == (["began", "ended"] if moment == "in a tool" else [])
            assert len(up.transport.requests) == 1

    over(socket, main)


def test_who_leaves_after_the_end_ends_nothing() -> None:
    async def main() -> None:
        async with stack([[Say("Done.")]]) as up:
            exchange = await up.chat(buffer=0)
            await exchange.head()
            await trio.testing.wait_all_tasks_blocked()
            run_id = exchange.run_id
            await exchange.leave()
            assert "done" in (await up.get(run_id)).frames[-1]

    virtually(main)


def test_readers_of_an_ended_run_come_and_go() -> None:
    async def main() -> None:
        async with stack([[Say("word " * 20_000, words=0)]]) as up:
            whole = await up.ask()
            run_id = whole.header("Run-Id") or ""
            for _ in range(3):
                exchange = await up.open("GET", f"/runs/{run_id}/events", buffer=0)
                await exchange.next()
                await exchange.leave()
            assert (await up.get(run_id)).body == whole.body

    virtually(main)


# --- kept runs


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_ended_runs_are_kept_up_to_a_number(kept: int) -> None:
    async def main() -> None:
        async with stack([[Say("Yes.")]] * 5, run=RunOptions(kept_runs=kept)) as up:
            ids = [(await up.ask()).header("Run-Id") or "" for _ in range(5)]
            await trio.testing.wait_all_tasks_blocked()
            statuses = [(await up.get(run_id)).status for run_id in ids]
            assert statuses == [404] * (5 - kept) + [200] * kept

    virtually(main)


def test_ended_runs_are_kept_up_to_a_size() -> None:
    async def main() -> None:
        replies: list[Reply] = [[Say("x" * 1_000)], [Say("y" * 3_000)], [Say("z" * 1_000)], [Say("w" * 100_000)]]
        async with stack([*replies, [Say("v")]], run=RunOptions(kept_bytes=5_000)) as up:
            ids: list[str] = []
            kept: list[list[int]] = []
            for _ in range(5):
                ids.append((await up.ask()).header("Run-Id") or "")
                await trio.testing.wait_all_tasks_blocked()
                kept.append([number for number, run_id in enumerate(ids) if (await up.get(run_id)).status == 200])
            assert kept == [[0], [0, 1], [1, 2], [], [4]], "the oldest go first; one larger than the limit is not kept"

    virtually(main)


def test_runs_whose_end_nobody_has_heard_are_kept_before_others() -> None:
    """Somebody may come back for them; of those that are alike, the oldest goes first."""

    async def main() -> None:
        async with stack([[Say("Yes.")]] * 6, run=RunOptions(kept_runs=3)) as up:
            ids: list[str] = []
            for heard in (False, True, True, False, True):
                exchange = await up.chat(buffer=math.inf if heard else 0, on_disconnect="detach")
                await (exchange.answer() if heard else exchange.head())
                await trio.testing.wait_all_tasks_blocked()
                ids.append(exchange.run_id)
                if not heard:
                    await exchange.leave()
            kept = [number for number, run_id in enumerate(ids) if up.service.runs.get(run_id)]
            assert kept == [0, 3, 4]
            for run_id in (ids[0], ids[3]):
                assert "done" in (await up.get(run_id)).frames[-1]
            await up.ask()
            await trio.testing.wait_all_tasks_blocked()
            assert up.service.runs.get(ids[0]) is None, "it has been heard now"

    virtually(main)


# --- backpressure

LINES = 400
LINE = "y" * 4_000 + "\n"


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the size of every upstream read will be added."""
    from sluicegate.providers import scripted

    sizes: list[int] = []
    body: Any = vars(scripted)["_Body"]
    real = body.__anext__

    async def counting(self: Any) -> bytes:
        data: bytes = await real(self)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(body, "__anext__", counting)
    return sizes


def test_a_reader_that_stops_reading_stops_the_upstream_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count_reads(monkeypatch)
    room = 100_000
    options = RunOptions(log_room=room, step_seconds=10_000, run_seconds=10_000)

    async def main() -> None:
        async with stack([[Say(LINE * LINES)]], run=options) as up:
            exchange = await up.chat(buffer=0)
            await exchange.head()
            driver = up.driver(exchange)
            last = 0
            for _ in range(5):
                await trio.sleep(100)
                assert last < len(sizes) < LINES, "it reads on a little, and stops"
                assert 0 < driver.feed.size - sum(map(len, exchange.writes)) <= room + MAX_WRITE + 2 * len(LINE)
                last = len(sizes)
                await trio.sleep(100)
                assert len(sizes) == last, "time alone brings no read"
                taken = 0
                while taken < room // 2:
                    taken += len(await exchange.next() or b"")
            answer = await exchange.answer()
            assert text_of(answer.frames) == LINE * LINES
            assert len(sizes) >= LINES

    virtually(main)


def test_the_slowest_of_two_readers_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count_reads(monkeypatch)

    async def main() -> None:
        async with stack([[Say(LINE * LINES)]], run=RunOptions(log_room=50_000)) as up:
            slow = await up.chat(buffer=0)
            await slow.head()
            fast = await up.open("GET", f"/runs/{slow.run_id}/events")
            bodies: list[bytes] = []
            up.nursery.start_soon(finish, fast, bodies)
            await trio.testing.wait_all_tasks_blocked()
            assert len(sizes) < LINES
            assert bodies == []
            await slow.leave()
            await trio.testing.wait_all_tasks_blocked()
            assert len(bodies) == 1, "without the slow one, the fast one gets it all"
            assert text_of(read_frames(bodies[0])) == LINE * LINES

    virtually(main)


async def finish(exchange: Any, bodies: list[bytes]) -> None:
    bodies.append((await exchange.answer()).body)


def test_a_stopped_run_ends_for_a_reader_that_does_not_read() -> None:
    async def main() -> None:
        async with stack([[Say(LINE * LINES)]], run=RunOptions(log_room=50_000)) as up:
            exchange = await up.chat(buffer=0)
            await exchange.head()
            await trio.testing.wait_all_tasks_blocked()
            await up.delete(exchange.run_id)
            await trio.testing.wait_all_tasks_blocked()
            assert up.transport.active == 0
            assert len(up.service.runs) == 0
            assert (await exchange.answer()).frames[-1]["error"]["code"] == "CANCELLED"

    virtually(main)


@pytest.mark.sockets
def test_backpressure_reaches_from_the_clients_socket_to_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count_reads(monkeypatch)
    block, count = "z" * 60_000 + " ", 250
    options = RunOptions(limits=RunLimits(reply=ReplyLimits(reply_bytes=2**25)))

    async def main() -> None:
        async with stack([[Say(block * count)]], socket=True, run=options) as up:
            listener = trio.socket.socket()
            listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 64 * 1024)
            await listener.connect(("127.0.0.1", int(up.url.rpartition(":")[2])))
            exchange = SocketExchange(trio.SocketStream(listener))
            await exchange.ask("POST", "/chat", JSON, b'{"messages":[{"role":"user","content":"Hi"}]}')
            await exchange.head()
            await trio.testing.wait_all_tasks_blocked(0.1)
            stopped = len(sizes)
            assert 0 < stopped < count * 0.9
            driver = up.driver(exchange)
            reader = driver.feed.readers[0]
            assert driver.feed.size - reader.taken <= 256 * 1024 + 2 * len(block)
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert len(sizes) == stopped
            answer = await exchange.answer()
            assert text_of(answer.frames) == block * count
            assert len(sizes) >= count

    over(True, main)


# --- memory


@LINKS
def test_what_ended_and_was_forgotten_is_freed_without_the_collector(socket: bool) -> None:
    """It would find the circles, and the time that it takes is every stream's."""

    async def main() -> None:
        async with stack(lambda _: [Say("Hello.")], socket=socket, run=RunOptions(kept_runs=1)) as up:
            gone: list[weakref.ref[Driver]] = []
            for _ in range(5):
                answer = await up.ask()
                driver = up.service.runs.get(answer.header("Run-Id") or "")
                assert driver is not None
                gone.append(weakref.ref(driver))
                del driver
            await up.service.runs.wait_none()  # the last one has driven the one before it out
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert [ref() is None for ref in gone] == [True] * 4 + [False]

    gc.disable()
    try:
        over(socket, main)
    finally:
        gc.enable()
