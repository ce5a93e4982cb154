"""Tools: whatever a tool does becomes an outcome, in bounded time, and cancellation always gets through."""

import contextlib
import dataclasses
import datetime
import enum
import itertools
import json
import math
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import trio
from pydantic import BaseModel
from trio.testing import MockClock, assert_checkpoints

from sluicegate.machine.errors import LocalProtocolError
from sluicegate.tools import Tool, ToolContext, ToolError, ToolOutcome, tool
from sluicegate.tools.containment import GRACE
from sluicegate.tools.context import MAX_PROGRESS_BYTES
from sluicegate.tools.threads import MAX_THREADS, Threads

TIMEOUT = 5.0
LIMIT = 1_000


def run(function: Callable[[], Any]) -> Any:
    return trio.run(function, clock=MockClock(autojump_threshold=0))


def context() -> ToolContext:
    return ToolContext("call", "run")


async def outcome_of(function: Callable[[], Any], **options: Any) -> ToolOutcome:
    return await tool(max_result_bytes=LIMIT, **{"timeout": TIMEOUT, **options})(function).call("", context())


# ---------------------------------------------------------------- results


class Model(BaseModel):
    value: Any


class Struct(msgspec.Struct, tag=True):
    value: Any


@dataclasses.dataclass
class Record:
    value: Any


class Grade(enum.StrEnum):
    GOOD = "good"


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("as is\n\u2028\U0001f600", "as is\n\u2028\U0001f600"),
        (Grade.GOOD, "good"),
        (None, "null"),
        (1.5, "1.5"),
        ({"é": [1, True, None]}, '{"é":[1,true,null]}'),
        (Model(value=Struct(Record(1))), '{"value":{"type":"Struct","value":{"value":1}}}'),
        ([Struct(Model(value=datetime.date(2020, 1, 2)))], '[{"type":"Struct","value":{"value":"2020-01-02"}}]'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), '"2020-01-02T03:04:05Z"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    ],
)
async def test_results_as_the_model_sees_them(value: object, content: str) -> None:
    async def answer() -> object:
        return value

    assert await outcome_of(answer) == ToolOutcome(content)
    assert await outcome_of(lambda: value, name="sync") == ToolOutcome(content)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


class Spiteful:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        {"a": [math.inf]},
        Struct(math.nan),
        "\ud800",
        {"a": "\ud800"},
        {"\udfff": 1},
        object(),
        Spiteful(),
        Struct(object()),
        Model(value=object()),
        b"\xff",
        CYCLE,
        nested(100_000),
        len,
        ValueError("secret"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_results_that_json_cannot_hold_are_error_results(value: object) -> None:
    async def answer() -> object:
        return value

    outcome = await outcome_of(answer)
    assert outcome.is_error
    assert outcome.content == "The tool answer gave a result that cannot be shown."
    assert outcome.fault is not None


@pytest.mark.parametrize(("value", "size"), [("x", LIMIT), ("é", LIMIT // 2), (["x" * (LIMIT - 4)], 1)])
async def test_the_size_of_a_result_is_limited_exactly(value: Any, size: int) -> None:
    async def answer() -> object:
        return value * size

    async def more() -> object:
        return value * size + ("x" if isinstance(value, str) else ["y"])

    assert not (await outcome_of(answer)).is_error
    outcome = await outcome_of(more)
    assert outcome.is_error
    assert "max_result_bytes" in outcome.content
    assert str(LIMIT) in outcome.content


# ---------------------------------------------------------------- failures


async def test_a_tool_error_speaks_to_the_model() -> None:
    async def fails() -> None:
        raise ToolError("Try another city.")

    async def fails_twice() -> None:
        raise ExceptionGroup("", [ToolError("One."), ExceptionGroup("", [ToolError("Two.")])])

    async def fails_loudly() -> None:
        raise ToolError("\ud800" + "x" * 2 * LIMIT)

    assert await outcome_of(fails) == ToolOutcome("Try another city.", is_error=True)
    assert await outcome_of(fails_twice) == ToolOutcome("One.\nTwo.", is_error=True)
    loud = await outcome_of(fails_loudly)
    assert loud.content == "?" + "x" * (LIMIT - 1)


class SecretError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "content"),
    [
        (SecretError("canary"), "The tool fails failed (SecretError)."),
        (KeyError("canary"), "The tool fails failed (KeyError)."),
        (SystemExit("canary"), "The tool fails failed (SystemExit)."),
        (RecursionError("canary"), "The tool fails failed (RecursionError)."),
        (
            BaseExceptionGroup("canary", [OSError("canary"), ToolError("canary"), SystemExit(1), OSError()]),
            "The tool fails failed (OSError, SystemExit).",
        ),
    ],
)
async def test_any_other_exception_gives_its_type_only(error: BaseException, content: str) -> None:
    async def fails() -> None:
        raise error

    def fails_in_thread() -> None:
        raise error

    for function in (fails, fails_in_thread):
        outcome = await outcome_of(function, name="fails")
        assert (outcome.content, outcome.is_error) == (content, True)
        assert outcome.fault is error or isinstance(outcome.fault, BaseExceptionGroup)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), LocalProtocolError("our bug")])
