"""No text of a request makes the service connect: URLs in every place, a listener that must not hear of it, and the
system calls of this process.
"""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
import trio

from sluicegate.providers.script import Say
from sluicegate.service.options import IssuerOptions
from sluicegate.service.tokens import Tokens
from tests.security.rows import COUNTS
from tests.service.harness import JSON, LINKS, Stack, over, record_bodies, stack, virtually
from tests.service.test_tokens import AUDIENCE, ISSUER, OTHER, RSA_SET, claims

TARGETS = (
    "http://127.0.0.1:{p}/", "https://127.0.0.1:{p}/x.png", "http://localhost:{p}/", "https://localhost:{p}/x.png",
    "http://[::1]:{p}/", "https://[::ffff:127.0.0.1]:{p}/", "http://127.1:{p}/", "http://2130706433:{p}/",
    "https://0x7f000001:{p}/", "http://0177.0.0.1:{p}/", "http://0.0.0.0:{p}/", "https://[::]:{p}/",
    "http://user:password@127.0.0.1:{p}/", "https://example.com@127.0.0.1:{p}/", "https://127.0.0.1:{p}#@example.com/",
    "https://127.0.0.1:{p}?@example.com/", "https://127.0.0.1:{p}\\@example.com/", "http://127.0.0.1:{p}/redirect?to=x",
    "http://%31%32%37.0.0.1:{p}/", "http://127。0。0。1:{p}/", "http://①②⑦.0.0.1:{p}/", "http://localhost.:{p}/",
    "https://localtest.me:{p}/", "https://127.0.0.1.nip.io:{p}/", "//127.0.0.1:{p}/x", "\\\\127.0.0.1@{p}\\share",
    "HTTP://127.0.0.1:{p}/", "https:127.0.0.1:{p}", "https:///127.0.0.1:{p}/", "http://169.254.169.254/latest/meta-data/",
    "https://metadata.google.internal/computeMetadata/v1/", "file://{f}", "file://localhost{f}", "ftp://127.0.0.1:{p}/x",
    "gopher://127.0.0.1:{p}/_GET%20/", "dict://127.0.0.1:{p}/d:x", "ldap://127.0.0.1:{p}/x", "jar:http://127.0.0.1:{p}!/x",
    "ws://127.0.0.1:{p}/", "unix:{f}", "data:image/svg+xml,<svg><image href='http://127.0.0.1:{p}/'/></svg>",
    "data:text/html,<img src=http://127.0.0.1:{p}/>", "blob:http://127.0.0.1:{p}/x", "{f}", "127.0.0.1:{p}",
)  # fmt: skip
HI = b'{"messages":[{"role":"user","content":"Hi"}]}'
HEADERS = (
    "Origin", "Referer", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "X-Original-URL",
    "X-Rewrite-URL", "X-Base-URL", "X-Callback-URL", "Proxy", "Via", "From", "Destination", "Idempotency-Key",
    "Last-Event-ID", "traceparent", "OpenAI-Base-URL", "Authorization", "Cookie", "Accept", "Link",
)  # fmt: skip


