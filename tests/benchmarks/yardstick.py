"""Measures against the neutral harness of the shared folder and writes specs/performance.md.

    python -m tests.benchmarks.yardstick [--rounds 5] [--targets a,b] [--scenarios a,b] [--python python3.11]

The harness (`bench` in the folder that SLUICEGATE_SHARED names, by default ../shared beside the checkout) is copied to
a temporary directory; what its targets need is built or installed once, under BENCH_HOME (default
~/.cache/sluicegate-bench). sluicegate is installed from this checkout and started as a user would. `--python` is the
interpreter of sluicegate and of the Python peers. Needs gcc, and npm for the target tutorial-js. Every figure in
specs/performance.md between two markers comes from here.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests import shared

from . import linear, parts

PAGE = shared.CHECKOUT / "specs" / "performance.md"
TARGETS = ("direct", "rawproxy-c", "tutorial-js", "naive-trio", "sluicegate")
TOOLS = ("upstream", "load", "rawproxy")
BUSY = 1.25  # load average per core; the harness itself keeps a machine of two cores at 0.7 to 1
NODE_PACKAGES = ("node@24", "openai")
NAIVE_PACKAGES = ("quart-trio", "hypercorn", "openai", "trio")
# Scenario, what is shown of it, and which share of which peer's figure it has to stay below.
GOALS = (
    ("us_tok_c16", "CPU per token, saturated, 16 streams", "tutorial-js", 3.0),
    ("steady32", "CPU per token, steady, 32 streams", "naive-trio", 0.5),
    ("us_tok_paced", "CPU per token, paced, 64 short streams", "naive-trio", 0.5),
)
RATIOS = (
    *((metric, title) for metric, title, _, _ in GOALS),
    ("steady64", "CPU per token, steady, 64 streams"),
    ("req8_ms", "CPU per short request"),
    ("kib_stream", "memory per open stream"),
    ("abort_p50", "abort to upstream closed, 64 streams, median"),
    ("abort_p99", "abort to upstream closed, 64 streams, 99th percentile"),
)
_BODY = '{"model":"{model}","messages":[{"role":"user","content":"hello bid=@BID@"}]}'
_ABOUT = """
import json, platform, sys, sysconfig
flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
print(json.dumps([platform.python_version(), platform.python_compiler(), sys.base_prefix == "/usr",
                  "--enable-optimizations" in flags]))
"""


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; 0, or 2 where the harness is not there."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.yardstick", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--scenarios", default="", help="default: all of the harness")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args(arguments)
    harness = shared.root() / "bench"
    if not harness.is_dir():
        print(f"the harness is not there: {harness} (set SLUICEGATE_SHARED)", file=sys.stderr)
        return 2
    home = Path(os.environ.get("BENCH_HOME", Path.home() / ".cache" / "sluicegate-bench"))
    targets = options.targets.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Path(scratch) / "bench"
        shutil.copytree(harness, bench, copy_function=shutil.copyfile)
        set_up(bench, home, targets, options.python)
        results = run(bench, home, targets, options)
        figures = _output(sys.executable, bench / "table.py", bench / "results.json")
    conditions = _conditions(home, targets, options, results["noise"])
    measured = [*conditions, "", figures, "", *_ratios(results["data"])]
    here = f"On {_build(sys.executable)}."
    write("yardstick", "\n".join(measured))
    write("parts", f"{here}\n\n{parts.table(parts.measure(5_000))}")
    write("linear", f"{here}\n\n{linear.table()}")
    return 0


def set_up(bench: Path, home: Path, targets: list[str], python: str) -> None:
    """Build and install what `targets` need, where it is not there yet; sluicegate always anew."""
    if not set(targets) <= set(TARGETS):
        _call("bash", bench / "setup.sh", env={"BENCH_HOME": str(home), "PYTHON": python})
    (home / "bin").mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        _call("gcc", "-O2", "-o", home / "bin" / tool, bench / f"{tool}.c")
    if "tutorial-js" in targets and not (home / "js/node_modules/openai").is_dir():
        (home / "js").mkdir(exist_ok=True)
        _call("npm", "init", "-y", cwd=home / "js")
        _call("npm", "install", "--no-audit", "--no-fund", *NODE_PACKAGES, cwd=home / "js")
    if "tutorial-js" in targets:
        shutil.copyfile(bench / "peers/tutorial.mjs", home / "js/tutorial.mjs")
    if "naive-trio" in targets:
        _install(home / "trio", python, NAIVE_PACKAGES)
    _install(home / "sluicegate", python, ())
    _call(home / "sluicegate/bin/python", "-m", "pip", "install", "-q", shared.CHECKOUT)


def _install(venv: Path, python: str, packages: Iterable[str]) -> None:
    """Make a virtual environment, unless there is one of the same interpreter."""
    if not (venv / "bin/python").exists() or _about(str(venv / "bin/python")) != _about(python):
        _call(python, "-m", "venv", "--clear", venv)
        if packages:
            _call(venv / "bin/python", "-m", "pip", "install", "-q", *packages)


def run(bench: Path, home: Path, targets: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Run the driver of the harness; return its results."""
    serve = f"OPENAI_BASE_URL=$UP/v1 OPENAI_API_KEY=x exec {shlex.quote(str(home / 'sluicegate/bin/sluicegate'))}"
    serve += f" serve --port {{port}} --spool {shlex.quote(str(home / 'spool'))}"
    ours = {"cmd": ["sh", "-c", serve], "path": "/chat", "body": _BODY, "slowtest": 1}
    env = {**os.environ, "BENCH_HOME": str(home)}
    listed = subprocess.run([sys.executable, "targets.py", f"sluicegate={json.dumps(ours)}"], cwd=bench, env=env,
                            capture_output=True, text=True, check=True).stdout  # fmt: skip
    (bench / "targets.json").write_text(listed)
    command = [sys.executable, "driver.py", "--targets", "targets.json", "--rounds", str(options.rounds)]
    command += ["--only", ",".join(targets)]
    if options.scenarios:
        command += ["--scenarios", options.scenarios]
    subprocess.run(command, cwd=bench, env=env, check=True)
    results: dict[str, Any] = json.loads((bench / "results.json").read_text())
    return results


