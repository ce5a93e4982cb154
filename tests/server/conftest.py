"""One certificate for all."""

from pathlib import Path

import pytest

from tests.server.rig import Certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder: Path = tmp_path_factory.mktemp("certificate")
    return Certificate(folder)
