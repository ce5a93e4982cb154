"""The published estimator: what a reply costs where the provider never said."""

BYTES_PER_TOKEN = 4


def estimate_tokens(size: int) -> int:
    """Return the estimated tokens of `size` UTF-8 bytes of text: one for each four bytes, rounded up."""
    return -(-size // BYTES_PER_TOKEN)
