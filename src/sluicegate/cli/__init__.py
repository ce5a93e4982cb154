"""The command line: `sluicegate serve | chat | replay`."""

import os
import sys
from collections.abc import Sequence

from .parser import parse

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 for success, 1 for failure, 2 for bad arguments, 130 for Ctrl-C.

    Who stops reading our output gets no traceback.
    """
    options = parse(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _abandon_output()
    except BaseExceptionGroup as group:  # the same two, raised inside a nursery
        interrupts, others = group.split(KeyboardInterrupt)
        if others is None:
            return INTERRUPTED
        if interrupts is None and others.split(BrokenPipeError)[1] is None:
            return _abandon_output()
        raise
    return status


def _abandon_output() -> int:
    """Send what is still buffered nowhere, else Python would complain of the pipe again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
