"""The page's files: what is served is what was built, and under which policy."""

import gzip
from collections.abc import Awaitable, Callable

import pytest

from sluicegate.service.options import ServiceOptions
from sluicegate.service.page import POLICY, assets

from .harness import Stack, over, stack
from .test_telemetry import SAY


def serving(socket: bool, test: Callable[[Stack], Awaitable[None]], options: ServiceOptions | None = None) -> None:
    async def main() -> None:
        async with stack([SAY], socket=socket, options=options) as up:
            await test(up)

    over(socket, main)


@pytest.mark.parametrize("socket", [False, True], ids=["memory", "tcp"])
def test_every_file_is_there_packed_or_not_and_once(socket: bool) -> None:
    async def test(up: Stack) -> None:
        for path, asset in assets().items():
            plain = await (await up.open("GET", f"/{path}")).answer()
            assert (plain.status, plain.body) == (200, asset.body)
            packed = await (await up.open("GET", f"/{path}", b"", {"Accept-Encoding": "br, gzip"})).answer()
            assert packed.header("Content-Encoding") == "gzip"
            assert gzip.decompress(packed.body) == asset.body
            for answer in (plain, packed):
                assert answer.header("Content-Security-Policy") == POLICY
                assert answer.header("X-Content-Type-Options") == "nosniff"
                assert answer.header("Vary") == "Accept-Encoding"
            etag = plain.header("ETag") or ""
            known = await (await up.open("GET", f"/{path}", b"", {"If-None-Match": etag})).answer()
            assert (known.status, known.body) == (304, b"")
            kept = plain.header("Cache-Control") or ""
            assert ("immutable" in kept) == path.startswith("assets/")
        assert {"html", "js", "css", "svg"} == {(name or ".html").rpartition(".")[2] for name in assets()}

    serving(socket, test)


def test_nothing_else_is_there() -> None:
    async def test(up: Stack) -> None:
        for path in ("/index.html", "/assets/", "/assets/x.js", "/assets/..%2Findex.html", "/assets/../index.html"):
            assert (await (await up.open("GET", path)).answer()).status == 404

    serving(False, test)


def test_it_can_be_left_out() -> None:
    async def test(up: Stack) -> None:
        for path in ("/", *(f"/{name}" for name in assets())):
            assert (await (await up.open("GET", path)).answer()).status == 404

    serving(False, test, ServiceOptions(page=False))


def test_the_page_names_its_files_relative_to_itself_and_holds_no_script() -> None:
    """So that it may stand behind a path of a proxy, and the policy forbids nothing that it needs."""
    page = assets()[""].body.decode()
    assert 'src="./assets/' in page
    assert "<style" not in page
    assert "style=" not in page
    assert page.count("<script") == page.count('<script type="module" crossorigin src="./')
