"""The command line as its users meet it: real processes, a real terminal where it matters."""

import fcntl
import json
import math
import os
import platform
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from sluicegate.cli import main
from sluicegate.cli.chat import show
from sluicegate.cli.parser import parse
from sluicegate.cli.settings import settings_of
from sluicegate.client import Client, Transcript
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.limits import RunLimits
from sluicegate.providers.script import Call, Cut, Fail, Reply, Say, Stall, Think
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.providers.transport import TrioTransport
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.spool import SpoolOptions
from sluicegate.runtime.spool_reader import read_spool
from sluicegate.server.options import ServerOptions
from sluicegate.service.options import ServiceOptions
from sluicegate.wire.downstream.native import NativeEncoder

from .client.rig import EPOCH, HI, TALK, Fake, Memory, client_of, frames_of
from .client.rig import Cut as Lost
from .client.service_rig import proxied
from .service.harness import Stack, eventually, stack
from .service.test_errors import recorded
from .sockets.caller import Caller, calling
from .sockets.h2_caller import H2Caller, calling_h2
from .sockets.upstream import Plan, running_upstream

SOURCE = Path(__file__).resolve().parent.parent / "src"
COMMAND = [sys.executable, "-c", "import sys; from sluicegate.cli import main; sys.exit(main())"]
CANARY = "sk-canary-0123456789abcdef"
DRAIN = 0.5  # seconds
# The system calls, by number and first argument, in which a program waits for its terminal: read(0, ...), or, where
# something has imported readline, pselect6(1, ...).
WAITS = {"x86_64": ("0 0x0", "270 0x1"), "aarch64": ("63 0x0", "72 0x1")}[platform.machine()]
PROVIDERS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in PROVIDERS}
    return {**kept, "PYTHONPATH": str(SOURCE), **more}


# --- serve


