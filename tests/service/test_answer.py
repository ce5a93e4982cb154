"""The response that streams is one of Quart's, though it is made without Quart's own beginning."""

from types import SimpleNamespace
from typing import Any, cast

from quart import Response

from sluicegate.runtime.driver import Driver
from sluicegate.service.stream import Answer, Lease


def answer(run_id: str) -> Answer:
    driver, lease = SimpleNamespace(run=SimpleNamespace(run_id=run_id)), SimpleNamespace(reader=None)
    return Answer(cast(Driver, driver), cast(Lease, lease))


def test_it_has_all_that_quarts_response_has() -> None:
    made, stock = answer("r"), Response(b"", status=200)
    assert vars(stock).keys() <= vars(made).keys()
    own = {"headers", "response", "timeout"}
    assert {name: vars(made)[name] for name in vars(stock).keys() - own} == {
        name: value for name, value in vars(stock).items() if name not in own
    }
    assert (made.status_code, made.status, made.mimetype) == (200, "200 OK", "text/event-stream")


def test_nothing_of_one_is_anothers() -> None:
    first, second = answer("a"), answer("b")
    first.headers["X-Mine"] = "1"
    first.status_code = 503
    first.set_cookie("c", "d")
    assert "X-Mine" not in second.headers
    assert second.status_code == 200
    assert "Set-Cookie" not in second.headers
    shared: list[Any] = [
        value
        for name, value in vars(first).items()
        if value is vars(second)[name] and isinstance(value, dict | list | set)
    ]
    assert shared == [], "what can be changed is made for each"