async def test_what_is_not_the_tools_own_failure_goes_through(error: BaseException) -> None:
    async def fails() -> None:
        raise BaseExceptionGroup("", [error, ValueError("of the tool")])

    with pytest.raises(BaseExceptionGroup) as caught:
        await outcome_of(fails)
    assert [type(leaf) for leaf in flat(caught.value)] == [type(error)]


def flat(error: BaseException) -> list[BaseException]:
    return [leaf for inner in error.exceptions for leaf in flat(inner)] if isinstance(
        error, BaseExceptionGroup
    ) else [error]  # fmt: skip


async def test_a_sync_function_that_returns_a_coroutine_is_a_fault() -> None:
    async def inner() -> str:
        return ""

    outcome = await outcome_of(lambda: inner(), name="wrapper")
    assert (outcome.content, type(outcome.fault)) == ("The tool wrapper failed (TypeError).", TypeError)


async def test_an_object_with_an_async_call_is_async() -> None:
    class Callable_:  # noqa: N801
        async def __call__(self, n: int = 3) -> int:
            await trio.lowlevel.checkpoint()
            return n

    assert await tool(name="made")(Callable_()).call("", context()) == ToolOutcome("3")


# ---------------------------------------------------------------- time


def test_case_71_a_hanging_tool_times_out_with_a_result_for_the_model() -> None:
    async def main() -> None:
        async def hangs() -> None:
            await trio.sleep_forever()

        start = trio.current_time()
        outcome = await outcome_of(hangs, timeout=2.5)
        assert outcome == ToolOutcome("The tool hangs timed out after 2.5 s.", is_error=True)
        assert trio.current_time() - start == pytest.approx(2.5)

    run(main)


def test_case_71_a_hanging_thread_is_abandoned_counted_and_its_result_discarded() -> None:
    clock = MockClock()  # by hand: an autojump does not wait for threads

    async def main() -> None:
        threads = Threads(1)
        published: list[bytes] = []
        started, release = trio.Event(), threading.Event()

        def publish(raw: msgspec.Raw) -> None:
            published.append(bytes(raw))
            started.set()

        @tool(timeout=TIMEOUT)
        def hangs(context: ToolContext) -> str:
            context.progress("first")
            release.wait()
            context.progress("late")
            return "late"

        async def call() -> None:
            outcome = await hangs.call("", ToolContext("call", "run", publish, threads))
            assert outcome == ToolOutcome("The tool hangs timed out after 5 s.", is_error=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await started.wait()
            assert threads.abandoned == 0
            clock.jump(TIMEOUT)
        assert threads.abandoned == 1
        release.set()
        while threads.abandoned:
            await trio.lowlevel.checkpoint()
        assert published == [b'"first"']

    trio.run(main, clock=clock)


def test_shields_of_a_tool_are_lifted_after_the_grace() -> None:
    async def main() -> None:
        cleaned: list[float] = []

        async def shielded() -> None:
            async def child() -> None:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1_000)

            try:
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(child)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(GRACE / 2)
                    cleaned.append(trio.current_time())

        start = trio.current_time()
        outcome = await outcome_of(shielded)
        assert outcome == ToolOutcome("The tool shielded timed out after 5 s.", is_error=True)
        assert cleaned == [pytest.approx(start + TIMEOUT + 1.5 * GRACE)]

    run(main)