def write(name: str, text: str) -> None:
    """Put `text` between the markers of that name on the page."""
    begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    page = PAGE.read_text()
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{PAGE.name} has no markers for {name}")
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _conditions(home: Path, targets: list[str], options: argparse.Namespace, noise: list[list[float]]) -> list[str]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    stolen, load = [entry[4] for entry in noise], [entry[5] for entry in noise]
    lines = [
        f"- machine: {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release().partition('-')[0]}; the load generator and the provider run on the same cores",
        f"- sluicegate and Python peers: {_build(str(home / 'sluicegate/bin/python'))}",
        f"- sluicegate: commit {_commit()}; {_versions(home / 'sluicegate', 'trio', 'Hypercorn', 'openai', 'msgspec')}",
    ]
    if "naive-trio" in targets:
        lines.append(f"- naive-trio: {_versions(home / 'trio', 'trio', 'Hypercorn', 'Quart-Trio', 'openai')}")
    if "tutorial-js" in targets:
        node = home / "js/node_modules"
        openai = json.loads((node / "openai/package.json").read_text())["version"]
        lines.append(f"- tutorial-js: Node {_output(node / 'node/bin/node', '--version')}, openai {openai}")
    chosen = [f"--rounds {options.rounds}", f"--targets {options.targets}"]
    chosen += [f"--scenarios {options.scenarios}"] if options.scenarios else []
    chosen += [f"--python {Path(options.python).name}"] if options.python != sys.executable else []
    lines += [
        f"- command: `python -m tests.benchmarks.yardstick {' '.join(chosen)}`, {time.strftime('%Y-%m-%d')}, "
        f"{options.rounds} interleaved rounds; median (least–most)",
        f"- noise: load average {statistics.median(load):.1f} (up to {max(load):.1f}), CPU stolen from the virtual "
        f"machine {statistics.median(stolen):.1%} (up to {max(stolen):.1%})",
    ]
    if statistics.median(load) > BUSY * (os.cpu_count() or 1):
        lines.append(
            "- **the machine was busy with other work**: tokens then wait and arrive in bunches, which flatters "
            "whoever is slowest; the steady and paced rows do not count"
        )
    return lines


def _ratios(data: dict[str, dict[str, list[float | None]]]) -> list[str]:
    """sluicegate to its peers: the medians of the ratios within each round, and the goals."""
    peers: list[str] = [name for name in ("tutorial-js", "naive-trio") if name in data]
    lines = [
        "sluicegate's figure divided by the peer's of the same round, median (least–most); less is better:",
        "",
        "| | " + " | ".join(f"/ {peer}" for peer in peers) + " | goal |",
        "|---" * (len(peers) + 2) + "|",
    ]
    goals = {metric: (peer, share) for metric, _, peer, share in GOALS}
    for metric, title in RATIOS:
        found = {peer: _ratio(data, metric, peer) for peer in peers}
        if not any(found.values()):
            continue
        goal = "-"
        if metric in goals and (ratios := found.get(goals[metric][0])):
            peer, share = goals[metric]
            goal = f"below {share:g} x {peer}: {'yes' if statistics.median(ratios) < share else 'no'}"
        cells = [_spread(found[peer]) for peer in peers]
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {goal} |")
    return lines


def _ratio(data: dict[str, dict[str, list[float | None]]], metric: str, peer: str) -> list[float]:
    pairs = zip(data["sluicegate"].get(metric, []), data[peer].get(metric, []), strict=False)
    return [ours / theirs for ours, theirs in pairs if ours is not None and theirs]


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def _about(python: str) -> list[Any]:
    found: list[Any] = json.loads(_output(python, "-c", _ABOUT))
    return found


def _build(python: str) -> str:
    version, compiler, is_system, optimised = _about(python)
    if is_system:
        origin = f"as {platform.freedesktop_os_release().get('PRETTY_NAME', 'the distribution')} builds it"
    else:
        origin = f"built from source with{'' if optimised else 'out'} --enable-optimizations (PGO)"
    return f"CPython {version} ({compiler}), {origin}"


def _versions(venv: Path, *names: str) -> str:
    listed = dict(line.split("==") for line in _output(venv / "bin/pip", "list", "--format=freeze").splitlines())
    lowered = {name.lower().replace("_", "-"): version for name, version in listed.items()}
    return ", ".join(f"{name} {lowered[name.lower()]}" for name in names)


def _commit() -> str:
    commit = _output("git", "-C", shared.CHECKOUT, "rev-parse", "--short", "HEAD")
    changed = _output("git", "-C", shared.CHECKOUT, "status", "--porcelain", "--", "src")
    return f"{commit} with uncommitted changes" if changed else commit


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _call(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    print("+", shlex.join(map(str, command)), file=sys.stderr)
    subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
