"""Provider JSON that is passed on as it came: to clients, or back to the provider in the next step."""

from msgspec import Raw


def verbatim(raw: Raw | bytes) -> bytes:
    """Return `raw` as it came, but fit to be sent: malformed UTF-8 becomes U+FFFD, as in the event-stream standard.

    msgspec refuses it in what it decodes and does not look for it in what it skips over.
    """
    data = bytes(raw)
    return data if data.isascii() else data.decode("utf-8", "replace").encode()
