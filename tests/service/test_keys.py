"""`Idempotency-Key`: a client's own name for a run, so that a request that is sent twice does not start two."""

import pytest
import trio
import trio.testing

from sluicegate.providers.script import Pause, Reply, Say, Stall, Status
from sluicegate.runtime.options import RunOptions

from .harness import DONE, LINKS, Answer, Exchange, eventually, over, read_frames, stack, text_of, virtually
from .resuming import PATIENT, cursor_of, frames_in, hear, post


@LINKS
def test_two_requests_at_once_are_one_run(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("one two three", rate=0 if socket else 1)]], run=PATIENT, socket=socket) as up:
            exchanges = [await post(up, "twice") for _ in range(5)]
            answers: list[Answer] = []

            async def read(exchange: Exchange) -> None:
                answers.append(await exchange.answer())

            async with trio.open_nursery() as nursery:
                for exchange in exchanges:
                    nursery.start_soon(read, exchange)
            assert len({answer.body for answer in answers}) == 1
            assert len({answer.header("Run-Id") for answer in answers}) == 1
            assert text_of(answers[0].frames) == "one two three"
            assert len(up.transport.requests) == 1

    over(socket, main)


def test_who_attaches_to_a_live_run_reads_from_its_start() -> None:
    async def main() -> None:
        async with stack([[Say("one two three four", rate=1)]], run=PATIENT) as up:
            first = await post(up, "k")
            for words in (b"one", b"three"):
                await first.until(words)
                joined = await post(up, "k")
                await hear(joined, len(frames_in(b"".join(first.writes))))
                assert b"".join(joined.writes) == b"".join(first.writes)
                await joined.leave()
            body = (await first.answer()).body
            assert (await (await post(up, "k")).answer()).body == body, "and of an ended one all"
            assert len(up.transport.requests) == 1

    virtually(main)


@LINKS
def test_with_a_cursor_it_is_read_on(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("one two three four")]], run=PATIENT, socket=socket) as up:
            log = frames_in((await (await post(up, "k")).answer()).body)
            for after in range(1, len(log) + 1):
                answer = await (await post(up, "k", cursor=cursor_of(log[after - 1]))).answer()
                assert answer.body == b"".join(log[after:])
                assert answer.status == (204 if after == len(log) else 200)
            beyond = cursor_of(log[0]).replace("-1", f"-{len(log) + 1}")
            for cursor in ("abc-1", beyond, "x"):
                answer = await (await post(up, "k", cursor=cursor)).answer()
                assert (answer.status, answer.error["field"]) == (404, "Last-Event-ID")
            assert len(up.transport.requests) == 1

    over(socket, main)


def test_case_61_another_request_under_the_same_key_is_refused() -> None:
    """409 that names the header, while the run lives and when it has ended; the run does not notice."""

    async def main() -> None:
        async with stack([[Say("secret "), Pause(5), Say("words")]], run=PATIENT) as up:
            first = await post(up, "k", "Hi")
            await first.until(b"secret")
            for _ in range(2):
                for more in ({"question": "Ho"}, {"model": "scripted-demo"}, {"on_disconnect": "detach"}):
                    answer = await (await post(up, "k", **more)).answer()
                    assert (answer.status, answer.error["field"]) == (409, "Idempotency-Key")
                    assert answer.error["code"] == "INVALID_REQUEST"
                    assert b"secret" not in answer.body
                assert text_of((await first.answer()).frames) == "secret words"
            assert len(up.transport.requests) == 1

    virtually(main)


def test_case_61_a_connection_that_breaks_off_is_no_stop() -> None:
    """A phone puts the page to sleep; it wakes, sends the same request again, and nothing is lost or paid twice."""

    async def main() -> None:
        async with stack([[Say("one two three four five six", rate=1)]], run=PATIENT) as up:
            first = await post(up, "k", on_disconnect="detach")
            has = await hear(first, 4)
            driver = up.driver(first)
            await first.leave()
            await trio.sleep(1)
            again = await (await post(up, "k", on_disconnect="detach", cursor=cursor_of(frames_in(has)[-1]))).answer()
            assert text_of(read_frames(has + again.body)) == "one two three four five six"
            assert has + again.body == b"".join(driver.feed.frames)
            assert len(up.transport.requests) == 1

    virtually(main)


