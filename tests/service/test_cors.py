"""CORS: pages of the named origins may read every answer, other pages none."""

import pytest

from sluicegate.providers.script import Fail, Reply, Say, Stall
from sluicegate.runtime.options import RunOptions
from sluicegate.service.key_file import KeyRing
from sluicegate.service.limits import Limits
from sluicegate.service.options import LimitOptions, Rates, ServiceOptions

from .harness import JSON, LINKS, Answer, Stack, over, stack

BODY = b'{"messages": [{"role": "user", "content": "Hi"}]}'
NAMED = ("https://app.example.com", "http://localhost:5173")
OTHERS = (
    "https://app.example.com.evil.test", "https://evil.test", "http://app.example.com", "https://app.example.com:8443",
    "https://sub.app.example.com", "HTTPS://APP.EXAMPLE.COM", "null", "*",
)  # fmt: skip
ALLOWED = "Access-Control-Allow-Origin"


async def answers(up: Stack, origin: str) -> list[Answer]:
    """One answer of every kind that does not need a service of its own."""
    from_page = {"Origin": origin}
    asked = [
        ("POST", "/chat", BODY, JSON),
        ("POST", "/chat", b"{}", JSON),
        ("POST", "/chat", BODY, {"Content-Type": "text/plain"}),
        ("GET", "/runs/none/events", b"", {}),
        ("DELETE", "/runs/none", b"", {}),
        ("GET", "/none", b"", {}),
        ("PUT", "/chat", b"", {}),
        ("GET", "/healthz", b"", {}),
        ("OPTIONS", "/chat", b"", {"Access-Control-Request-Method": "POST"}),
        ("OPTIONS", "/runs/x", b"", {"Access-Control-Request-Method": "DELETE"}),
    ]
    return [
        await (await up.open(method, path, body, {**more, **from_page})).answer() for method, path, body, more in asked
    ]


@LINKS
def test_only_named_origins_may_read_answers(socket: bool) -> None:
    async def main() -> None:
        options = ServiceOptions(cors_origins=NAMED)
        async with stack(lambda _: [Say("Hello.")], socket=socket, options=options) as up:
            for origin in (*NAMED, *OTHERS):
                found = await answers(up, origin)
                assert [each.status for each in found] == [200, 400, 415, 404, 404, 404, 405, 200, 200, 200]
                for each in found:
                    assert each.header(ALLOWED) == (origin if origin in NAMED else None)
                    assert each.header("Access-Control-Allow-Credentials") is None
                    assert each.header("Vary") == "Origin"
            preflight = (await answers(up, NAMED[0]))[-1]
            assert preflight.header("Access-Control-Allow-Methods") == "GET, POST, DELETE"
            assert "Authorization" in (preflight.header("Access-Control-Allow-Headers") or "")

    over(socket, main)


@LINKS
def test_refusals_of_all_kinds_may_be_read_as_well(socket: bool) -> None:
    """Before a run is (no key, too many, no room) and before its first word."""

    async def main() -> None:
        options = ServiceOptions(cors_origins=NAMED)
        page = {**JSON, "Origin": NAMED[0]}
        failing: list[Reply] = [[Fail()]]
        limits = Limits(LimitOptions(key=Rates(1)))
        async with stack(failing, socket=socket, options=options, limits=limits) as up:
            for status in (503, 429):
                answer = await (await up.open("POST", "/chat", BODY, page)).answer()
                assert (answer.status, answer.header(ALLOWED)) == (status, NAMED[0])
        full = RunOptions(max_runs=1)
        async with stack([[Say("Well "), Stall()]], socket=socket, options=options, run=full) as up:
            stream = await up.open("POST", "/chat", BODY, page)
            await stream.until(b"Well")
            answer = await (await up.open("POST", "/chat", BODY, page)).answer()
            assert (answer.status, answer.header(ALLOWED), answer.header("Vary")) == (503, NAMED[0], "Origin")
            other = await (await up.open("POST", "/chat", BODY, {**page, "Origin": OTHERS[0]})).answer()
            assert (other.status, other.header(ALLOWED)) == (503, None)
            await stream.leave()

    over(socket, main)


@LINKS
def test_without_the_setting_there_is_nothing_of_it(socket: bool) -> None:
    async def main() -> None:
        async with stack(lambda _: [Say("Hello.")], socket=socket) as up:
            for each in await answers(up, NAMED[0]):
                assert not [name for name, _ in each.headers if name.lower().startswith(("access-control", "vary"))]

    over(socket, main)


@LINKS
def test_a_page_without_a_key_gets_its_401_to_read(socket: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    async def main() -> None:
        access = KeyRing(tmp_path_factory.mktemp("keys") / "keys.json")
        options = ServiceOptions(cors_origins=NAMED)
        async with stack([], socket=socket, options=options, access=access) as up:
            answer = await (await up.open("POST", "/chat", BODY, {**JSON, "Origin": NAMED[0]})).answer()
            assert (answer.status, answer.header(ALLOWED)) == (401, NAMED[0])
            preflight = {"Origin": NAMED[0], "Access-Control-Request-Method": "POST"}
            assert (await (await up.open("OPTIONS", "/chat", b"", preflight)).answer()).status == 200

    over(socket, main)


@LINKS
def test_browsers_are_told_to_take_every_answer_for_what_it_is_called(socket: bool) -> None:
    async def main() -> None:
        async with stack(lambda _: [Say("Hello.")], socket=socket) as up:
            for each in (await answers(up, NAMED[0]))[:8]:
                assert each.header("X-Content-Type-Options") == "nosniff"
                assert (each.header("Cache-Control") or "").startswith("no-")

    over(socket, main)


@pytest.mark.parametrize(
    "origin",
    [
        "*", "null", "", "app.example.com", "https://", "https://a/", "https://a/b", "https://a?b", "https://u@a",
        "https://A", "https://a:443", "http://a:80", "https://a:x", "https://*.a", "ftp://a", "https://a:99999",
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"cors_origins: must be origins as browsers write them"):
        ServiceOptions(cors_origins=(origin,))


@pytest.mark.parametrize(
    "origin", [*NAMED, "https://a", "http://127.0.0.1:3000", "http://[::1]:3000", "https://xn--a.b"]
)
def test_an_origin_that_browsers_send_is_taken(origin: str) -> None:
    assert ServiceOptions(cors_origins=(origin,)).cors_origins == (origin,)
