"""README.md: every block is run, and every table is held against the code."""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sluicegate.cli import parser
from sluicegate.machine.errors import ErrorCode
from sluicegate.providers.sdk import UpstreamOptions
from sluicegate.runtime.options import RunOptions
from sluicegate.server.options import ServerOptions
from sluicegate.service.options import ServiceOptions
from sluicegate.service.problems import STATUS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
URL = "http://127.0.0.1:8000"
INSTALL = "python3 -m venv .venv && .venv/bin/pip install . && "
INSTALL_TESTS = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && "
RESERVED = {ErrorCode.REPLICA_LOST}

pytestmark = pytest.mark.sockets


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every shell command, its continuation lines joined."""
    return [line for block in blocks("sh") for line in block.replace("\\\n", "").splitlines() if line.strip()]


def here(command: str, url: str = URL) -> str:
    """`command` as it is run by the tests: programs of this environment, the address of the test's own server."""
    return command.replace(".venv/bin/", f"{shlex.quote(str(BIN))}/").replace(URL, url)


def run(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False, env=environment()
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}


@dataclass
class Served:
    url: str
    providers: str


@contextmanager
def serving(command: str, folder: Path) -> Iterator[Served]:
    """Run a `serve` command on a free port until the test is done with it; it must end cleanly."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec env {here(command)} --port 0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            said = re.match(r"sluicegate serves (http://\S+)/chat with (\w+)", line)
            assert said, f"{command}: {line!r}"
            yield Served(said[1], said[2])
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
    assert process.returncode == 0, rest


def servers() -> list[str]:
    """The commands that start the service, without the installation before them."""
    found = [command.rpartition("&& ")[2] for command in commands() if "sluicegate serve" in command]
    assert len(found) >= 5
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(servers()[0], tmp_path_factory.mktemp("readme")) as server:
        yield server


def frames(text: str) -> list[Any]:
    """What `text` says, without what differs from one run to the next: ids, and how words are cut into frames."""
    out: list[Any] = []
    for line in text.splitlines():
        if line == "...":
            out.append(...)
        elif line == "data: [DONE]":
            out.append("[DONE]")
        elif line.startswith("data: "):
            data = msgspec.json.decode(line.removeprefix("data: "))
            if "run" in data:
                data["run"]["id"] = "some run"
            if "content" not in data:
                out.append(data)
            elif not out or out[-1] != "words":
                out.append("words")
    return out


# -- the two commands ------------------------------------------------------------------------------------------------


def test_the_two_commands_of_a_fresh_machine() -> None:
    first, tests = commands()[0], next(command for command in commands() if "pytest" in command)
    assert first.startswith(INSTALL + ".venv/bin/sluicegate serve")
    assert tests.startswith(INSTALL_TESTS + ".venv/bin/pytest")
    assert "README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8"), "CI runs the command of this page"


def test_every_command_is_one_that_these_tests_run() -> None:
    programs = [f"sluicegate {name}" for name in ("serve", "chat", "replay", "check", "keys", "deploy", "usage")]
    known = [*programs, "curl -N", "printf ", ".venv/bin/pytest", "npm "]  # npm: tests/web/test_new_app.py
    for command in commands():
        assert any(each in command for each in known), command


@pytest.mark.parametrize("command", servers()[1:])
def test_every_way_to_start_the_service_starts_it(command: str, tmp_path: Path) -> None:
    (tmp_path / "my_tools.py").write_text(blocks("python")[0], encoding="utf-8")
    with serving(command, tmp_path) as server:
        expected = re.search(r"(OPENAI|ANTHROPIC)_API_KEY", command)
        assert server.providers == (expected[1].lower() if expected else "scripted")
        with urllib.request.urlopen(f"{server.url}/healthz", timeout=10) as response:  # noqa: S310 - loopback
            assert response.status == 200


# -- settings and keys -----------------------------------------------------------------------------------------------


def test_a_guarded_service_from_this_page(tmp_path: Path) -> None:
    """The file of settings and the commands for keys, as they stand here; then each key does what the page says."""
    settings, models, limits, origins, issuers = (
        block.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - not in tests
        for block in blocks("toml")[:5]
    )
    file = tmp_path / "sluicegate.toml"
    file.write_text(settings, "utf-8")
    [check] = [command for command in commands() if "sluicegate check" in command]
    assert "stall_seconds = 60  # default 120" in run(here(check), tmp_path)
    settings += models + limits + origins
    file.write_text(settings, "utf-8")
    create, second, listing = (command for command in commands() if "sluicegate keys" in command)
    everything, little = (run(here(command), tmp_path).strip() for command in (create, second))
    listed = run(here(listing), tmp_path)
    assert ("frontend" in listed, "models: fast; tools: none; no detach" in listed) == (True, True)
    site, unit = (run(here(each), tmp_path) for each in commands() if re.search("deploy (nginx|systemd)", each))
    assert "proxy_buffering off;" in site
    assert f"serve --config {tmp_path}/sluicegate.toml" in unit
    with serving(".venv/bin/sluicegate serve --config sluicegate.toml", tmp_path) as server:
        body = '{"messages": [{"role": "user", "content": "Hi"}], "on_disconnect": "detach"}'
        for key, status in (("", "401"), (everything, "200"), (little, "403")):
            sent = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{body}'"
            assert run(f"curl -s -o /dev/null -w '%{{http_code}}' {sent} {server.url}/chat", tmp_path) == status
        assert len(list((tmp_path / "usage").iterdir())) > 0
    [usage] = [command for command in commands() if "sluicegate usage" in command]
    assert re.search(r" frontend +\w{12} +\S+ +1 ", run(here(usage), tmp_path))
    (tmp_path / "issuers.toml").write_text(settings + issuers, encoding="utf-8")
    assert "login.example.com" in run(
        f"{shlex.quote(str(BIN))}/sluicegate check --offline --config issuers.toml", tmp_path
    )


def test_what_is_watched_is_set_up_as_this_page_says(tmp_path: Path) -> None:
    [telemetry] = blocks("toml")[5:]
    (tmp_path / "sluicegate.toml").write_text(telemetry, "utf-8")
    assert "otlp_endpoint" in run(f"{shlex.quote(str(BIN))}/sluicegate check --config sluicegate.toml", tmp_path)
    for command in commands():
        if "deploy grafana" in command or "deploy prometheus" in command:
            run(here(command), tmp_path)
    assert msgspec.json.decode((tmp_path / "dashboard.json").read_bytes())["panels"]
    [scraping] = blocks("yaml")
    (tmp_path / "key").write_text("sg-key", "utf-8")
    (tmp_path / "prometheus.yml").write_text(scraping.replace("/etc/prometheus/sluicegate.key", "key"), "utf-8")
    assert "SUCCESS" in run("promtool check config prometheus.yml", tmp_path)


def test_nobody_is_let_in_from_the_network_by_accident(tmp_path: Path) -> None:
    command = [str(BIN / "sluicegate"), "serve", "--host", "0.0.0.0", "--port", "0"]  # noqa: S104 - which is the question
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("access.keys", "access.issuers", "access.open=true"))


# -- what comes back -------------------------------------------------------------------------------------------------


def test_the_picture_of_the_stream_is_what_comes_back(served: Served, tmp_path: Path) -> None:
    command = next(command for command in commands() if command.startswith("curl"))
    real = frames(run(here(command, served.url).replace("curl ", "curl -s "), tmp_path))
    [picture] = [block for block in blocks("") if block.startswith("id: ")]
    at = 0
    gap = False
    for frame in frames(picture):
        if frame is ...:
            gap = True
            continue
        found = real.index(frame, at) if frame in real[at:] else -1
        assert found >= 0, f"{frame} is not in {real[at:]}"
        assert gap or found == at, f"left out before {frame}: {real[at:found]}"
        at, gap = found + 1, False
    assert at == len(real)


def test_the_key_reads_the_same_run_again(served: Served, tmp_path: Path) -> None:
    asking, reading = [here(command, served.url) for command in commands() if "my-question-1" in command]
    first = run(asking.replace("curl ", "curl -s "), tmp_path)
    assert first.endswith("data: [DONE]\n\n")
    assert run(reading.replace("curl ", "curl -s "), tmp_path) == first


def test_the_terminal_client_answers(served: Served, tmp_path: Path) -> None:
    [command] = [command for command in commands() if "sluicegate chat" in command]
    assert "42" in run(f"{here(command)} --url {served.url}", tmp_path)


@pytest.mark.parametrize("number", [1, 2])
def test_the_trio_client_prints_the_answer(served: Served, tmp_path: Path, number: int) -> None:
    (tmp_path / "main.py").write_text(blocks("python")[number].replace(URL, served.url), encoding="utf-8")
    assert "42" in run(f"{shlex.quote(sys.executable)} -W error main.py", tmp_path)
    assert len(blocks("python")) == 3


def test_replay_prints_what_the_stream_came_to(tmp_path: Path) -> None:
    [block] = [block for block in blocks("sh") if "sluicegate replay" in block]
    line, *transitions = run(here(block), tmp_path).splitlines()
    assert msgspec.json.decode(line)["text"] == "Hello"
    assert transitions[0].startswith("waiting --")
    assert transitions[-1].endswith("--> done")


def test_the_tool_does_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "my_tools.py").write_text(
        blocks("python")[0]
        + "async def main() -> None:\n"
        + "    for item in ('lamp', 'sofa'):\n"
        + "        outcome = await stock.call('{\"item\":\"%s\"}' % item, ToolContext('A', 'run'))\n"
        + "        print(outcome.is_error, outcome.content)\n\n"
        + "trio.run(main)\n"
        + "print(stock.spec.name, stock.spec.description)\n",
        encoding="utf-8",
    )
    assert run(f"{shlex.quote(sys.executable)} my_tools.py", tmp_path).splitlines() == [
        'False {"count":3}',
        "True There is no such item.",
        "stock Get how many of an item are in stock.",
    ]


# -- tables and links ------------------------------------------------------------------------------------------------


def rows(first: str) -> dict[str, str]:
    """First and second cell of the table rows whose first cell matches `first`."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TEXT.splitlines() if line[:1] == "|"]
    return {row[0].strip("`"): row[1] for row in cells if re.fullmatch(first, row[0].strip("`"))}


