"""What a page of another site can make a browser send without being asked: it starts nothing and reads nothing."""

from itertools import product
from pathlib import Path

from sluicegate.providers.script import Say, Stall
from sluicegate.service.access import Grants
from sluicegate.service.key_file import KeyFile, KeyRing
from sluicegate.service.keys import make_key
from sluicegate.service.options import ServiceOptions
from tests.security.rows import COUNTS
from tests.service.harness import JSON, LINKS, over, stack
from tests.service.test_cors import NAMED, OTHERS

BODY = b'{"messages":[{"role":"user","content":"Hi"}]}'
# All that a browser sends across sites without asking first (Fetch, "CORS-safelisted request-header"), and near misses.
SAFELISTED = (
    "", "text/plain", "text/plain; charset=utf-8", "text/plain;application/json", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=application/json", "TEXT/PLAIN", "text/plain, application/json",
    "application/json, text/plain", "application/jsonp", "application/json+x", "text/json", "*/*", "application/*",
    "text/plain; x=application/json", "application/x-www-form-urlencoded\tapplication/json",
)  # fmt: skip
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
BODIES = (BODY, b"messages=" + BODY, b'{"messages":[{"role":"user","content":"Hi","name":"=' + b'"}]}')


@LINKS
def test_what_a_page_can_send_unasked_starts_nothing(socket: bool) -> None:
    """Nor may it read the refusal; also where other origins are named."""
    assert len(OTHERS) >= COUNTS["origins"]

    async def main() -> None:
        options = ServiceOptions(cors_origins=NAMED)
        async with stack([], socket=socket, options=options) as up:
            for origin, (media_type, body) in product(OTHERS, product(SAFELISTED, BODIES)):
                fields = {"Origin": origin, "Sec-Fetch-Site": "cross-site", "Cookie": "session=1"}
                if media_type:
                    fields["Content-Type"] = media_type
                answer = await (await up.open("POST", "/chat", body, fields)).answer()
                assert (answer.status, answer.error["field"]) == (415, "Content-Type"), (media_type, answer)
                assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]
            assert up.transport.requests == []

    over(socket, main)


@LINKS
def test_a_page_cannot_stop_a_run_by_what_it_may_send(socket: bool) -> None:
    """Methods that need no preflight change nothing, whatever they say they override; nor does the path of a run."""

    async def main() -> None:
        async with stack([[Say("Well "), Stall()]], socket=socket) as up:
            stream = await up.open("POST", "/chat", BODY, JSON)
            await stream.until(b"Well")
            for method, name in product(("GET", "POST", "HEAD"), OVERRIDES):
                for path in (f"/runs/{stream.run_id}", f"/runs/{stream.run_id}?_method=DELETE"):
                    answer = await (await up.open(method, path, b"", {name: "DELETE", "Origin": OTHERS[0]})).answer()
                    assert answer.status in (404, 405)
            assert up.driver(stream).run.terminal is None
            await stream.leave()

    over(socket, main)


@LINKS
def test_cookies_are_no_access(socket: bool, tmp_path: Path) -> None:
    """A browser would send them by itself: a key counts in `Authorization` alone, and no answer sets one."""
    made = make_key("me", 0.0, Grants())
    KeyFile(tmp_path / "keys.json").add(made.key)
    places = (
        {"Cookie": made.text}, {"Cookie": f"Authorization=Bearer {made.text}"}, {"Cookie": f"key={made.text}"},
        {"X-Api-Key": made.text}, {"Api-Key": made.text}, {"Proxy-Authorization": f"Bearer {made.text}"},
        {"Authorization": f"Basic {made.text}"}, {"Authorization": made.text},
    )  # fmt: skip

    async def main() -> None:
        async with stack(lambda _: [Say("Yes.")], socket=socket, access=KeyRing(tmp_path / "keys.json")) as up:
            for fields in places:
                answer = await (await up.open("POST", "/chat", BODY, {**JSON, **fields})).answer()
                assert answer.status == 401, fields
                assert answer.header("Set-Cookie") is None
            for path in (f"/chat?key={made.text}", f"/chat?access_token={made.text}"):
                assert (await (await up.open("POST", path, BODY, JSON)).answer()).status in (401, 404)
            answer = await (
                await up.open("POST", "/chat", BODY, {**JSON, "Authorization": f"Bearer {made.text}"})
            ).answer()
            assert (answer.status, answer.header("Set-Cookie")) == (200, None)

    over(socket, main)