class Calls:
    """The system calls of this process that reach out, while it is on."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []
        self._allowed = 0
        self._file = ""
        self._is_on = False
        sys.addaudithook(self._hear)

    @contextmanager
    def heard(self, allowed: int, file: Path) -> Iterator[None]:
        """Hear of connections and look-ups, but for the port `allowed`, and of `file` when it is opened."""
        self._allowed, self._file, self._is_on = allowed, str(file), True
        self.seen.clear()
        try:
            yield
        finally:
            self._is_on = False

    def _hear(self, event: str, details: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        reaches_out = event in ("socket.connect", "socket.sendto") and details[1][1] != self._allowed
        looks_up = event in ("socket.getaddrinfo", "socket.gethostbyname") and details[1:2] != (self._allowed,)
        if reaches_out or looks_up or (event == "open" and details[0] == self._file):
            self.seen.append((event, *details))


CALLS = Calls()  # a hook can never be taken out again, so there is one


def port_of(up: Stack) -> int:
    """The port of the service, which the test itself connects to."""
    return int(up.url.rpartition(":")[2] or 0)


def bodies(url: str) -> Iterator[dict[str, Any]]:
    """Yield a request with `url` in every place that takes text."""
    hi = {"role": "user", "content": "Hi"}
    image = {"type": "image_url", "image_url": {"url": url}}
    yield {"messages": [{"role": "user", "content": [image]}]}
    yield {"messages": [{"role": "user", "content": [image, {"type": "text", "text": url}]}], "system": url}
    yield {"messages": [{"role": "user", "content": f"Read {url} and ![this]({url})"}]}
    yield {"messages": [hi], "model": url}
    yield {"messages": [hi], "model": f"scripted:{url}"}
    yield {"messages": [hi], "tools": [url]}
    yield {"messages": [hi], "base_url": url}
    yield {"messages": [{**hi, "name": url}]}
    call = {"id": url, "name": url, "arguments": {"url": url}}
    result = {"role": "tool", "tool_call_id": url, "content": url}
    yield {"messages": [{"role": "assistant", "tool_calls": [call]}, result]}


async def ask_everything(up: Stack, url: str) -> list[int]:
    """Put `url` everywhere; return the statuses."""
    asked = [("POST", "/chat", msgspec.json.encode(body), JSON) for body in bodies(url)]
    if url.isascii():
        names = HEADERS if up.url else (*HEADERS, "Host")  # of which there can be only one
        asked += [("POST", "/chat", HI, {**JSON, name: url}) for name in names]
        paths = (url, f"/{url}", f"/runs/{url}/events", f"/runs/x/events?url={url}")
        asked += [("GET", path.replace(" ", "%20"), b"", {}) for path in paths]
        asked.append(("DELETE", f"/runs/{url}".replace(" ", "%20"), b"", {}))
    return [(await (await up.open(method, path, body, more)).answer()).status for method, path, body, more in asked]


class Canary:
    """A listener, and a file, of which nobody should know. `heard` counts its connections."""

    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self.file = file
        self.heard = 0

    @property
    def urls(self) -> list[str]:
        return [target.format(p=self.port, f=self.file) for target in TARGETS]

    async def listen(self, stream: trio.SocketStream) -> None:
        self.heard += 1
        await stream.aclose()


@asynccontextmanager
async def canary(folder: Path) -> AsyncIterator[Canary]:
    """Listen on a free port of loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    found = Canary(listener.socket.getsockname()[1], folder / "canary")
    found.file.write_text("canary")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, found.listen, [listener])
        yield found
        nursery.cancel_scope.cancel()


@pytest.mark.once
@LINKS
def test_no_url_of_a_request_is_ever_connected_to(socket: bool, tmp_path: Path) -> None:
    async def main() -> None:
        async with canary(tmp_path) as bird, stack(lambda _: [Say("Yes.")], socket=socket) as up:
            assert len(bird.urls) >= COUNTS["targets"]
            with CALLS.heard(port_of(up), bird.file):
                urls = bird.urls[::3] if socket else bird.urls
                statuses = [status for url in urls for status in await ask_everything(up, url)]
            assert (CALLS.seen, bird.heard) == ([], 0)
        assert len(statuses) > 30 * len(urls)
        assert set(statuses) <= {200, 204, 400, 404, 405}
        assert statuses.count(200) > len(statuses) // 2

    over(socket, main)


def test_images_are_passed_on_as_they_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with https: and data:image/, which only the provider fetches."""
    sent = record_bodies(monkeypatch)

    async def main() -> None:
        async with canary(tmp_path) as bird, stack(lambda _: [Say("Yes.")]) as up:
            for url in bird.urls:
                sent.clear()
                quoted = msgspec.json.encode(url)
                body = msgspec.json.encode(next(bodies(url)))
                answer = await (await up.open("POST", "/chat", body, JSON)).answer()
                passed = url.startswith(("https://", "data:image/"))
                assert answer.status == (200 if passed else 400)
                assert [quoted in msgspec.json.encode(each) for each in sent] == [True] * passed

    virtually(main)


@LINKS
def test_a_token_does_not_say_where_its_key_is(socket: bool, tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_bytes(RSA_SET)

    async def main() -> None:
        access = Tokens([IssuerOptions(ISSUER, AUDIENCE, str(keys), "RS256")])
        async with canary(tmp_path) as bird, stack([], socket=socket, access=access) as up:
            with CALLS.heard(port_of(up), bird.file):
                for url in bird.urls:
                    for name in ("jku", "x5u", "kid"):
                        token = jwt.encode(claims(), OTHER, "RS256", {"kid": "k1", name: url})
                        fields = {**JSON, "Authorization": f"Bearer {token}"}
                        answer = await (await up.open("POST", "/chat", HI, fields)).answer()
                        assert answer.status == 401
            assert (CALLS.seen, bird.heard) == ([], 0)

    over(socket, main)


@pytest.mark.sockets
async def test_the_canary_sees_a_connection(tmp_path: Path) -> None:
    async with canary(tmp_path) as bird:
        with CALLS.heard(0, bird.file):
            await (await trio.open_tcp_stream("localhost", bird.port)).aclose()
            bird.file.read_text()
        seen = {event for event, *_ in CALLS.seen}
        assert {"socket.connect", "socket.getaddrinfo", "open"} <= seen
        with trio.fail_after(30):
            while not bird.heard:
                await trio.lowlevel.checkpoint()
        seen_before = len(CALLS.seen)
        bird.file.read_text()
        assert len(CALLS.seen) == seen_before
