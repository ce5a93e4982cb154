"""`sluicegate check`: what it says of providers, proxies, keys and prices, and nothing of what is right."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from sluicegate.cli import main
from tests.providers.origin import Answer, replying, running_origin, start
from tests.server.rig import Certificate

LISTING = json.dumps({"object": "list", "data": [{"id": "m"}, {"id": "n"}]}).encode()
SPOOL = '[spool]\ndirectory = "usage"\n'
TABLES = '[providers.here]\nbase_url = "{url}/v1"\ndialect = "{dialect}"\n[models.fast]\nuse = ["here:{model}"]\n'


def listing(body: bytes, status: int = 200) -> Answer:
    return replying(body, status=status, content_type="application/json")


async def silence(send: Callable[..., object]) -> None:
    await trio.sleep_forever()


async def half(send: Callable[..., object]) -> None:
    await start(send, content_type="application/json")  # type: ignore[arg-type]  # the same thing
    await trio.sleep_forever()


VERDICTS = [
    (listing(LISTING), "m", 0, "answers, with 2 models"),
    (listing(LISTING), "x", 0, "answers, but does not list x"),
    (listing(b"{}", 404), "m", 0, "answers; it has no list of its models"),
    (listing(b"<html>"), "m", 0, "answers; it has no list of its models"),
    (listing(b"{}", 401), "m", 1, "refuses the key (status 401); see to api_key or api_key_env"),
    (listing(b"{}", 400), "m", 1, "refuses to be asked (status 400)"),
    (listing(b"{}", 500), "m", 1, "see to its base_url and to proxies"),
    (silence, "m", 1, "did not answer within"),
    (half, "m", 1, "did not answer within"),
]


@pytest.mark.sockets
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic"])
@pytest.mark.parametrize(("answer", "model", "status", "words"), VERDICTS)
async def test_each_provider_is_tried(
    answer: Answer,
    model: str,
    status: int,
    words: str,
    dialect: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sluicegate.cli.check.SECONDS", 0.5)
    async with running_origin(answer, tmp_path, tls=False) as origin:
        file = tmp_path / "s.toml"
        file.write_text(TABLES.format(url=origin.url, dialect=dialect, model=model))
        assert await trio.to_thread.run_sync(partial(main, ["check", "--config", str(file)])) == status
        told = capfd.readouterr()
        assert words.lower() in (told.out + told.err).lower()
        assert len(origin.asked) == 1
        origin.asked.clear()
        assert await trio.to_thread.run_sync(partial(main, ["check", "--offline", "--config", str(file)])) == 0
        assert not origin.asked


BAD = {
    '[models.fast]\nuse = ["nobody:m"]\n': "models.fast.use[0]: there is no provider 'nobody'; there are: scripted",
    "[models.fast]\nuse = []\n": "models.fast.use: must name at least one PROVIDER:MODEL",
    '[models.fast]\nuse = ["m"]\n': "models.fast.use: must be PROVIDER:MODEL, is 'm'",
    "[providers.p]\n": "providers.p.api_key: is missing; set the variable OPENAI_API_KEY, or name another",
    '[providers.p]\napi_key_env = "NONE"\n': "set the variable NONE",
    '[providers.p]\nbase_url = "https://models.example.com"\n': "name the variable with the key for https://models",
    "[providers.Upper]\n": "providers.Upper: a name has small letters",
    '[providers.p]\nvia = "azure"\nbase_url = "https://x.example.com"\n': "azure_api_version: is missing",
    '[providers.p]\nvia = "vertex"\n': 'dialect: must be "anthropic" with via = "vertex"',
    '[providers.p]\nvia = "scripted"\n[upstream]\ndefault_model = "x"\n[models.y]\nuse = ["p:m"]\n': (
        "'x' is none of the models; there are: y"
    ),
    '[providers.p]\nvia = "scripted"\nbase_url = "ftp://x"\n': "base_url: must begin with https:// or http://",
    '[server]\nhost = "0.0.0.0"\n': "can be reached over the network",
    'tools = "no_such_module:tools"\n': "no_such_module",
}


@pytest.mark.parametrize(("text", "words"), BAD.items())
def test_what_serve_would_refuse_is_refused(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    file = tmp_path / "s.toml"
    file.write_text(text)
    assert main(["check", "--config", str(file)]) == 2
    assert words in capsys.readouterr().err
    assert main(["serve", "--config", str(file), "--port", "0"]) in (1, 2)
    assert words in capsys.readouterr().err


PLACED = {
    '\n[models.fast]\nuse = ["nobody:m"]\n': "line 3)",
    '[providers.p]\nvia = "scripted"\n\n[upstream]\ndefault_model = "x"\n[models.y]\nuse = ["p:m"]\n': "line 5)",
    "[providers.p]\n": "line 1)",
    '[models.gpt-4]\nuse = ["scripted:m"]\n[models."gpt-4.1"]\nuse = ["nobody:m"]\n': "line 4)",
    '[providers.p]\nvia = "scripted"\n[providers."p.q"]\nvia = "scripted"\n': "line 3)",
    '[models."a/b:c"]\nuse = ["nobody:m"]\n': "line 2)",
    '[server]\nport = 1\nhost = "0.0.0.0"\n': "line 3)",
    '[upstream]\nproxy = "http://127.0.0.1:1"\n': "line 2)",
}


@pytest.mark.parametrize(("text", "place"), PLACED.items())
def test_what_only_the_rooms_find_has_its_place(
    text: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    file = tmp_path / "s.toml"
    file.write_text(text)
    for command in ("check", "serve"):
        assert main([command, "--config", str(file)]) == 2
        assert capsys.readouterr().err.endswith(f" ({file}, {place}\n")


def test_so_it_has_where_it_was_an_argument_or_of_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere = "0.0.0.0"  # noqa: S104 - which is refused
    assert main(["check", "--host", everywhere]) == 2
    assert capsys.readouterr().err.endswith(" (an argument)\n")
    monkeypatch.setenv("SLUICEGATE_SERVER__HOST", everywhere)
    file = tmp_path / "s.toml"
    file.write_text("[server]\nport = 1\n")
    for others in ([], ["--config", str(file)], ["--config", str(file), "--port", "2"]):
        assert main(["check", *others]) == 2
        assert capsys.readouterr().err.endswith(" (in the environment, SLUICEGATE_SERVER__HOST)\n")


def test_a_certificate_and_a_directory_that_cannot_be_used_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = Certificate(tmp_path)
    pair = ["--certfile", certificate.path, "--keyfile", certificate.path]
    directory = tmp_path / "not" / "yet"
    assert main(["check", *pair, "--spool", str(directory)]) == 0
    assert not directory.parent.exists()
    assert main(["check", *pair[:3], __file__]) == 2
    assert f"cannot use certfile {certificate.path} with keyfile {__file__}" in capsys.readouterr().err
    file = tmp_path / "file"
    file.touch()
    for taken in (file, file / "below"):
        assert main(["check", "--spool", str(taken)]) == 2
        assert f"usage spool {taken}: cannot be used; name a directory" in capsys.readouterr().err


WARNINGS = {
    "[service]\nproxy_seconds = 599\n": "service.proxy_seconds: a proxy cuts responses off after 599 s",
    "[service]\nproxy_silence_seconds = 15\n": "service.proxy_silence_seconds: a proxy gives up after 15 s",
    '[access]\nkeys = "none.json"\n': "is not there, so none lets anybody in",
    '[access]\nkeys = "none.json"\nopen = true\n': "access.open: has no effect beside keys or issuers",
    "[limits]\nday_budget.dollars = 5\n" + SPOOL: "the price of scripted:scripted-demo is not known",
    "[limits]\nday_budget.tokens = 5\n": "spool.directory: is not set",
    "[limits]\nuser.concurrent_runs = 5\n": "limits.user: nobody names an end user",
    "[limits]\naddress.concurrent_runs = 5\n": "limits.address: behind a proxy all clients have its address",
}


@pytest.mark.parametrize(("text", "words"), WARNINGS.items())
def test_what_is_doubtful_is_told(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "s.toml"
    file.write_text(text)
    assert main(["check", "--config", str(file)]) == 0
    assert words in capsys.readouterr().err


def test_a_key_for_a_model_that_there_is_not_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for models in ("fast,fats", "fast"):
        assert main(["keys", "create", "ann", "--models", models, "--file", "keys.json"]) == 0
    Path("s.toml").write_text(
        '[access]\nkeys = "keys.json"\n[providers.p]\nvia = "scripted"\n[models.fast]\nuse = ["p:scripted-demo"]\n'
    )
    capsys.readouterr()
    assert main(["check", "--config", "s.toml"]) == 0
    [line] = capsys.readouterr().err.splitlines()
    assert "(ann) allows fats; the models are fast" in line


FINE = [
    "",
    "[service]\nproxy_seconds = 600\nproxy_silence_seconds = 30\n",
    '[limits]\nday_budget.dollars = 5\n[providers.p]\nvia = "scripted"\n'
    'prices."scripted-demo" = { input = 1, output = 2 }\n' + SPOOL,
]


@pytest.mark.parametrize("text", FINE)
def test_what_is_right_is_not_talked_about(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "s.toml"
    file.write_text(text)
    assert main(["check", "--config", str(file)]) == 0
    assert capsys.readouterr().err == ""


NGINX = {
    "proxy_read_timeout 60s;": None,
    "proxy_read_timeout 1m;": None,
    "proxy_read_timeout 15;": "line 2: proxy_read_timeout 15: is 15 s, and heartbeats come after 15 s",
    "proxy_read_timeout 500ms;": "proxy_read_timeout 500ms: is 0.5 s",
    "# proxy_read_timeout 5s;": None,
    "proxy_buffering on;": "proxy_buffering on: may hold tokens back",
    "proxy_buffering off;": None,
    "proxy_cache zone;": "proxy_cache zone: may hold tokens back",
    "gzip on;": "gzip on: may hold tokens back",
    "proxy_ignore_client_abort on;": "runs go on for nobody",
}


@pytest.mark.parametrize(("line", "words"), NGINX.items())
def test_an_nginx_that_cuts_off_or_holds_back_is_told(
    line: str, words: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site"
    file.write_text(f"location / {{\n    {line}\n}}\n")
    assert main(["check", "--nginx", str(file)]) == 0
    err = capsys.readouterr().err
    assert (words in err) if words else not err


def test_the_nginx_that_is_printed_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "nginx"]) == 0
    file = tmp_path / "site"
    file.write_text(capsys.readouterr().out)
    assert main(["check", "--nginx", str(file)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.sockets
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic"])
async def test_a_key_of_the_environment_is_for_nobody_but_its_own_provider(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-real")
    async with running_origin(listing(LISTING), tmp_path, tls=False) as origin:
        file = tmp_path / "s.toml"
        file.write_text(TABLES.format(url=origin.url, dialect=dialect, model="m"))
        assert await trio.to_thread.run_sync(partial(main, ["check", "--config", str(file)])) == 0
        assert not any(b"sk-real" in value for value in origin.asked[0].headers.values())
