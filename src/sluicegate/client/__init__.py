"""A small Trio HTTP client for the native wire: stream a run, stop it."""

from .client import Client, Interrupted, Refused, Stream

__all__ = ["Client", "Interrupted", "Refused", "Stream"]
