"""Which proxy is used for what, and what is said of settings that cannot be."""

import sys
from pathlib import Path

import httpx2
import pytest
import trio

from sluicegate.cli import main
from sluicegate.cli.parser import parse
from sluicegate.cli.settings import settings_of
from sluicegate.providers.proxies import BadProxy, Proxies
from sluicegate.providers.sdk import Transport, UpstreamOptions
from sluicegate.providers.table import from_tables

SECRET = "canary-4711"
OPENAI = "https://api.openai.com/v1"

CHOICES = [
    ({}, OPENAI, None),
    ({"HTTPS_PROXY": "http://p:1"}, OPENAI, "http://p:1"),
    ({"HTTPS_PROXY": "p:1"}, OPENAI, "http://p:1"),
    ({"HTTPS_PROXY": "http://p:1"}, "http://api.openai.com", None),
    ({"HTTP_PROXY": "http://p:1"}, "http://api.openai.com", "http://p:1"),
    ({"ALL_PROXY": "https://p"}, OPENAI, "https://p"),
    ({"ALL_PROXY": "http://all", "HTTPS_PROXY": "http://p"}, OPENAI, "http://p"),
    ({"HTTPS_PROXY": "http://upper", "https_proxy": "http://lower"}, OPENAI, "http://lower"),
    ({"HTTPS_PROXY": "http://upper", "https_proxy": ""}, OPENAI, None),
    ({"https_proxy": "http://lower", "HTTPS_PROXY": "http://upper"}, OPENAI, "http://lower"),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": ""}, OPENAI, "http://p"),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, OPENAI, None),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": "x.org, OpenAI.com"}, OPENAI, None),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": ".openai.com"}, OPENAI, None),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*.openai.com"}, OPENAI, None),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": "api.openai.com:443"}, OPENAI, None),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": "api.openai.com:8443"}, OPENAI, "http://p"),
    ({"HTTPS_PROXY": "http://p", "NO_PROXY": "ai.com,api.openai.com.x"}, OPENAI, "http://p"),
    ({"ALL_PROXY": "http://p", "NO_PROXY": "127.0.0.1,::1"}, "http://127.0.0.1:8080", None),
    ({"ALL_PROXY": "http://p", "NO_PROXY": "127.0.0.1,::1"}, "http://[::1]:8080", None),
    ({"ALL_PROXY": "http://p", "NO_PROXY": "[::1]:8080"}, "http://[::1]:8080", None),
    ({"ALL_PROXY": "http://p", "NO_PROXY": "127.0.0.1"}, "http://127.0.0.12", "http://p"),
]


@pytest.mark.parametrize(("env", "url", "proxy"), CHOICES)
def test_the_environment_says_which_proxy(env: dict[str, str], url: str, proxy: str | None) -> None:
    found = Proxies.of_environment({"PATH": "/bin", **env}).of(httpx2.URL(url))
    assert (None if found is None else str(found.url)) == proxy


def test_a_proxy_that_is_set_is_for_everything() -> None:
    found = Proxies.of_setting(f"http://user:{SECRET}@p:3128").of(httpx2.URL("http://127.0.0.1"))
    assert found is not None
    assert (str(found.url), found.auth) == ("http://p:3128", ("user", SECRET))


BAD = [
    f"socks5://{SECRET}@p:1",
    f"ftp://{SECRET}",
    f"http://:{SECRET}@",
    f"http://{SECRET}:port",
    "://",
    f"http:///{SECRET}",
]


@pytest.mark.parametrize("url", BAD)
def test_a_proxy_that_cannot_be_is_refused_and_not_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadProxy, match=r"HTTPS_PROXY: must be http://") as caught:
        Proxies.of_environment({"https_proxy": url})
    assert SECRET not in str(caught.value)
    assert main(["serve", "--set", f"proxy={url}"]) == 2
    said = capsys.readouterr().err
    assert "upstream.proxy: must be http://" in said
    assert SECRET not in said


def test_the_transport_is_one_of_three(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--set", "transport=http2"]) == 2
    assert "transport: must be 'direct', 'stock' or 'stock-http2', is 'http2'" in capsys.readouterr().err
    for transport in Transport:
        given = parse(["serve", "--set", f"transport={transport}", "--set", "proxy=http://p:1"])
        assert settings_of(given).upstream == UpstreamOptions(transport=transport, proxy="http://p:1")


KEYS = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}


@pytest.mark.parametrize("env", [{}, KEYS])
def test_the_direct_transport_takes_no_proxy(env: dict[str, str]) -> None:
    with pytest.raises(BadProxy, match=r"upstream\.proxy: .*set transport to stock or stock-http2"):
        from_tables({}, {}, UpstreamOptions(proxy="http://p:1"), env)
    from_tables({}, {}, UpstreamOptions(), env | {"HTTPS_PROXY": "socks5://p"})  # nor looks for one
    for transport in (Transport.STOCK, Transport.STOCK_HTTP2):
        with pytest.raises(BadProxy, match="HTTPS_PROXY"):
            from_tables({}, {}, UpstreamOptions(transport=transport), env | {"HTTPS_PROXY": "socks5://p"})
        from_tables(
            {}, {}, UpstreamOptions(transport=transport, proxy="http://p:1"), env | {"HTTPS_PROXY": "socks5://p"}
        )


@pytest.mark.sockets
async def test_the_command_says_so_and_ends() -> None:
    executable = Path(sys.executable).with_name("sluicegate")
    ended = await trio.run_process(
        [executable, "serve", "--port", "0", "--set", "proxy=http://p:1"], capture_stderr=True, check=False
    )
    said = (ended.stderr or b"").decode()
    assert ended.returncode == 2
    assert said.startswith("sluicegate serve: upstream.proxy: the direct transport uses none")
    assert said.count("\n") == 1
