"""Measures sluicegate beside other relays and writes specs/performance.md.

    python -m tests.benchmarks.yardstick [--rounds 5] [--targets a,b] [--scenarios a,b] [--python python3.11]
                                         [--before COMMIT] [--out FILE] [--section NAME] [--no-page]
    python -m tests.benchmarks.yardstick --results FILE [--section NAME] [--no-page]

What the targets need is built or installed once, under BENCH_HOME (default ~/.cache/sluicegate-bench); sluicegate is
installed from this checkout and started as a user would. `--python` is the interpreter of sluicegate and of the Python
peers, `--before` the commit of the target sluicegate-before. `--scenarios` also takes the groups `musts` and `crowds`.
`--out` keeps the raw results as JSON, `--results` makes the page from them without measuring; `--section` names the
markers on the page between which the tables are put, `--no-page` prints them instead. Needs gcc and OpenSSL's headers
(libssl-dev), and npm for the targets on Node.
"""

import argparse
import contextlib
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from .. import linear, parts
from . import page
from .installing import set_up, versions
from .interpreter import about
from .provider import running
from .report import report
from .results import DIRECT, Results
from .rounds import Rounds, chosen
from .service import Starter
from .targets import DEFAULT, TARGETS, Target

MAIN: Final = "yardstick"


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write or print; 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.yardstick",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--targets", default=",".join(DEFAULT))
    parser.add_argument("--scenarios", default="")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--before", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--section", default=MAIN)
    parser.add_argument("--no-page", action="store_true")
    options = parser.parse_args(arguments)
    kept: Path | None = options.results
    results = msgspec.json.decode(kept.read_bytes(), type=Results) if kept else _measure(options)
    if options.no_page:
        print(report(results))
        return 0
    page.write(options.section, report(results))
    if not kept and options.section == MAIN:
        here = f"On {about(sys.executable)}."
        page.write("parts", f"{here}\n\n{parts.table(parts.measure(5_000))}")
        page.write("linear", f"{here}\n\n{linear.table()}")
    return 0


def _measure(options: argparse.Namespace) -> Results:
    targets, names = _targets(options.targets), chosen(options.scenarios)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    home = Path(os.environ.get("BENCH_HOME", Path.home() / ".cache" / "sluicegate-bench"))
    set_up(home, targets, options.python, options.before)
    python = str(home / "sluicegate" / "bin" / "python")
    found = page.conditions(python, targets, versions(home, targets), _command(options), options.rounds)
    results = Results(found)

    def keep() -> None:
        if options.out:
            options.out.write_bytes(msgspec.json.format(msgspec.json.encode(results)))

    with tempfile.TemporaryDirectory(prefix="run-", dir=home) as folder:
        scratch = Path(folder)
        with running(home / "bin" / "upstream", scratch) as provider, contextlib.suppress(KeyboardInterrupt):
            Rounds(Starter(provider, home, scratch), targets, results, keep).run(names, options.rounds)
    return results


def _targets(names: str) -> list[Target]:
    if unknown := [name for name in names.split(",") if name not in TARGETS]:
        raise SystemExit(f"--targets: no {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if DIRECT not in names.split(","):
        print(f"without the target {DIRECT} no added latency can be told", file=sys.stderr)
    return [TARGETS[name] for name in names.split(",")]


def _command(options: argparse.Namespace) -> str:
    words = [f"--rounds {options.rounds}", f"--targets {options.targets}"]
    words += [f"--scenarios {options.scenarios}"] if options.scenarios else []
    words += [f"--before {options.before}"] if options.before else []
    words += [f"--python {Path(options.python).name}"] if options.python != sys.executable else []
    return f"python -m tests.benchmarks.yardstick {' '.join(words)}"


if __name__ == "__main__":
    raise SystemExit(main())
