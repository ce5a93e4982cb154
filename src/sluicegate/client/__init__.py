"""A small Trio HTTP client for the native wire: stream a run, come back to it, stop it."""

from .client import Client
from .errors import Gone, Interrupted, Refused
from .frame import Frame, Gap
from .outage import Resume
from .place import Misplaced
from .stream import OnDisconnect, Stream
from .transcript import Transcript

__all__ = [
    "Client",
    "Frame",
    "Gap",
    "Gone",
    "Interrupted",
    "Misplaced",
    "OnDisconnect",
    "Refused",
    "Resume",
    "Stream",
    "Transcript",
]