class Served:
    """A `sluicegate serve` process, and what it printed until it said where it listens."""

    def __init__(self, process: trio.Process, printed: str) -> None:
        self.process = process
        self.printed = printed
        found = re.search(r"http://127\.0\.0\.1:(\d+)/chat", printed)
        assert found is not None, printed
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return exit code and everything that was printed."""
        self.process.send_signal(number)
        assert self.process.stdout is not None
        with trio.fail_after(DRAIN + 2):
            printed = self.printed + (await drained(self.process.stdout)).decode()
            return await self.process.wait(), printed


async def drained(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([piece async for piece in stream])


@asynccontextmanager
async def serving(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> AsyncIterator[Served]:
    process = await trio.lowlevel.open_process(
        [*COMMAND, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(**(env or {})),
        cwd=cwd,
    )
    assert process.stdout is not None
    try:
        printed = b""
        with trio.fail_after(30):
            while b"/chat with" not in printed or not printed.endswith(b"\n"):
                piece = await process.stdout.receive_some()
                assert piece, printed
                printed += piece
        yield Served(process, printed.decode())
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


@pytest.mark.sockets
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_service_and_tells_its_readers(number: signal.Signals) -> None:
    """What does not end by itself within `drain_seconds`, that is; the process is out 2 s later at the latest."""
    async with serving("--set", f"drain_seconds={DRAIN}") as served, Client(served.url) as client:
        assert served.port > 0
        idle = await trio.open_tcp_stream("127.0.0.1", served.port)
        async with client.chat([{"role": "user", "content": "Tell me about yourself, please."}]) as stream:
            async for frame in stream:
                if frame.content:
                    break
            began = trio.current_time()
            served.process.send_signal(number)
            frames = [frame async for frame in stream]
        error = frames[-1].error or {}
        assert (error["code"], error["retryable"]) == ("SHUTTING_DOWN", True)
        assert served.process.stdout is not None
        with trio.fail_after(began + DRAIN + 2 - trio.current_time()):
            printed = served.printed + (await drained(served.process.stdout)).decode()
            assert await served.process.wait() == 0
        await idle.aclose()
        assert "with scripted (model scripted-demo)" in printed
        assert "Traceback" not in printed


@pytest.mark.sockets
async def test_a_second_signal_ends_what_is_left_at_once() -> None:
    async with serving("--set", "drain_seconds=1000") as served, Client(served.url) as client:
        async with client.chat([{"role": "user", "content": "Tell me about yourself, please."}]) as stream:
            served.process.send_signal(signal.SIGTERM)
            await no_longer_ready(served.url)
            served.process.send_signal(signal.SIGTERM)
            frames = [frame async for frame in stream]
        assert (frames[-1].error or {})["code"] == "SHUTTING_DOWN"
        served.process.send_signal(signal.SIGTERM)
        with trio.fail_after(30):
            assert await served.process.wait() == 0


async def no_longer_ready(url: str) -> None:
    async with httpx2.AsyncClient(transport=TrioTransport(), trust_env=False) as http:
        with trio.fail_after(10):
            while (await http.get(f"{url}/readyz")).status_code == httpx2.codes.OK:
                pass


@pytest.mark.sockets
@pytest.mark.alone
async def test_a_signal_is_obeyed_in_time_whatever_clients_do() -> None:
    """50 clients stop reading over HTTP/1.1, 50 over HTTP/2 with a shut window, in a flood of words."""
    async with running_upstream() as upstream, AsyncExitStack() as clients:
        base_url = f"http://127.0.0.1:{upstream.port}/v1"
        settings = ("--set", f"drain_seconds={DRAIN}")
        env = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": base_url}
        served = await clients.enter_async_context(serving(*settings, env=env))
        for number in range(100):
            caller: Caller | H2Caller
            if number % 2:
                caller = await clients.enter_async_context(calling(served.port))
            else:
                caller = await clients.enter_async_context(calling_h2(served.port, window=0))
            await caller.chat(Plan(number, "text"))
            await caller.hear_head()
        with trio.fail_after(30):
            for number in range(100):
                await upstream.asked[number, 1].wait()
        began = trio.current_time()
        code, printed = await served.end()
        assert code == 0
        assert trio.current_time() - began < DRAIN + 2
        assert "Traceback" not in printed


@pytest.mark.sockets
async def test_an_answer_that_is_under_way_is_finished_before_the_service_ends() -> None:
    async with serving("--set", "drain_seconds=20") as served, Client(served.url) as client:
        async with client.chat([{"role": "user", "content": "What is 6 times 7?"}]) as stream:
            served.process.send_signal(signal.SIGTERM)
            frames = [frame async for frame in stream]
        assert frames[-1].done
        with trio.fail_after(10):
            assert await served.process.wait() == 0


@pytest.mark.sockets
async def test_usage_is_kept_in_files_where_that_is_asked_for(tmp_path: Path) -> None:
    """One process at a time; what one leaves, the next goes on with."""
    spool = tmp_path / "usage"
    for count in (1, 2):
        async with serving("--spool", str(spool)) as served, Client(served.url) as client:
            async with client.chat([{"role": "user", "content": "What is 6 times 7?"}]) as stream:
                assert [frame async for frame in stream][-1].done
            other = await trio.run_process(
                [*COMMAND, "serve", "--port", "0", "--spool", str(spool)],
                capture_stderr=True,
                check=False,
                env=environment(),
            )
            assert other.returncode == 1
            assert str(spool).encode() in other.stderr
            assert b"Traceback" not in other.stderr
            assert (await served.end())[0] == 0
        settled = list(read_spool(spool))
        assert len({settlement.run_id for settlement in settled}) == len(settled) == count
        assert all(settlement.outcome == "stop" for settlement in settled)


SETTINGS = {
    "nothing=1": "there is no setting 'nothing'; the names are tools, server.host",
    "run_seconds": "must be NAME=VALUE",
    "run_seconds=soon": "run.run_seconds: must be a number, is 'soon' (an argument)",
    "run.run_seconds=-1": "run.run_seconds: must be at least 0",
    "run_seconds=nan": "run.run_seconds: must be at least 0",
    "kept_runs=1.5": "run.kept_runs: must be a whole number",
    "detach=maybe": "service.detach: must be true or false",
    "heartbeat_seconds=0": "run.heartbeat_seconds: must be more than 0",
    "max_upstreams=0": "upstream.max_upstreams: must be at least 1",
    "port=65536": "server.port: must be at most 65535",
    "port=x": "server.port: must be a whole number",
}


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(("text", "words"), SETTINGS.items())
def test_a_setting_that_is_wrong_is_named_with_its_cure(
    command: str, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([command, "--set", text])
    except SystemExit as exited:
        status = exited.code  # type: ignore[assignment]  # argparse exits with a number
    assert status == 2
    assert words in capsys.readouterr().err


def test_settings_go_where_they_belong() -> None:
    given = ["--set", "run_seconds=7", "--set", "detach=false", "--set", "run.limits.steps=3", "--port", "0"]
    settings = settings_of(parse(["serve", *given, "--spool", "usage", "--profile", "minimal"]))
    assert settings.run == RunOptions(run_seconds=7, limits=RunLimits(steps=3))
    assert settings.service == ServiceOptions(detach=False)
    assert settings.server == ServerOptions(port=0)
    assert settings.spool == SpoolOptions(Path("usage"))
    assert settings.upstream == UpstreamOptions(profile="minimal")


def test_check_prints_what_is_in_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sluicegate.toml"
    file.write_text("[run]\nstall_seconds = 30\nrun_seconds = 5\n")
    assert main(["check", "--config", str(file), "--set", "run_seconds=inf"]) == 0
    printed = capsys.readouterr().out
    assert "stall_seconds = 30  # default 120" in printed
    assert tomllib.loads(printed)["run"]["run_seconds"] == math.inf


def test_the_environment_may_name_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEGATE_CONFIG", str(tmp_path / "none.toml"))
    assert main(["check"]) == 2
    assert "none.toml: cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.sockets
async def test_tools_of_a_file_in_the_current_directory_answer_the_demo_question(tmp_path: Path) -> None:
    (tmp_path / "my_tools.py").write_text(
        "def count_bridges(city: str) -> str:\n"
        '    """Count the bridges of a city.\n\n    Args:\n        city: Name of the city.\n    """\n'
        '    return f"{city} has 37 bridges"\n\n\ntools = [count_bridges]\n'
    )
    async with serving("--tools", "my_tools:tools", cwd=tmp_path) as served, Client(served.url) as client:
        async with client.chat([{"role": "user", "content": "How many bridges does Paris have?"}]) as stream:
            frames = [frame async for frame in stream]
        assert [frame.tool_calls for frame in frames if frame.tool_calls] == [["count_bridges"]]
        assert "Paris has 37 bridges" in "".join(frame.content or "" for frame in frames)
        assert frames[-1].done


@pytest.mark.sockets
async def test_no_key_is_ever_printed(tmp_path: Path) -> None:
    """With both keys, an address that nobody listens on, and a request that fails: nothing printed shows a key."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        env = {"OPENAI_API_KEY": CANARY, "ANTHROPIC_API_KEY": CANARY + "-2"}
        env |= {"OPENAI_BASE_URL": address, "ANTHROPIC_BASE_URL": address, "OPENAI_LOG": "debug"}
        async with serving(env=env) as served:
            async with httpx2.AsyncClient(base_url=served.url, trust_env=False, timeout=20) as http:
                for model in ("", "claude-sonnet-5"):
                    body = {"messages": [{"role": "user", "content": "Hi"}], "model": model}
                    answer = await http.post("/chat", json=body)
                    assert answer.status_code in (200, 503)
                    assert "UPSTREAM_ERROR" in answer.text
                    assert CANARY not in answer.text
            status, printed = await served.end()
    assert status == 0
    assert "with openai, anthropic (model gpt-5-mini)" in printed
    assert CANARY not in printed


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROVIDERS:
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"sluicegate serve: cannot listen on 127.0.0.1:{port}: ")
    assert "Address already in use" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere_at_all:tools", ["nowhere_at_all", "run from its directory, install it, or check the name"]),
        ("json:nothing", ["json", "nothing", "check the name after the colon"]),
        ("json", ["'json'", "write module:attribute"]),
        ("json:JSONDecoder", ["json:JSONDecoder", "should be a Tool, a typed function"]),
        ("no_such_file.py:tools", ["no_such_file.py", "current directory"]),
        ("string:digits", ["string:digits", "should be"]),
    ],
)
def test_tools_that_cannot_be_had_are_said(target: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--tools", target]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sluicegate serve: ")
    assert all(word in err for word in words), err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--dialect", "x"], "openai_responses"),
        (["replay", "file"], "--dialect"),
        (["replay", "--dialect", "anthropic", "--pieces", "0", "file"], "must be at least 1"),
        ([], "COMMAND"),
        (["dance"], "serve"),
    ],
)
def test_bad_arguments_are_status_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert words in capsys.readouterr().err


