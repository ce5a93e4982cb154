"""What the project is made of: each package at one version whose files are known by their hashes, and a list of all
that is installed. Neither says that these packages are free of faults.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PINS = (ROOT / ".ci" / "requirements.txt").read_text(encoding="utf-8")
PYTHONS = ("3.11.0", "3.11.99", "3.12.0", "3.12.99", "3.13.0", "3.13.99")
HASH = r" \\\n    --hash=sha256:[0-9a-f]{64}"
PIN = re.compile(rf"([a-z0-9]+(?:-[a-z0-9]+)*)==([\w.!+]+)(?: ; ([^\\\n]+))?((?:{HASH})+)\n")


class Pin(NamedTuple):
    """One package at one version, where its marker holds."""

    name: str
    version: str
    marker: Marker | None

    def is_for(self, environment: dict[str, str]) -> bool:
        return self.marker is None or self.marker.evaluate(environment)


def pins_of(text: str) -> list[Pin]:
    """Return the pins; fails where anything else stands there, or one without a hash."""
    body = re.sub(r"\A(?:#.*\n)+", "", text)
    found = list(PIN.finditer(body))
    assert "".join(each[0] for each in found) == body, "other lines than pins with hashes"
    return [Pin(each[1], each[2], Marker(each[3]) if each[3] else None) for each in found]


def asked() -> list[Requirement]:
    """Return what pyproject.toml asks for: to run, to test, to build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    texts = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    texts += [each for extra in project["project"]["optional-dependencies"].values() for each in extra]
    return [Requirement(each) for each in texts]


def faults(text: str, environment: dict[str, str]) -> Iterator[str]:
    """What is wrong with pins for one Python."""
    pins: dict[str, Pin] = {}
    for pin in pins_of(text):
        if pin.is_for(environment):
            if pin.name in pins:
                yield f"{pin.name}: two pins"
            pins[pin.name] = pin
    for each in asked():
        if each.marker is None or each.marker.evaluate(environment):
            found = pins.get(canonicalize_name(each.name))
            if found is None:
                yield f"{each}: no pin; run .ci/lock"
            elif not each.specifier.contains(found.version):
                yield f"{each}: pinned at {found.version}; run .ci/lock"


def environment_of(python: str) -> dict[str, str]:
    return {"python_full_version": python, "python_version": python.rpartition(".")[0]}


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_the_project_asks_for_is_pinned_within_its_ranges(python: str) -> None:
    assert list(faults(PINS, environment_of(python))) == []
    assert len(asked()) > 30


def brought_by(requirements: list[Requirement]) -> set[str]:
    """The names of the packages that these bring here, and those in turn."""
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    left = [(each, extra) for each in requirements for extra in ("", *each.extras)]
    while left:
        requirement, extra = left.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen or (requirement.marker is not None and not requirement.marker.evaluate()):
            continue
        seen.add((name, extra))
        names.add(name)
        for text in distribution(name).requires or ():
            each = Requirement(text)
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                each.marker = None
                left.extend((each, further) for further in ("", *each.extras))
    return names


def test_all_that_comes_with_these_is_pinned_as_well() -> None:
    project = [each for each in asked() if each.name != "hatchling"]  # which is there only while it builds
    brought = brought_by(project)
    assert len(brought) > 60
    environment = environment_of("{}.{}.{}".format(*sys.version_info[:3]))
    assert brought - {pin.name for pin in pins_of(PINS) if pin.is_for(environment)} == set()


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (r"\A", "--index-url https://example.org/\n"),
        (r"\Z", "    --hash=md5:d41d8cd98f00b204e9800998ecf8427e\n"),
        (r"\ntrio==.*\n(?: +--.*\n)+", "\ntrio==0.35.0\n"),
        (r"\ntrio==", "\ntrio>="),
        (r"\ntrio==.*\n", "\ntrio @ https://example.org/trio.whl \\\\\n"),
        (r"\ntrio==(.*\n(?: +--.*\n)+)", "\n"),
        (r"\ntrio==0.35.0", "\ntrio==0.34.0"),
        (r"\nhatchling==1", "\nhatchling==0"),
        (r"(\ntrio==.*\n(?: +--.*\n)+)", r"\1\1"),
        (r"(\nquart==.*) ; python_full_version < '3.13'", r"\1"),
        (r"(\nquart==.* ; python_full_version) >= '3.13'", r"\1 >= '3.14'"),
        (r"--hash=sha256:\w", "--hash=sha256:"),
    ],
)
def test_pins_that_were_spoiled_are_found(pattern: str, instead: str) -> None:
    spoiled = re.sub(pattern, instead, PINS, count=1)
    assert spoiled != PINS
    with pytest.raises(AssertionError):
        assert [fault for python in PYTHONS for fault in faults(spoiled, environment_of(python))] == []


@pytest.mark.once
def test_the_bill_of_materials_is_valid_and_has_everything_that_is_installed(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    command = [str(ROOT / ".ci" / "sbom"), sys.executable, str(file), "-vv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "result is schema-valid" in done.stderr
    bill = json.loads(file.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    there = {(canonicalize_name(each.name), each.version) for each in distributions()}
    root = bill["metadata"]["component"]
    listed = {(canonicalize_name(each["name"]), each["version"]) for each in (root, *bill["components"])}
    assert listed == there
    assert all(each["purl"].startswith("pkg:pypi/") for each in bill["components"])
    leads = {each["ref"]: set(each.get("dependsOn", ())) for each in bill["dependencies"]}
    needed = {canonicalize_name(each.partition("==")[0]) for each in leads[root["bom-ref"]]}
    run = [each for each in asked() if each.name != "hatchling" and (each.marker is None or each.marker.evaluate())]
    assert {canonicalize_name(each.name) for each in run} <= needed