@LINKS
def test_the_key_is_as_good_as_the_id(socket: bool) -> None:
    async def main() -> None:
        async with stack([[Say("Half"), Stall()]], run=PATIENT, socket=socket) as up:
            first = await post(up, "my.key_1~2:3-4")
            await first.until(b"Half")
            joined = await up.open("GET", "/runs/my.key_1~2:3-4/events")
            await joined.until(b"Half")
            assert joined.run_id == first.run_id
            assert (await up.delete("my.key_1~2:3-4")).status == 204
            assert (await joined.answer()).body == (await first.answer()).body
            await eventually(lambda: up.transport.active == 0)

    over(socket, main)


@pytest.mark.parametrize("key", ["a b", "ä", "a/b", "x" * 129, '"', '""', "a\tb", "a,b", "{}"])
def test_a_bad_key_is_refused(key: str) -> None:
    async def main() -> None:
        async with stack([[Say("Hello.")]]) as up:
            answer = await (await post(up, key)).answer()
            assert (answer.status, answer.error["field"]) == (400, "Idempotency-Key")
            assert "1 to 128" in answer.error["message"]
            assert up.transport.requests == []

    virtually(main)


@pytest.mark.parametrize("key", ["a", "x" * 128, '"quoted-1"', "8e03978e-40d5-43e8-bc93-6894a57f9324"])
def test_a_good_key_is_taken(key: str) -> None:
    async def main() -> None:
        async with stack([[Say("Hello.")]]) as up:
            bodies = {(await (await post(up, key)).answer()).body for _ in range(2)}
            assert len(bodies) == 1
            assert (await up.get(key.strip('"'))).body in bodies

    virtually(main)


def test_a_run_that_was_refused_before_its_first_byte_frees_the_key() -> None:
    """The same request may be sent again, under the same key, and is answered; a key does not keep a failure."""

    async def main() -> None:
        async with stack([[Status(503)], [Status(429)], [Say("Now.")]], run=PATIENT) as up:
            statuses = [(await (await post(up, "k")).answer()).status for _ in range(2)]
            assert statuses == [503, 429]
            answer = await (await post(up, "k")).answer()
            assert text_of(answer.frames) == "Now."
            assert (await (await post(up, "k")).answer()).body == answer.body
            assert len(up.transport.requests) == 3

    virtually(main)


def test_a_run_that_ended_without_a_word_while_nobody_was_there_frees_the_key() -> None:
    """Its client lost the connection before the response, and sends the same again."""

    async def main() -> None:
        async with stack([[Stall()], [Say("Now.")]], run=PATIENT) as up:
            lost = await post(up, "k")
            await eventually(lambda: up.transport.active == 1)
            await lost.leave()
            await eventually(lambda: len(up.service.runs) == 0)
            assert text_of((await (await post(up, "k")).answer()).frames) == "Now."
            assert len(up.transport.requests) == 2

    virtually(main)


def test_both_of_two_refused_at_once_free_the_key_of_their_run_only() -> None:
    async def main() -> None:
        async with stack([[Pause(1), Status(503)], [Say("Now.")]], run=PATIENT) as up:
            both = [await post(up, "k") for _ in range(2)]
            assert [(await exchange.answer()).status for exchange in both] == [503, 503]
            answer = await (await post(up, "k")).answer()
            assert (await (await post(up, "k")).answer()).body == answer.body
            assert len(up.transport.requests) == 2

    virtually(main)


def test_a_refused_request_starts_nothing_under_its_key() -> None:
    async def main() -> None:
        async with stack([[Say("Now.")]]) as up:
            assert (await (await post(up, "k", temperature="warm")).answer()).status == 400
            assert text_of((await (await post(up, "k")).answer()).frames) == "Now."

    virtually(main)