# --- chat


async def chat(url: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, "chat", "--url", url, *arguments]
    with trio.fail_after(30):
        return await trio.run_process(
            command, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False, env=environment()
        )


@pytest.mark.sockets
async def test_a_single_question_prints_the_text_and_nothing_else() -> None:
    replies: list[Reply] = [
        [Think("Well."), Say("Let me see. "), Call("calculate", {"expression": "6*7"})],
        [Say("It is 42.")],
    ]
    async with stack(replies, socket=True) as up:
        ran = await chat(up.url, "--system", "Be brief.", "--model", "other", "What", "is", "6*7?")
        assert ran.returncode == 0
        assert ran.stdout.decode() == "Let me see. It is 42.\n"
        aside = ran.stderr.decode()
        assert all(words in aside for words in ("Well.", "[Calculating 6*7]", "[42]", "stop ("))
        assert "\x1b" not in aside, "no colours where no terminal is"
        said = [(message.role, message.text) for message in up.transport.requests[0].messages]
        assert said == [("system", "Be brief."), ("user", "What is 6*7?")]
        assert up.transport.requests[0].model == "other"


@pytest.mark.sockets
async def test_a_single_question_that_fails_is_status_1() -> None:
    async with stack([[Say("Half"), Fail(ErrorCode.RATE_LIMITED)], [Cut()]], socket=True) as up:
        ran = await chat(up.url, "Hi")
        assert (ran.returncode, ran.stdout) == (1, b"Half")
        assert "RATE_LIMITED: The provider limits the rate of requests." in ran.stderr.decode()
        ran = await chat(up.url, "Hi")
        assert (ran.returncode, ran.stdout) == (1, b"")
        assert "provider" in ran.stderr.decode()


