"""The printed site in a real nginx: no token is held back, who leaves is gone, long silences and all answers pass."""

import os
import shutil
import socket as sockets
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from sluicegate.cli.deploy import nginx
from sluicegate.providers.script import Pause, Reply, Say, Stall
from sluicegate.runtime.options import RunOptions
from sluicegate.service.limits import Limits
from sluicegate.service.options import LimitOptions, Rates, ServiceOptions
from sluicegate.settings import read

from ..service.harness import JSON, SocketExchange, Stack, read_frames, stack, text_of

pytestmark = [pytest.mark.sockets, pytest.mark.once]

BODY = b'{"messages": [{"role": "user", "content": "Hi"}]}'
MAIN = """\
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


def free_port() -> int:
    with sockets.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(site: str, folder: Path) -> Iterator[int]:
    """nginx with `site`, on a port of its own; ended with the context."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is not installed", pytrace=False)
        pytest.skip("nginx is not installed")
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};")
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, site=site, user=user))
    with subprocess.Popen(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    ) as process:
        try:
            yield port
        finally:
            process.terminate()


@asynccontextmanager
async def behind_nginx(
    script: Reply,
    folder: Path,
    run: RunOptions | None = None,
    told: RunOptions | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[Stack]:
    """A service with `script`, reached by way of nginx, which is configured for the options `told`."""
    options = ServiceOptions(hold_seconds=0.1, max_body_bytes=1_000_000, trusted_proxies=("127.0.0.1",))
    run = run or RunOptions()
    async with stack(lambda _: script, socket=True, run=run, options=options, limits=limits) as up:
        host, _, port = up.url.removeprefix("http://").rpartition(":")
        arguments = {"host": host, "port": port}
        settings = read(None, {"server": arguments}).model_copy(update={"service": options, "run": told or run})
        with running(nginx(settings, None), folder) as front:
            direct, up.url = up.url, f"http://127.0.0.1:{front}"
            with trio.fail_after(10):
                while True:
                    try:
                        await (await trio.open_tcp_stream("127.0.0.1", front)).aclose()
                        break
                    except OSError:
                        await trio.sleep(0.01)
            yield up
            up.url = direct


async def test_no_token_is_held_back_and_who_leaves_ends_the_run(tmp_path: Path) -> None:
    """200 drops: the provider's stream is closed each time."""
    async with behind_nginx([Say("Well "), Stall()], tmp_path) as up:
        for _ in range(200):
            stream = await up.open("POST", "/chat", BODY, JSON)
            with trio.fail_after(10):
                await stream.until(b"Well")
                assert up.transport.active == 1
                await stream.leave()
                await up.service.runs.wait_none()
            assert up.transport.active == 0


async def test_a_stream_outlives_a_silence_as_long_as_it_has_heartbeats(tmp_path: Path) -> None:
    """The configured timeout is 1 s here, the silence 2.5 s. Without the heartbeats nginx cuts the stream off."""
    script: Reply = [Say("Well "), Pause(2.5), Say("then.")]
    beating = RunOptions(heartbeat_seconds=0.2)
    async with behind_nginx(script, tmp_path, beating) as up:
        answer = await (await up.open("POST", "/chat", BODY, JSON)).answer()
        assert text_of(read_frames(answer.body)) == "Well then."
    (tmp_path / "silent").mkdir()
    async with behind_nginx(script, tmp_path / "silent", RunOptions(heartbeat_seconds=60.0), beating) as up:
        stream = await up.open("POST", "/chat", BODY, JSON)
        with pytest.raises(Exception, match="peer closed connection"):
            await stream.answer()
        await stream.leave()


async def test_every_answer_passes_as_it_is(tmp_path: Path) -> None:
    long = "words " * 50_000
    async with behind_nginx([Say(long)], tmp_path) as up:
        answer = await (await up.open("POST", "/chat", BODY, JSON)).answer()
        assert text_of(read_frames(answer.body)) == long
        assert answer.header("Cache-Control") == "no-cache, no-transform"
        again = await up.get(answer.header("Run-Id") or "")
        assert again.body == answer.body
        refused = await (await up.open("POST", "/chat", b"{}", JSON)).answer()
        assert (refused.status, refused.error["code"]) == (400, "INVALID_REQUEST")
        for _ in range(20):  # and each of them leaves connections behind that can be used
            assert (await (await up.open("POST", "/chat", b" " * 1_000_001, JSON)).answer()).status == 413
            assert (await (await up.open("POST", "/chat", b" " * 1_000_000, JSON)).answer()).status == 400
            assert (await up.delete("none")).status == 404


async def test_each_client_is_counted_by_its_own_address_whatever_it_writes(tmp_path: Path) -> None:
    """Three of them, on addresses of the loopback network; nginx asks from a fourth, which is trusted."""
    made_up = [{}, *({"X-Forwarded-For": f"198.51.100.{number}"} for number in range(20)), {"X-Forwarded-For": "junk,"}]
    limits = Limits(LimitOptions(address=Rates(requests_per_minute=3)))
    async with behind_nginx([Say("Hello.")], tmp_path, limits=limits) as up:
        host, _, port = up.url.removeprefix("http://").rpartition(":")
        for client in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            statuses = []
            for more in made_up:
                exchange = SocketExchange(await trio.open_tcp_stream(host, int(port), local_address=client))
                await exchange.ask("POST", "/chat", {**JSON, **more}, BODY)
                statuses.append((await exchange.answer()).status)
            assert statuses == [200] * 3 + [429] * 19
