"""`sluicegate check`: are the settings right, and what is in force?"""

import argparse
import sys

from ..settings import BadSettings
from ..settings.report import effective
from .settings import settings_of


def run_check(options: argparse.Namespace) -> int:
    """Print the settings in force; 0 if they can be used, 2 if not, with every fault on standard error."""
    try:
        settings = settings_of(options)
    except BadSettings as error:
        for fault in error.faults:
            print(f"sluicegate check: {fault}", file=sys.stderr)
        return 2
    print(effective(settings))
    return 0