@pytest.mark.sockets
async def test_without_a_service_chat_says_how_to_start_one() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        ran = await chat(url, "Hi")
        assert (ran.returncode, ran.stdout) == (1, b"")
        assert f"{url} cannot be reached" in ran.stderr.decode()
        assert "`sluicegate serve` starts a service" in ran.stderr.decode()
        assert "Traceback" not in ran.stderr.decode()


@pytest.mark.sockets
async def test_a_conversation_from_a_pipe() -> None:
    async with stack([[Say("First.")], [Cut()], [Say("Third.")]], socket=True) as up:
        ran = await chat(up.url, stdin=b"one\n\n  \ntwo\nthree\n")
        assert ran.returncode == 0
        assert [line for line in ran.stdout.decode().replace("\n> ", "\n").split("\n") if line] == ["First.", "Third."]
        said = [(message.role, message.text) for message in up.transport.requests[2].messages]
        assert said == [("user", "one"), ("assistant", "First."), ("user", "three")], "what got no answer is forgotten"


class Terminal:
    """A process whose terminal we hold the other end of."""

    def __init__(self, master: int, process: trio.Process) -> None:
        self._stream = trio.lowlevel.FdStream(master)
        self.process = process
        self.shown = ""

    async def see(self, words: str) -> None:
        """Wait until `words` are shown behind what was seen before."""
        with trio.fail_after(30):
            while words not in self.shown:
                self.shown += (await self._stream.receive_some()).decode()
        self.shown = self.shown.partition(words)[2]

    async def see_prompt(self) -> None:
        """Wait until the process shows its prompt and sleeps in the read of its terminal behind it: a signal that comes
        just before that read is seen only after it.
        """
        await self.see("> ")
        syscall = Path(f"/proc/{self.process.pid}/syscall")
        await eventually(lambda: " ".join(syscall.read_text().split()[:2]) in WAITS)

    async def press(self, keys: str) -> None:
        await self._stream.send_all(keys.encode())

    async def aclose(self) -> None:
        await self._stream.aclose()