def test_shields_are_lifted_as_often_as_it_takes() -> None:
    async def main() -> None:
        async def stubborn() -> None:
            for _ in range(3):
                with contextlib.suppress(trio.Cancelled), trio.CancelScope(shield=True):
                    await trio.sleep(1_000)

        start = trio.current_time()
        assert (await outcome_of(stubborn)).content == "The tool stubborn timed out after 5 s."
        assert trio.current_time() - start == pytest.approx(TIMEOUT + 3 * GRACE)

    run(main)


def test_clean_up_within_the_grace_is_left_alone() -> None:
    async def main() -> None:
        cleaned = False

        async def tidy() -> None:
            nonlocal cleaned
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(GRACE * 0.9)
                    cleaned = True

        assert "timed out" in (await outcome_of(tidy)).content
        assert cleaned

    run(main)


def test_a_tool_that_swallows_its_timeout_has_timed_out_all_the_same() -> None:
    async def main() -> None:
        async def stubborn() -> str:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                return "never mind"

        async def clumsy() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                try:
                    await trio.sleep_forever()
                finally:
                    raise SecretError("canary")

        assert await outcome_of(stubborn) == ToolOutcome("The tool stubborn timed out after 5 s.", is_error=True)
        outcome = await outcome_of(clumsy)
        assert outcome.content == "The tool clumsy timed out after 5 s."
        assert isinstance(outcome.fault, SecretError)

    run(main)


def test_an_outer_cancellation_goes_through_whatever_comes_with_it() -> None:
    async def main() -> None:
        async def clumsy() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                try:
                    await trio.sleep_forever()
                finally:
                    raise SecretError("canary")

        async def stubborn() -> str:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                return "never mind"

        for function in (clumsy, stubborn):
            with trio.move_on_after(1) as scope:
                await outcome_of(function)
                pytest.fail("not reached")
            assert scope.cancelled_caught

    run(main)


def test_a_call_is_always_a_checkpoint() -> None:
    async def main() -> None:
        async def ready() -> str:
            return ""

        for arguments in ("", "bad"):
            with assert_checkpoints():
                await tool(ready).call(arguments, context())
            with trio.CancelScope() as scope:
                scope.cancel()
                await tool(ready).call(arguments, context())
            assert scope.cancelled_caught

    run(main)


# ---------------------------------------------------------------- row 10 of the matrix, on tools alone


async def ok() -> str:
    await trio.sleep(1)
    return "fine"


async def raises() -> None:
    await trio.sleep(1)
    raise SecretError("canary")


async def hang() -> None:
    await trio.sleep_forever()


async def oversize() -> str:
    await trio.sleep(1)
    return "x" * (LIMIT + 1)


async def shielded() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(1_000)


async def not_json() -> object:
    await trio.sleep(1)
    return object()


BEHAVIOURS: dict[Tool[..., Any], str] = {
    tool(timeout=TIMEOUT, max_result_bytes=LIMIT)(function): words
    for function, words in (
        (ok, "fine"),
        (raises, "failed (SecretError)"),
        (hang, "timed out after 5 s"),
        (oversize, "max_result_bytes"),
        (shielded, "timed out after 5 s"),
        (not_json, "cannot be shown"),
    )
}
CANCELS = {"no cancel": math.inf, "before": 0.0, "during": 0.5, "after": 2 * TIMEOUT}


@pytest.mark.parametrize("cancel", CANCELS)
def test_row_10_two_tools_side_by_side(cancel: str) -> None:
    cases = 0
    for pair in itertools.product(BEHAVIOURS, repeat=2):
        cases += 1
        run(lambda pair=pair: side_by_side(pair, CANCELS[cancel]))  # type: ignore[misc]
    assert cases == 36


