"""The demo's own model, for a server without a key: it calls the offered tools as a small model would, and is polite.

It knows no tool: it compares words. The same request gets the same reply.
"""

from typing import Final

import msgspec

from .demo_arguments import Filled, fill
from .demo_tour import long_answer, tour
from .demo_words import Facts, read, spoken, stems
from .script import Action, Call, Reply, Say, shortened
from .scripted_request import OfferedTool, Returned, ScriptedRequest

WORDS_PER_SECOND: Final = 30.0
_ENOUGH: Final = 2
_ECHO_CHARACTERS: Final = 300
_RESULT_CHARACTERS: Final = 600


class _Fit(msgspec.Struct, frozen=True):
    """How well a tool fits a message: `overlap` counts shared words, weighted by where the tool has them."""

    tool: OfferedTool
    overlap: int
    filled: Filled

    @property
    def score(self) -> int:
        return self.overlap + self.filled.evidence


def demo_brain(request: ScriptedRequest) -> Reply:
    """Return what the demo model says and does next.

    With tool results: a sentence with what they say. Asked for Markdown, or for a long answer: that. With a tool that
    fits the last user message: a sentence and its calls, one for each thing asked about. Else a paragraph about itself
    that repeats the question. Never more words than the request allows.
    """
    return shortened(_reply(request), request.max_output_tokens)


def _reply(request: ScriptedRequest) -> Reply:
    if request.results:
        return [_say(" ".join(map(_told, request.results)))]
    facts = read(request.question)
    if stems("markdown") <= facts.words:
        return tour()
    if stems("long answer") <= facts.words:
        return long_answer()
    fits = [_fit(tool, facts) for tool in request.tools]
    best = max(fits, key=lambda fit: fit.score, default=None)
    if best is None or not request.question:
        return [_say(_introduction(request))]
    if best.filled.arguments and (best.score >= _ENOUGH or _is_only_choice(fits, facts)):
        return _call(best)
    wordiest = max(fits, key=lambda fit: fit.overlap)
    if wordiest.filled.missing and wordiest.overlap > _ENOUGH:
        tool, missing = spoken(wordiest.tool.name), spoken(wordiest.filled.missing)
        return [_say(f"I would gladly use the {tool} tool for that, but which {missing} do you mean?")]
    return [_say(_introduction(request))]


def _fit(tool: OfferedTool, facts: Facts) -> _Fit:
    properties = tool.schema.get("properties")
    name, described = stems(tool.name), stems(tool.description)
    named = stems(" ".join(properties)) if isinstance(properties, dict) else frozenset()
    words = facts.words
    overlap = 3 * len(words & name) + len(words & (described - name)) + len(words & (named - name - described))
    return _Fit(tool, overlap, fill(tool.schema, facts, name | described | named))


def _is_only_choice(fits: list[_Fit], facts: Facts) -> bool:
    """A question and a single tool: call it where the question gives it something to work on."""
    return len(fits) == 1 and facts.is_question and any(fits[0].filled.arguments)


def _call(fit: _Fit) -> Reply:
    calls: list[Action] = [Call(fit.tool.name, arguments) for arguments in fit.filled.arguments]
    return [_say(f"One moment, let me use the {spoken(fit.tool.name)} tool."), *calls]


def _told(result: Returned) -> str:
    tool = spoken(result.name) or "requested"
    given = _readable(_parsed(result.arguments), keys=False)
    about = f"For {given}, the" if given else "The"
    words = _readable(_parsed(result.content)).strip().removesuffix(".") or "nothing"
    if len(words) > _RESULT_CHARACTERS:
        words = words[:_RESULT_CHARACTERS] + "…"
    return f"{about} {tool} tool says: {words}."


def _parsed(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def _readable(value: object, *, keys: bool = True) -> str:
    match value:
        case dict():
            pairs = ((spoken(str(key)), _readable(part, keys=keys)) for key, part in value.items())
            return ", ".join(f"{key} {part}" if keys else part for key, part in pairs)
        case list():
            return ", ".join(_readable(part, keys=keys) for part in value)
        case bool():
            return "yes" if value else "no"
        case None:
            return "nothing"
        case _:
            return str(value)


def _introduction(request: ScriptedRequest) -> str:
    asked = " ".join(request.question.split())
    if len(asked) > _ECHO_CHARACTERS:
        asked = asked[:_ECHO_CHARACTERS] + "…"
    quoted = f"You said: “{asked}”." if asked else "You have not said anything yet."
    tools = " or ".join(f"the {spoken(tool.name)} tool" for tool in request.tools[:3])
    offer = f" Ask me something for {tools}, and I will call it." if tools else ""
    return (
        f"Hello! I am the scripted demo model of sluicegate. {quoted} No language model is behind me, so I cannot "
        f"think about it, but every word of this answer really streams.{offer} To talk to a real model, start the "
        "server with a provider's key. Have a nice day!"
    )


def _say(text: str) -> Say:
    return Say(text, rate=WORDS_PER_SECOND)