def as_in_a_terminal() -> None:
    """Before the program starts: the terminal is its own, and Ctrl-C is not ignored, as it is for background jobs."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    process = await trio.lowlevel.open_process(
        [*COMMAND, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(TERM="dumb"),
        start_new_session=True,
        preexec_fn=as_in_a_terminal,
    )
    os.close(slave)
    found = Terminal(master, process)
    try:
        yield found
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await found.aclose()


@pytest.mark.sockets
async def test_a_conversation_in_a_terminal() -> None:
    """Ctrl-C stops an answer and keeps the conversation, at the prompt it only says how to leave; Ctrl-D leaves."""
    replies: list[Reply] = [[Say("Half an answer"), Stall()], [Say("Whole answer.")], [Stall()], [Say("Good bye.")]]
    async with stack(replies, socket=True) as up, terminal("chat", "--url", up.url) as shell:
        await shell.see("Ctrl-D leaves.")
        await shell.see_prompt()
        await shell.press("\x03")
        await shell.see("Ctrl-D leaves.")
        await shell.see_prompt()
        await shell.press("first\n")
        await shell.see("Half an answer")
        assert up.transport.active == 1
        await shell.press("\x03")
        await shell.see("stopped")
        await shell.see_prompt()
        await eventually(lambda: up.transport.active == 0)
        await shell.press("second\n")
        await shell.see("Whole answer.")
        await shell.see("stop (")
        await shell.see_prompt()
        await shell.press("third\n")
        await eventually(lambda: up.transport.active == 1)
        await shell.press("\x03")
        await shell.see("stopped")
        await shell.see_prompt()
        await shell.press("fourth\n")
        await shell.see("Good bye.")
        await shell.see_prompt()
        await shell.press("\x04")
        with trio.fail_after(10):
            assert await shell.process.wait() == 0
        asked = [[(said.role, said.text) for said in request.messages] for request in up.transport.requests]
        kept = [("user", "first"), ("assistant", "Half an answer"), ("user", "second")]
        assert asked[1] == kept
        assert asked[3] == [*kept, ("assistant", "Whole answer."), ("user", "fourth")], "nothing was said to the third"


@pytest.mark.sockets
async def test_who_stops_reading_gets_no_traceback() -> None:
    """Standard output closed in mid-answer: the run ends, quietly."""
    replies: list[Reply] = [[Say("word " * 100_000, words=100), Stall()]]
    async with stack(replies, socket=True, run=RunOptions(log_room=16_384)) as up:
        process = await trio.lowlevel.open_process(
            [*COMMAND, "chat", "--url", up.url, "Hi"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.receive_some()
        await process.stdout.aclose()
        with trio.fail_after(20):
            assert await drained(process.stderr) == b""
            assert await process.wait() == 1
        await process.stderr.aclose()
        await eventually(lambda: up.transport.active == 0)


@pytest.mark.sockets
async def test_an_answer_whose_connection_is_lost_is_read_on_and_that_is_said() -> None:
    async with stack([[Say("One two three four five.")]] * 4, socket=True) as up:
        for at in (0, 300, 450, 550):  # before the response, and within it
            async with proxied(up.url, [Lost(at)]) as url:
                ran = await chat(url, "Hi")
            assert (ran.returncode, ran.stdout) == (0, b"One two three four five.\n"), at
            assert b"[connection lost, reconnecting ... (" in ran.stderr
        assert len(up.transport.requests) == 4


@pytest.mark.sockets
async def test_an_answer_that_stays_lost_is_an_error() -> None:
    """The service forgot the run: what came of the answer is shown, and that it is not all."""

    def cuts(up: Stack) -> Iterator[Lost | None]:
        yield Lost(400)
        while len(up.service.runs):
            yield Lost(0)
        yield None

    run = RunOptions(kept_runs=0)
    async with stack([[Say("Half an answer.")]], socket=True, run=run) as up, proxied(up.url, cuts(up)) as url:
        ran = await chat(url, "Hi")
    assert ran.returncode == 1
    assert "Half an answer.".startswith(ran.stdout.decode())
    assert b"the run is gone" in ran.stderr


@pytest.mark.sockets
async def test_without_detach_a_conversation_goes_on_and_says_once_what_that_means() -> None:
    options = ServiceOptions(detach=False)
    async with stack([[Say("First.")], [Say("Second.")]], socket=True, options=options) as up:
        ran = await chat(up.url, stdin=b"one\ntwo\n")
    assert ran.returncode == 0
    assert [line for line in ran.stdout.decode().replace("\n> ", "\n").split("\n") if line] == ["First.", "Second."]
    assert ran.stderr.count(b"does not allow detach") == 1


@pytest.mark.sockets
async def test_ctrl_c_while_the_connection_is_lost_stops_the_run_and_keeps_the_conversation() -> None:
    back = False

    def cuts() -> Iterator[Lost | None]:
        yield Lost(433)  # behind the first words
        while True:
            yield None if back else Lost(0)

    replies: list[Reply] = [[Say("Half an answer"), Stall()], [Say("Whole answer.")]]
    async with (
        stack(replies, socket=True) as up,
        proxied(up.url, cuts()) as url,
        terminal("chat", "--url", url) as shell,
    ):
        await shell.see_prompt()
        await shell.press("first\n")
        await shell.see("connection lost")
        assert up.transport.active == 1, "detached"
        back = True
        await shell.press("\x03")
        await shell.see("stopped")
        await shell.see_prompt()
        await eventually(lambda: up.transport.active == 0)
        await shell.press("second\n")
        await shell.see("Whole answer.")
        await shell.see_prompt()
        first, *_, last = [said.text for said in up.transport.requests[1].messages]
        assert (first, last) == ("first", "second")


async def test_a_snapshot_shows_only_what_was_not_shown_before(capsys: pytest.CaptureFixture[str]) -> None:
    raw = frames_of(TALK)
    encoder = NativeEncoder(EPOCH)
    encoder.fold(raw[:-2])
    for read in range(len(raw) - 2):
        memory = Memory(Fake([*raw[:read], encoder.gap(read, len(raw) - 2), *raw[-2:]]))
        async with client_of(memory) as client, client.chat(HI) as stream:
            assert await show(stream, Transcript())
        assert capsys.readouterr().out == "Let me see, é😀. It is 42.\n"


# --- replay

KEYS = [
    "file", "text", "reasoning", "refusal", "tool_calls", "finish_reason", "raw_finish_reason", "usage", "error",
]  # fmt: skip
REPLY: Reply = [Think("Hm."), Say("Hé 😀. "), Call("get_weather", {"city": "Paris"}, call_id="c1")]


@contextmanager
def recording(tmp_path: Path, dialect: str, data: bytes | None = None) -> Iterator[str]:
    path = tmp_path / f"{dialect}.sse"
    path.write_bytes(recorded(dialect, REPLY) if data is None else data)
    yield str(path)


def replayed(capsysbinary: pytest.CaptureFixture[bytes], *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    status = main(["replay", *arguments])
    out, err = capsysbinary.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err.decode()


@pytest.mark.parametrize("pieces", [[], ["--pieces", "1"], ["--pieces", "7"]])
@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic"])
def test_replay_prints_one_line_of_exactly_these_keys(
    dialect: str, pieces: list[str], tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with recording(tmp_path, dialect) as name:
        status, (line,), err = replayed(capsysbinary, "--dialect", dialect, *pieces, name)
    assert (status, err) == (0, "")
    assert list(line) == KEYS
    assert line["file"] == name
    assert (line["text"], line["reasoning"], line["refusal"], line["error"]) == ("Hé 😀. ", "Hm.", "", None)
    assert line["tool_calls"] == [{"id": "c1", "name": "get_weather", "arguments": {"city": "Paris"}}]
    assert line["finish_reason"] == "tool_calls"
    assert list(line["usage"]) == ["input_tokens", "output_tokens"]


def test_replay_of_a_cut_stream(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    data = recorded("openai_chat", [Say("Half an answer")])
    with recording(tmp_path, "openai_chat", data[: data.index(b'finish_reason":"stop')]) as name:
        status, (line,), _ = replayed(capsysbinary, "--dialect", "openai_chat", name)
    assert status == 0
    assert list(line) == KEYS
    assert line["text"] == "Half an answer"
    assert line["finish_reason"] is None
    assert list(line["error"]) == ["code", "message", "retryable", "truncated"]
    assert (line["error"]["code"], line["error"]["truncated"]) == ("UPSTREAM_ERROR", True)


def test_replay_goes_on_after_a_file_that_is_not_there(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with recording(tmp_path, "anthropic") as name:
        status, lines, err = replayed(capsysbinary, "--dialect", "anthropic", "nowhere.sse", name, str(tmp_path))
    assert status == 1
    assert [line["file"] for line in lines] == [name]
    assert "nowhere.sse: No such file or directory" in err
    assert "Is a directory" in err


def test_replay_of_an_empty_file_and_of_junk(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for data in (b"", b"\xff\x00junk", b"data: {\n\n"):
        for options in ([], ["--pieces", "1"]):
            with recording(tmp_path, "openai_chat", data) as name:
                status, (line,), _ = replayed(capsysbinary, "--dialect", "openai_chat", *options, name)
            assert status == 0
            assert line["error"]["code"] == "UPSTREAM_ERROR"


def test_replay_traces_every_transition(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with recording(tmp_path, "openai_chat") as name:
        assert main(["replay", "--dialect", "openai_chat", "--trace", name]) == 0
    lines = capsysbinary.readouterr().out.decode().splitlines()
    arrows = [re.fullmatch(r"(\w+) --(\w+)--> (\w+)", line) for line in lines]
    assert len(arrows) > 3
    states = [(arrow[1], arrow[3]) for arrow in arrows if arrow is not None]
    assert len(states) == len(arrows)
    assert all(states[at][1] == states[at + 1][0] for at in range(len(states) - 1))
    assert states[-1][1] == "done"


def test_replay_reads_standard_input_and_ends_quietly_when_nobody_reads(tmp_path: Path) -> None:
    with recording(tmp_path, "anthropic") as name:
        command = [*COMMAND, "replay", "--dialect", "anthropic", "-", *[name] * 2_000]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write(recorded("anthropic", [Say("From standard input.")]))
            process.stdin.close()
            line = json.loads(process.stdout.readline())
            assert (line["file"], line["text"]) == ("-", "From standard input.")
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(20) == 1
