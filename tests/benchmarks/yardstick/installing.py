"""Builds and installs what targets need, once, under one folder; sluicegate always anew from this checkout."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests import shared

from .interpreter import about, output
from .targets import BEFORE, Target

HARNESS = Path(__file__).parent / "harness"
TOOLS = {"upstream": ("-lssl", "-lcrypto"), "load": ("-lm",), "rawproxy": ()}


def set_up(home: Path, targets: Sequence[Target], python: str, before: str = "") -> None:
    """Make `targets` ready to start, the one of an earlier commit from `before`; SystemExit, with what to install,
    where a program or a library is missing.
    """
    _check(targets)
    (home / "bin").mkdir(parents=True, exist_ok=True)
    for tool, libraries in TOOLS.items():
        _call("gcc", "-O2", "-Wall", "-o", home / "bin" / tool, HARNESS / f"{tool}.c", *libraries)
    shutil.copytree(HARNESS / "peers", home / "peers", dirs_exist_ok=True)
    _install_node(home / "js", {package for target in targets for package in target.node_packages})
    for target in targets:
        if target.packages:
            _install(home / target.name, python, target.packages)
    _install(home / "sluicegate", python, ())
    _call(home / "sluicegate" / "bin" / "python", "-m", "pip", "install", "-qq", shared.CHECKOUT)
    if any(target.name == BEFORE for target in targets):
        _install_before(home, python, before)


def _install_before(home: Path, python: str, commit: str) -> None:
    if not commit:
        raise SystemExit(f"yardstick: {BEFORE} needs --before COMMIT")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "before.tar"
        _call("git", "-C", shared.CHECKOUT, "archive", "-o", archive, commit)
        _call("tar", "-xf", archive, "-C", folder)
        _install(home / BEFORE, python, ())
        _call(home / BEFORE / "bin" / "python", "-m", "pip", "install", "-qq", folder)


def versions(home: Path, targets: Sequence[Target]) -> dict[str, str]:
    """Return the versions of what each target is made of, in words."""
    found = {}
    for target in targets:
        if target.node_packages:
            found[target.name] = _node_versions(home / "js" / "node_modules", target.node_packages)
        elif target.packages:
            found[target.name] = _versions(home / target.name, target.packages)
    ours = ("trio", "hypercorn", "quart-trio", "openai", "anthropic", "httptools", "msgspec")
    return {**found, "sluicegate": _versions(home / "sluicegate", ours)}


def _check(targets: Sequence[Target]) -> None:
    programs = {"gcc": "gcc"} | ({"npm": "npm"} if any(target.node_packages for target in targets) else {})
    missing = [package for program, package in programs.items() if shutil.which(program) is None]
    if not missing and not _has_header("openssl/ssl.h"):
        missing.append("libssl-dev")
    if missing:
        raise SystemExit(f"yardstick: missing: {', '.join(missing)} (Debian: apt-get install {' '.join(missing)})")


def _has_header(name: str) -> bool:
    command = ["gcc", "-E", "-o", os.devnull, "-x", "c", "-"]
    return not subprocess.run(command, input=f"#include <{name}>\n".encode(), capture_output=True).returncode


def _install(venv: Path, python: str, packages: Iterable[str]) -> None:
    """Make a virtual environment of `packages`, unless there is a finished one of the same interpreter."""
    finished = venv / "installed.json"
    wanted = [about(python), *packages]
    if finished.exists() and json.loads(finished.read_text()) == wanted:
        return
    _call(python, "-m", "venv", "--clear", venv)
    if packages:
        _call(venv / "bin" / "python", "-m", "pip", "install", "-qq", *packages)
    finished.write_text(json.dumps(wanted))


def _install_node(folder: Path, packages: set[str]) -> None:
    if not packages:
        return
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / "installed.json"
    present = set(json.loads(finished.read_text())) if finished.exists() else set()
    if not packages <= present:
        if not (folder / "package.json").exists():
            _call("npm", "init", "-y", cwd=folder)
        _call("npm", "install", "--no-audit", "--no-fund", *sorted(packages - present), cwd=folder)
        finished.write_text(json.dumps(sorted(packages | present)))
    # Node looks for packages beside the program.
    for program in (HARNESS / "peers").glob("*.mjs"):
        shutil.copyfile(program, folder / program.name)


def _versions(venv: Path, names: Iterable[str]) -> str:
    listed = output(venv / "bin" / "python", "-m", "pip", "list", "--format=json")
    found = {entry["name"].lower().replace("_", "-"): entry["version"] for entry in json.loads(listed)}
    plain = [name.partition("[")[0] for name in names]
    return ", ".join(f"{name} {found[name]}" for name in plain)


def _node_versions(folder: Path, packages: Iterable[str]) -> str:
    names = [_name(package) for package in packages]
    found = {name: json.loads((folder / name / "package.json").read_text())["version"] for name in names}
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _name(package: str) -> str:
    """The name of an npm package without its version: `node@24`, `@ai-sdk/openai`."""
    return package[:1] + package[1:].partition("@")[0]


def _call(*command: str | Path, cwd: Path | None = None) -> None:
    print("+", shlex.join(map(str, command)), file=sys.stderr)
    subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, check=True)
