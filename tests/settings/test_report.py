"""What people read of settings: all is documented, and what is printed can be read again."""

import dataclasses
import tomllib
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.providers.sdk import Transport, UpstreamOptions
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.spool import SpoolOptions
from sluicegate.server.options import ServerOptions
from sluicegate.service.options import ServiceOptions
from sluicegate.settings import read
from sluicegate.settings.names import leaves, with_members
from sluicegate.settings.report import effective, reference, schema

VALIDATOR = jsonschema.Draft202012Validator(schema())


def test_every_setting_is_documented() -> None:
    rows = [line.split(" | ") for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len(list(with_members(leaves()))) > 60
    for row in rows:
        assert row[3].rstrip().endswith((".", '"")')), row


@given(
    st.floats(0, allow_nan=False), st.integers(1, 10**12), st.booleans(), st.text(), st.sampled_from(Transport),
)  # fmt: skip
@pytest.mark.once
def test_what_is_in_force_can_be_read_again(
    seconds: float, count: int, yes: bool, text: str, transport: Transport
) -> None:
    arguments = {
        "server": {"host": text, "write_seconds": seconds},
        "run": {"max_runs": count, "run_seconds": seconds},
        "service": {"detach": yes},
        "upstream": {"transport": transport, "default_model": text},
        "spool": {"directory": "/var/spool", "kept_segments": count},
    }
    settings = read(None, arguments)
    assert settings.server == ServerOptions(host=text, write_seconds=seconds)
    assert settings.run == RunOptions(max_runs=count, run_seconds=seconds)
    assert settings.service == ServiceOptions(detach=yes)
    assert settings.upstream == UpstreamOptions(transport=transport, default_model=text)
    assert settings.spool == SpoolOptions(Path("/var/spool"), kept_segments=count)
    printed = tomllib.loads(effective(settings))
    assert read(None, printed).model_dump() == settings.model_dump()
    VALIDATOR.validate(printed)


def test_settings_are_frozen() -> None:
    settings = read()
    with pytest.raises(ValueError, match="frozen"):
        settings.tools = "x"
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.run.max_runs = 3  # type: ignore[misc]
