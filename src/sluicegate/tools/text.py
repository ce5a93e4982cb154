"""Text that came from a model or a tool, made fit to be shown."""

import unicodedata


def plain(text: str, limit: int) -> str:
    """Return `text` on one line, at most `limit` characters, without control, direction and surrogate characters."""
    kept = []
    for char in text[: limit * 4]:
        category = unicodedata.category(char)
        if category in {"Cc", "Zl", "Zp", "Zs"}:
            kept.append(" ")
        elif not category.startswith("C"):
            kept.append(char)
    line = " ".join("".join(kept).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def encodable(text: str, max_bytes: int) -> str:
    """Return `text` with lone surrogates replaced, cut so that its UTF-8 form has at most `max_bytes` bytes."""
    data = text[:max_bytes].encode("utf-8", "replace")
    return data[:max_bytes].decode("utf-8", "ignore")
