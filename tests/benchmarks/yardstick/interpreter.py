"""What an interpreter is and how it was built: the same code runs up to twice as fast on another build."""

import functools
import json
import platform
import subprocess
from pathlib import Path

_ABOUT = """
import json, platform, sys, sysconfig
flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
print(json.dumps([platform.python_version(), platform.python_compiler(), sys.base_prefix,
                  "--enable-optimizations" in flags]))
"""


@functools.cache
def about(python: str) -> str:
    """Return version, compiler and origin in words; PGO and the distribution's own build are named."""
    version, compiler, prefix, optimised = json.loads(output(python, "-c", _ABOUT))
    if prefix == "/usr":
        origin = f"as {platform.freedesktop_os_release().get('PRETTY_NAME', 'the distribution')} builds it"
    else:
        origin = f"built from source with{'' if optimised else 'out'} --enable-optimizations (PGO)"
    return f"CPython {version} ({compiler}), {origin}"


def output(*command: str | Path) -> str:
    """Run a program that must succeed; return what it prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
