"""What is printed fits the settings: whoever waits for the service waits longer than it does."""

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.cli import main
from sluicegate.cli.deploy import nginx, systemd
from sluicegate.settings import Settings, read

pytestmark = pytest.mark.once

SECONDS = st.floats(0.1, 20_000) | st.just(math.inf)


def seconds(text: str, name: str) -> int:
    found = re.search(rf"^ *{name}[ =](\d+)s?;?$", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1])


def settings(**tables: dict[str, object]) -> Settings:
    return read(None, tables)


@given(SECONDS, SECONDS, SECONDS, st.floats(2, 1_000), st.integers(0, 2**30))
def test_nginx_waits_longer_than_any_silence(
    heartbeat: float, stall: float, hold: float, keep_alive: float, body: int
) -> None:
    given_settings = settings(
        run={"heartbeat_seconds": heartbeat, "stall_seconds": stall, "first_delta_seconds": stall},
        service={"hold_seconds": hold, "max_body_bytes": body},
        server={"keep_alive_seconds": keep_alive},
    )
    site = nginx(given_settings, None)
    silence = max(heartbeat, hold) if max(heartbeat, hold) < math.inf else max(stall, hold)
    assert seconds(site, "proxy_read_timeout") >= min(2 * silence, 86_400)
    assert seconds(site, "keepalive_timeout") < keep_alive
    assert f"client_max_body_size {max(1, body)};" in site


@given(st.floats(0, 10_000) | st.just(math.inf))
def test_systemd_waits_longer_than_the_drain(drain: float) -> None:
    unit = systemd(settings(service={"drain_seconds": drain}), None)
    assert seconds(unit, "TimeoutStopSec") >= min(drain + 2, 86_400)


@pytest.mark.parametrize(("host", "address"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("10.0.0.1", "10.0.0.1")])  # noqa: S104 - not listened on
def test_the_address_is_one_that_can_be_reached(host: str, address: str) -> None:
    assert f"    server {address}:81;\n" in nginx(settings(server={"host": host, "port": "81"}), None)


def test_the_unit_is_one_for_systemd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sluicegate.toml"
    file.write_text('[spool]\ndirectory = "usage"\n')
    monkeypatch.setattr(sys, "argv", [str(Path(sys.executable).with_name("sluicegate"))])
    assert main(["deploy", "systemd", "--config", str(file)]) == 0
    unit = capsys.readouterr().out
    assert f"ReadWritePaths={tmp_path}/usage\n" in unit
    assert f"WorkingDirectory={tmp_path}\n" in unit
    assert f" serve --config {file}\n" in unit
    (tmp_path / "sluicegate.service").write_text(unit)
    if analyze := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [analyze, "verify", tmp_path / "sluicegate.service"], capture_output=True, text=True, check=False
        )
        assert "sluicegate.service" not in done.stderr, done.stderr


def test_bad_settings_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "nginx", "--set", "run_seconds=x"]) == 2
    assert "run.run_seconds: must be a number" in capsys.readouterr().err
