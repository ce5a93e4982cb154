"""The page that is shipped is what its sources make, and they keep their own laws."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

pytestmark = [pytest.mark.once, pytest.mark.xdist_group("node")]

ROOT: Final = Path(__file__).parents[2]
WEB: Final = ROOT / "src/sluicegate/web"
BUILT: Final = WEB / "static"
LAWS: Final = 340  # tests at least


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    if shutil.which("npm") is None or not (WEB / "node_modules").is_dir():
        reason = f"needs Node and `npm ci` in {WEB.relative_to(ROOT)}"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def npm(*command: str) -> str:
    """Run a tool of the sources, and return what it printed; fail with that if it failed."""
    found = subprocess.run(
        ["npm", "exec", "--offline", "--", *command], cwd=WEB, text=True, capture_output=True, check=False
    )
    assert found.returncode == 0, f"{found.stdout[-8000:]}\n{found.stderr[-4000:]}"
    return found.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_page_is_what_the_sources_make(tmp_path: Path) -> None:
    npm("vite", "build", "--outDir", str(tmp_path / "built"), "--logLevel", "error")
    made, shipped = contents(tmp_path / "built"), contents(BUILT)
    assert made.keys() == shipped.keys(), "run `npm run build` in src/sluicegate/web"
    assert [name for name in made if made[name] != shipped[name]] == []
    assert len(made) > 3


def test_the_clients_types_are_those_of_the_wire(tmp_path: Path) -> None:
    script = json.loads((WEB / "package.json").read_text())["scripts"]["wire"]
    written = tmp_path / "wire.ts"
    banner = re.search(r'--bannerComment "([^"]*)"', script)
    assert banner is not None
    source = str(ROOT / "specs/wire.schema.json")
    npm("json2ts", "--additionalProperties=false", "--bannerComment", banner[1], source, str(written))
    assert written.read_text() == (WEB / "client/wire.ts").read_text(), "run `npm run wire` in src/sluicegate/web"


def test_types() -> None:
    npm("tsc", "--noEmit")


def test_laws(tmp_path: Path, note: Callable[[str], None]) -> None:
    report = tmp_path / "report.json"
    npm("vitest", "run", "--reporter=default", "--reporter=json", f"--outputFile={report}")
    found = json.loads(report.read_text())
    note(f"web: {found['numPassedTests']} tests of the client, the hook and the page's Markdown")
    assert found["numFailedTests"] == 0
    assert found["numPassedTests"] >= LAWS
    assert found["numPassedTests"] == found["numTotalTests"]
