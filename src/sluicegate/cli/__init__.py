"""The command line: `sluicegate serve | chat | replay`."""

import sys
from collections.abc import Sequence

from .parser import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 for success, 1 for failure, 2 for bad arguments."""
    options = parse(arguments)
    try:
        return options.run(options)  # type: ignore[no-any-return]  # argparse's namespace is untyped
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
