"""The rules of the code itself: lint, types, imports, size, and branch coverage of the pure rooms."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "src").rglob("*.py"))
LONGEST = 400
PURE = ("src/sluicegate/machine", "src/sluicegate/wire")
PURE_TESTS = ("tests/machine", "tests/wire", "tests/test_sse.py", "tests/test_specs.py")
# The brackets keep these patterns from finding themselves.
MACHINE_PATH = re.compile(r"(?<![\w.\-/])/(?:work|root|home|opt|tmp|farm)/")
REGISTRY = re.compile(r"pypi[.](?:org|python)|python[h]osted|registry[.]npmjs|proxy[.]golang|crates[.]io")
PROMISE = re.compile(r"TOD[O]|FIXM[E]|NotImplemented[E]rror|pragma: [n]o cover")


def run(program: str, *arguments: str) -> str:
    """Run a program of this environment; return what it printed."""
    command = [str(Path(sys.executable).parent / program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked() -> list[Path]:
    """The files of the project: those that git knows, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_types() -> None:
    assert "no issues found" in run("mypy")


def test_lint() -> None:
    run("ruff", "check", "--no-cache")


def test_format() -> None:
    run("ruff", "format", "--no-cache", "--check")


def test_imports_point_one_way() -> None:
    assert "2 kept, 0 broken" in run("lint-imports", "--no-cache")


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY], ids=["machine paths", "registries"])
def test_no_file_names_the_place_where_it_was_written(pattern: re.Pattern[str]) -> None:
    files = tracked()
    assert len(files) > 100
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_the_patterns_find_what_they_are_for() -> None:
    for there in ("/".join(["", "tmp", "x"]), "cd " + "/".join(["", "work", "main"]), '"' + "/".join(["", "opt", ""])):
        assert MACHINE_PATH.search(there), there
    for away in ("a/tmp/b", "https://example.org/work/", "../root/x"):
        assert not MACHINE_PATH.search(away), away
    assert REGISTRY.search("https://" + "pypi" + ".org/simple")


def test_no_module_is_long(note: Callable[[str], None]) -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    longest = max(lengths, key=lambda path: lengths[path])
    note(f"modules: {len(MODULES)}, median {median(lengths.values()):.0f} lines, longest {lengths[longest]} "
         f"({longest.relative_to(ROOT)})")  # fmt: skip
    assert {str(path): length for path, length in lengths.items() if length > LONGEST} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [str(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_nothing_is_promised_for_later() -> None:
    found = [str(path) for path in (*MODULES, *(ROOT / "tests").rglob("*.py")) if PROMISE.search(path.read_text())]
    assert found == []


def test_every_branch_of_the_pure_rooms_is_taken(tmp_path: Path) -> None:
    data = f"--data-file={tmp_path / 'coverage'}"
    tests = ("-q", "-p", "no:cacheprovider", "-m", "not sweep and not once", *PURE_TESTS)
    run("coverage", "run", data, "--branch", f"--source={','.join(PURE)}", "-m", "pytest", *tests)
    run("coverage", "report", data, "--show-missing", "--skip-covered", "--fail-under=100")
