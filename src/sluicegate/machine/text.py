"""Text as it comes from models: sizes in bytes, and surrogate pairs that a provider cut in two."""


def utf8_len(text: str) -> int:
    """Return the UTF-8 size of `text` in bytes; a lone surrogate counts three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def mend(text: str) -> tuple[str, str]:
    r"""Return (`text` fit for UTF-8, a high surrogate at its end that may still find its other half).

    Providers escape characters outside the BMP as \ud83d\ude00 and may cut between the halves; the JSON of each delta
    then holds a lone half. Pairs are joined; a half that has no partner becomes U+FFFD.
    """
    if text.isascii():
        return text, ""
    held = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
    body = text[:-1] if held else text
    try:
        body.encode()
    except UnicodeEncodeError:
        body = body.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return body, held
