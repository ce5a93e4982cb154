"""Where settings come from, which of them win, and what is said of those that cannot be."""

import itertools
from pathlib import Path

import pytest

from sluicegate.settings import BadSettings, read
from sluicegate.settings.names import leaves, path_of

VARIABLE = "SLUICEGATE_RUN__STALL_SECONDS"


def test_nothing_is_set_by_default() -> None:
    for leaf in leaves():
        assert leaf.path[0] == "spool" or path_of(leaf.name) == leaf.path
    assert read().spool is None


@pytest.mark.parametrize("sources", [tuple(each) for n in range(4) for each in itertools.combinations("fea", n)])
def test_arguments_win_over_the_environment_and_that_over_the_file(
    sources: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[run]\nstall_seconds = 1\ngrace_seconds = 5\n")
    if "e" in sources:
        monkeypatch.setenv(VARIABLE, "2")
    arguments = {"run": {"stall_seconds": "3"}} if "a" in sources else {}
    settings = read(file if "f" in sources else None, arguments)
    expected = {"a": 3, "e": 2, "f": 1}
    assert settings.run.stall_seconds == next((expected[each] for each in "aef" if each in sources), 120)
    assert settings.run.grace_seconds == (5 if "f" in sources else 30)  # one table may come from several places


BAD = {
    "[run]\nstall_seconds = 'x'": "run.stall_seconds: must be a number, is 'x' ({file}, line 2)",
    "[run]\n\nstall_seconds = -1": "run.stall_seconds: must be at least 0, is -1 ({file}, line 3)",
    "[run]\nheartbeat_seconds = 0": "run.heartbeat_seconds: must be more than 0, is 0 ({file}, line 2)",
    "[run]\nmax_run = 1": "run.max_run: there is no such setting; did you mean max_runs? ({file}, line 2)",
    "[server]\nstall_seconds = 1": (
        "server.stall_seconds: there is no such setting; did you mean run.stall_seconds? ({file}, line 2)"
    ),
    "[zzz]\na = 1": (
        "zzz: there is no such setting; there are tools, server, service, access, limits, telemetry, log, run, "
        "upstream, providers, models, spool ({file}, line 1)"
    ),
    "[run.limits]\nsteps = 1.5": "run.limits.steps: must be a whole number, is 1.5 ({file}, line 2)",
    "run = 3": "run: must be a table, [run] ({file}, line 1)",
    "[spool]": "spool.directory: is missing; set it ({file}, line 1)",
    "[service]\ndetach = 'perhaps'": "service.detach: must be true or false, is 'perhaps' ({file}, line 2)",
    "[upstream]\ntransport = 'x'": (
        "upstream.transport: must be 'direct', 'stock' or 'stock-http2', is 'x' ({file}, line 2)"
    ),
    "[upstream]\nproxy = 'socks5://user:secret@h'": ("upstream.proxy: must be http://"),
    "[server]\nhost = 4": "server.host: should be a valid string ({file}, line 2)",
    "[run": "{file}: is not TOML: ",
}


@pytest.mark.parametrize(("text", "words"), BAD.items())
def test_a_fault_is_told_with_its_place_and_its_cure(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(BadSettings) as caught:
        read(file)
    (fault,) = caught.value.faults
    assert fault.startswith(words.format(file=file)), fault
    assert "secret" not in fault


def test_all_faults_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[run]\nstall_seconds = 'x'\n[server]\nport = 70000\n")
    monkeypatch.setenv("SLUICEGATE_RUN__MAX_RUNS", "0")
    monkeypatch.setenv("SLUICEGATE_RUNN__MAX_RUNS", "0")
    with pytest.raises(BadSettings) as caught:
        read(file, {"run": {"log_bytes": "-1"}})
    told = sorted(caught.value.faults)
    assert [fault.partition(":")[0] for fault in told] == [
        "SLUICEGATE_RUNN__MAX_RUNS", "run.log_bytes", "run.max_runs", "run.stall_seconds", "server.port",
    ]  # fmt: skip
    assert [fault.rpartition("(")[2] for fault in told] == [
        "in the environment)",
        "an argument)",
        "in the environment, SLUICEGATE_RUN__MAX_RUNS)",
        f"{file}, line 2)",
        f"{file}, line 4)",
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name in ("none.toml", "binary.toml", "."):
        with pytest.raises(BadSettings, match=r"cannot be read|is not TOML"):
            read(tmp_path / name)


def test_the_end_of_a_name_is_enough_where_it_is_clear() -> None:
    assert path_of("stall_seconds") == ("run", "stall_seconds")
    assert path_of("limits.steps") == path_of("steps") == ("run", "limits", "steps")
    with pytest.raises(ValueError, match=r"the names are tools, server\.host"):
        path_of("nothing")