async def side_by_side(pair: tuple[Tool[..., Any], ...], cancel_at: float) -> None:
    outcomes: dict[int, ToolOutcome] = {}
    ends: list[float] = []
    start = trio.current_time()

    async def one(number: int) -> None:
        try:
            outcomes[number] = await pair[number].call("{}", context())
        finally:
            ends.append(trio.current_time() - start)

    with trio.CancelScope(deadline=start + cancel_at) as scope:
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon(one, number)
        if cancel_at > TIMEOUT + GRACE and cancel_at < math.inf:
            await trio.sleep_forever()
    assert scope.cancelled_caught == (cancel_at < math.inf)
    assert max(ends) <= min(TIMEOUT, cancel_at) + GRACE + 1e-6
    if cancel_at < 1:
        assert not outcomes
        return
    for number, made in enumerate(pair):
        outcome, words = outcomes[number], BEHAVIOURS[made]
        assert words in outcome.content
        assert outcome.is_error == (made.name != "ok")
        assert "canary" not in outcome.content
        assert (outcome.fault is not None) == (made.name in {"raises", "oversize", "not_json"})


# ---------------------------------------------------------------- progress


async def test_progress_from_any_task_and_thread_in_order() -> None:
    published: list[Any] = []

    def receive(raw: msgspec.Raw) -> None:
        assert trio.lowlevel.in_trio_task() or threading.current_thread() is threading.main_thread()
        published.append(json.loads(bytes(raw)))

    async def with_tasks(context: ToolContext) -> str:
        async def child(n: int) -> None:
            context.progress({"n": n})

        context.progress(Struct(0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, 1)
        context.progress(2)
        return "done"

    def with_threads(context: ToolContext) -> str:
        context.progress([0])
        own = threading.Thread(target=context.progress, args=([1],))
        own.start()
        own.join()
        context.progress([2])
        return "done"

    assert (await tool(with_tasks).call("", ToolContext("call", "run", receive))).content == "done"
    assert published == [{"type": "Struct", "value": 0}, {"n": 1}, 2]
    published.clear()
    assert (await tool(with_threads).call("", ToolContext("call", "run", receive))).content == "done"
    assert published == [[0], [1], [2]]


async def test_progress_after_the_end_is_dropped() -> None:
    published: list[msgspec.Raw] = []
    kept: list[ToolContext] = []

    async def keeps(context: ToolContext) -> None:
        kept.append(context)
        context.progress(1)

    await tool(keeps).call("", ToolContext("call", "run", published.append))
    kept[0].progress(2)
    await trio.to_thread.run_sync(kept[0].progress, 3)
    assert [bytes(raw) for raw in published] == [b"1"]


def test_progress_after_the_whole_trio_run_is_dropped() -> None:
    async def main() -> ToolContext:
        return ToolContext("call", "run", lambda raw: pytest.fail("not dropped"))

    late = trio.run(main)
    thread = threading.Thread(target=late.progress, args=(1,))
    thread.start()
    thread.join()


def test_progress_works_where_the_tool_is_tested_as_a_plain_function() -> None:
    published: list[msgspec.Raw] = []

    @tool
    def reports(context: ToolContext) -> str:
        context.progress(1)
        return context.call_id

    assert reports(ToolContext("call", "run")) == "call"
    assert reports(ToolContext("call", "run", published.append)) == "call"
    assert [bytes(raw) for raw in published] == [b"1"]


@pytest.mark.parametrize("data", [math.nan, "\ud800", object(), "x" * MAX_PROGRESS_BYTES])
async def test_progress_that_does_not_fit_is_the_tools_fault(data: object) -> None:
    published: list[msgspec.Raw] = []

    async def reports(context: ToolContext) -> None:
        context.progress(data)

    outcome = await tool(reports).call("", ToolContext("call", "run", published.append))
    assert (outcome.content, published) == ("The tool reports failed (ValueError).", [])


async def test_a_bug_behind_progress_is_not_the_tools_failure() -> None:
    def broken(raw: msgspec.Raw) -> None:
        raise LocalProtocolError("our bug")

    async def reports(context: ToolContext) -> None:
        context.progress(1)

    with pytest.raises(BaseExceptionGroup) as caught:
        await tool(reports).call("", ToolContext("call", "run", broken))
    assert caught.group_contains(LocalProtocolError)


async def test_tools_share_the_threads_of_the_trio_run() -> None:
    first, second = context().threads(), context().threads()
    assert first is second
    assert first.total == MAX_THREADS


async def test_a_tool_cannot_be_a_generator_but_may_use_one() -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def collects() -> list[int]:
        return [n async for n in numbers()]

    assert (await outcome_of(collects)).content == "[1]"
