"""How the demo model reads: words, and what of a message could be an argument. No model, no randomness."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STOP: Final = _set(
    """
    a about above after afternoon again all also am an and any anything are as ask at be because been but by can could
    current currently did do does doing evening explain few find for from get getting give given had has have hello
    help her here hey hi his hour how i if in into is it its just know let like list look make me mean more morning
    most much my name need next no not now of off ok on once one only or other our out please return returns right say
    see shall she should show so some something tell than thank thanks that the their them then there these they thing
    this those to today tomorrow tonight too tool up us use used user using very want was we week weekend were what
    when where which while who whom whose why will with without would write yes yesterday you your
    """
)
_PREPOSITIONS: Final = _set("about at between for from in near of on to")
_LOWER_PREPOSITIONS: Final = _set("about at for from in near of")
_PARTICLES: Final = _set("da de del den der di do du la las le los upon van")
_DETERMINERS: Final = _set("a an my our the your")
_QUESTIONS: Final = _set("are can could do does how is what when where which who why will")
_AND: Final = _set("and or &")
_NUMBERS: Final = {
    word: str(number)
    for number, word in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"))
}
_SYNONYMS: Final = {
    "weather": "rain raining rainy snow snowing sunny wind windy hot cold warm temperature umbrella forecast",
    "time": "clock hour o'clock date",
    "calculate": "sum add plus minus multiply divide divided compute math arithmetic",
}
_SPOKEN_SIGNS: Final = (
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile(r"square root of (\d+(?:\.\d+)?)"), r"sqrt(\1)"),
    (re.compile(r"to the power of|\^"), "**"),
    (re.compile(r"multiplied by|(?<=\d)\s*\bx\b\s*(?=\d)|\btimes\b|×"), "*"),
    (re.compile(r"divided by|÷"), "/"),
    (re.compile(r"\bplus\b"), "+"),
    (re.compile(r"\bminus\b|−"), "-"),
)
_words = re.compile(r"\w+(?:['’./@:+-]\w+)*|[^\w\s]").findall
_parts = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+").findall
_quoted = re.compile(r"[\"“”«»`]([^\"“”«»`]+)[\"“”«»`]|(?<!\w)['‘]([^'’]+)['’](?!\w)").findall
_numbers = re.compile(r"(?:(?<![\w.])-)?\d+(?:\.\d+)?").findall
_dates = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_emails = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]*\w").findall
_urls = re.compile(r"https?://[^\s\"'<>]+[^\s\"'<>.,?!)]").findall
_terms = re.compile(
    r"(?:(?:sqrt|abs|round|min|max)\(|[(\s-])*\d(?:[\d\s().,+*/%-]|sqrt|abs|round|min|max)*[\d)]"
).findall
_sum = re.compile(r"[\d)]\s*[-+*/%]+\s*[-(\da-z]|[a-z]\(").search


class Group(msgspec.Struct, frozen=True):
    """The names that a preposition introduces ("in Paris and Oslo")."""

    preposition: str
    names: tuple[str, ...]
    capital: bool


class Facts(msgspec.Struct, frozen=True):
    """What a message offers. Of the `groups`, those with a capital come first; `names` are all names with a capital,
    `codes` all words with a digit, `nouns` all words that mean something, the last one first.
    """

    text: str
    words: frozenset[str]
    quoted: tuple[str, ...]
    groups: tuple[Group, ...]
    names: tuple[str, ...]
    codes: tuple[str, ...]
    numbers: tuple[str, ...]
    dates: tuple[str, ...]
    emails: tuple[str, ...]
    urls: tuple[str, ...]
    expression: str
    topic: str
    nouns: tuple[str, ...]
    is_question: bool


def stem(word: str) -> str:
    """Return the form under which inflected forms of a word meet: lower case, no plural, -ing or -ed, 7 letters."""
    word = word.lower()
    for ending, instead in (("'s", ""), ("’s", ""), ("ies", "y"), ("ing", ""), ("ed", ""), ("s", "")):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) > 2:
            word = word.removesuffix(ending) + instead
            break
    return word[:7]


def stems(text: str) -> frozenset[str]:
    """Return the stems of the meaningful words in `text`, which may be an identifier (snake_case or camelCase)."""
    return frozenset(stem(word) for word in _parts(text) if word.lower() not in _STOP)


def spoken(identifier: str) -> str:
    """Return an identifier as words: "get_weather" and "getWeather" as "get weather"."""
    return " ".join(part.lower() for part in _parts(identifier))


def read(message: str) -> Facts:
    """Return what `message` offers."""
    tokens = _words(message)
    plain = _dates.sub(" ", message)
    first = tokens[0].lower().partition("'")[0].partition("’")[0] if tokens else ""
    return Facts(
        text=message,
        words=_with_synonyms(stems(message)),
        quoted=tuple("".join(pair).strip() for pair in _quoted(message)),
        groups=(*_groups(tokens, _PREPOSITIONS, upper=True), *_groups(tokens, _LOWER_PREPOSITIONS, upper=False)),
        names=_names(tokens),
        codes=tuple(word for word in tokens if any(map(str.isdigit, word))),
        numbers=(
            *_numbers(plain),
            *(_NUMBERS[word.lower()] for word in tokens if word.lower() in _NUMBERS),
        ),
        dates=tuple(_dates.findall(message)),
        emails=tuple(_emails(message)),
        urls=tuple(_urls(message)),
        expression=_expression(plain),
        topic=_topic(message),
        nouns=tuple(word for word in reversed(tokens) if word[0].isalnum() and word.lower() not in _STOP),
        is_question="?" in message or first in _QUESTIONS,
    )


def _with_synonyms(words: frozenset[str]) -> frozenset[str]:
    return words | {stem(word) for word, others in _SYNONYMS.items() if words & {stem(o) for o in others.split()}}


def _expression(text: str) -> str:
    text = text.lower()
    for spoken_sign, sign in _SPOKEN_SIGNS:
        text = spoken_sign.sub(sign, text)
    sums = [" ".join(term.split()) for term in _terms(text) if _sum(term)]
    return max(sums, key=len, default="")


def _topic(message: str) -> str:
    found = re.search(r"\b(?:about|for|on)\s+(.+)", message, re.DOTALL)
    return (found[1] if found else message).strip().rstrip("?!. ")


def _names(tokens: list[str]) -> tuple[str, ...]:
    names: list[str] = []
    start = 0
    while start < len(tokens):
        opening = start == 0 or tokens[start - 1] in ".?!"
        end = _run(tokens, start, upper=True)
        if end > start and not (opening and end == start + 1) and tokens[start:end] != ["I"]:
            names.append(" ".join(tokens[start:end]))
        start = max(end, start + 1)
    return tuple(names)


def _groups(tokens: list[str], prepositions: frozenset[str], *, upper: bool) -> Iterator[Group]:
    for at, token in enumerate(tokens):
        if token.lower() in prepositions and (names := _group(tokens, at + 1, upper=upper)):
            yield Group(token.lower(), names, upper)


def _group(tokens: list[str], start: int, *, upper: bool) -> tuple[str, ...]:
    """Return the names listed from `start` on. Commas alone do not make a list: "Paris, France" is one name."""
    if start < len(tokens) and tokens[start].lower() in _DETERMINERS:
        start += 1
    names: list[str] = []
    is_list = False
    while (end := _run(tokens, start, upper=upper)) > start:
        names.append(" ".join(tokens[start:end]))
        start = end
        while start < len(tokens) and (tokens[start] == "," or tokens[start].lower() in _AND):
            is_list |= tokens[start] != "," and _run(tokens, start + 1, upper=upper) > start + 1
            start += 1
        if start == end:
            break
    return tuple(names) if is_list or not names else (", ".join(names),)


def _run(tokens: list[str], start: int, *, upper: bool) -> int:
    """Return the end of the name that starts at `start`, or `start`."""
    end = start
    while end < len(tokens) and _continues(tokens, end, end > start, upper=upper):
        end += 1
    return end


def _continues(tokens: list[str], at: int, begun: bool, *, upper: bool) -> bool:
    token = tokens[at]
    if upper:
        particle = begun and token in _PARTICLES and at + 1 < len(tokens) and tokens[at + 1][0].isupper()
        return token[0].isupper() or particle
    return token[0].isalnum() and token.lower() not in _STOP and token.lower() not in _AND