def test_every_code_stands_here_with_its_status() -> None:
    found = rows(r"[A-Z]+_[A-Z_]+|[A-Z]{5,}")
    codes = {name: status for name, status in found.items() if not name.endswith(("_KEY", "_URL"))}
    assert codes.keys() == set(ErrorCode) - RESERVED
    for code in codes:
        expected = str(STATUS[ErrorCode(code)]) if ErrorCode(code) in STATUS else "event"
        assert codes[code].startswith(expected) or codes[code] == "event", code


def test_every_flag_of_serve_stands_here(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser.parse(["serve", "--help"])
    offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    described = set(re.findall(r"--[a-z-]+", " ".join(rows(r"--[a-z].*"))))
    assert described == offered
    assert isinstance(parser.parse(["serve"]), argparse.Namespace)


def test_every_limit_stands_here_with_its_default() -> None:
    options = [UpstreamOptions(), RunOptions(), ServiceOptions(), ServerOptions()]
    found = rows("[a-z]+_[a-z_`, ]+")
    assert len(found) >= 7
    for names, defaults in found.items():
        values = dict.fromkeys(names.replace("`", "").split(", "), defaults)
        if defaults.count(",") == len(values) - 1:
            values = dict(zip(values, defaults.split(", "), strict=True))
        for name, default in values.items():
            number, _, unit = default.partition(" ")
            [value] = [getattr(room, name) for room in options if hasattr(room, name)]
            assert value == float(number) * {"": 1, "MiB": 2**20}[unit], name


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)}
    assert links
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert link.startswith("https://") or (ROOT / link).exists(), link