@pytest.mark.parametrize("forgotten", ["age", "count"])
def test_a_key_is_forgotten_with_its_run(forgotten: str) -> None:
    options = RunOptions(kept_seconds=60, kept_runs=1)

    async def main() -> None:
        async with stack(lambda _: [Say("Hello.")], run=options) as up:
            first = await (await post(up, "k")).answer()
            if forgotten == "age":
                await trio.sleep(61)
            else:
                await up.ask()
                await up.service.runs.wait_none()
            assert (await up.get("k")).status == 404
            assert (await up.delete("k")).status == 404
            cursor = cursor_of(frames_in(first.body)[1])
            gone = await (await post(up, "k", cursor=cursor)).answer()
            assert (gone.status, gone.error["field"]) == (404, "Last-Event-ID"), "not another run behind half of this"
            again = await (await post(up, "k", "Ho")).answer()
            assert again.status == 200, "the key is free, for another request too"
            assert again.header("Run-Id") != first.header("Run-Id")

    virtually(main)


def test_another_process_knows_neither_key_nor_cursor() -> None:
    async def main() -> None:
        async with stack(lambda _: [Say("one two")], run=PATIENT) as up:
            log = frames_in((await (await post(up, "k")).answer()).body)
        async with stack(lambda _: [Say("one two")], run=PATIENT) as up:
            cursor = cursor_of(log[1])
            assert (await up.get("k")).status == 404
            assert (await (await post(up, "k", cursor=cursor)).answer()).status == 404
            assert up.transport.requests == []
            assert (await (await post(up, "k")).answer()).status == 200
            for answer in (await up.get("k", cursor), await (await post(up, "k", cursor=cursor)).answer()):
                assert (answer.status, answer.error["field"]) == (404, "Last-Event-ID")

    virtually(main)


def test_keys_name_different_runs_side_by_side() -> None:
    async def main() -> None:
        replies: list[Reply] = [[Say(f"answer {number}")] for number in range(20)]
        async with stack(replies, run=PATIENT) as up:
            bodies = [(await (await post(up, f"k{number}")).answer()).body for number in range(20)]
            for number, body in enumerate(bodies):
                assert (await up.get(f"k{number}")).body == body
                assert text_of(read_frames(body)) == f"answer {number}"
                assert body.endswith(DONE)

    virtually(main)


def test_a_stopped_run_keeps_its_key() -> None:
    """Stopped is stopped: the same request again reads how it ended."""

    async def main() -> None:
        async with stack([[Say("Half"), Stall()]], run=PATIENT) as up:
            first = await post(up, "k", on_disconnect="detach")
            await first.until(b"Half")
            await first.leave()
            await up.delete("k")
            answer = await (await post(up, "k", on_disconnect="detach")).answer()
            assert answer.frames[-1]["error"]["message"] == "The run was stopped."
            assert len(up.transport.requests) == 1

    virtually(main)


def test_who_resumes_by_the_key_is_told_by_frames_and_not_by_a_status() -> None:
    """The provider's first word is an error, long after the head: whoever has frames gets those behind them."""

    async def main() -> None:
        async with stack([[Pause(5), Status(500)]], run=PATIENT) as up:
            first = await post(up, "k", on_disconnect="detach")
            has = await hear(first, 2)
            driver = up.driver(first)
            await first.leave()
            cursor = cursor_of(frames_in(has)[-1])
            for _ in range(2):
                answer = await (await post(up, "k", on_disconnect="detach", cursor=cursor)).answer()
                assert answer.status == 200
                assert has + answer.body == b"".join(driver.feed.frames)
            assert len(up.transport.requests) == 1

    virtually(main)


def test_nothing_is_remembered_of_a_key_whose_run_is_forgotten() -> None:
    async def main() -> None:
        async with stack(lambda _: [Say("Hello.")], run=RunOptions(kept_runs=2)) as up:
            for number in range(50):
                await (await post(up, f"k{number}")).answer()
                await up.service.runs.wait_none()
            sizes = {name: len(found) for name, found in vars(up.service.runs).items() if isinstance(found, dict)}
            assert max(sizes.values()) == 2, sizes

    virtually(main)
