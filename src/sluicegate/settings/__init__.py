"""Settings: one TOML file, the environment and arguments, composed of the options that each room defines."""

from .model import Settings
from .problems import BadSettings
from .reading import placed, read

__all__ = ["BadSettings", "Settings", "placed", "read"]
