"""A service for a browser, whose model does as the question says.

`python -m tests.web.served [--port N] [--grace SECONDS] [--no-trace]`

Prints its address, and serves until it is killed. `GET /observed` tells what the provider saw.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio
from quart import Response

from sluicegate.machine.deltas import TextDelta
from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.price import Price
from sluicegate.providers.demo_tour import tour
from sluicegate.providers.script import Call, Fail, Pause, Refuse, Reply, Reset, Say, Think
from sluicegate.providers.scripted_request import Returned, ScriptedRequest
from sluicegate.runtime.options import RunOptions
from sluicegate.server.options import ServerOptions
from sluicegate.service.options import ServiceOptions
from sluicegate.tools.context import ToolContext
from sluicegate.tools.decorator import tool
from sluicegate.tools.registry import Registry
from tests.service.harness import stack

PAYLOADS: Final = Path(__file__).parents[2] / "src/sluicegate/web/test/markdownPayloads.json"


@tool(activity="Counting to {to}")
async def count(to: int, seconds: float, context: ToolContext) -> int:
    """Count to a number, slowly."""
    for number in range(1, to + 1):
        await trio.sleep(seconds)
        context.progress({"at": number})
    return to


@tool
async def fail() -> str:
    """Fail."""
    raise ValueError("it is broken")


@tool
async def echo(text: str) -> str:
    """Say it again."""
    return text


tools = Registry([count, fail, echo])


def brain(request: ScriptedRequest) -> Reply:
    """What the cases below say; everything else is repeated."""
    if request.results and not request.question.startswith("spell"):
        return [Say("The tool has ended: " + "; ".join(result.content for result in request.results) + ".", rate=50)]
    match request.question.split():
        case ["say", number, "words", "at", rate]:
            fast = float(rate) > 500  # than which a timer cannot be much faster
            return [Say(words(int(number)), words=8 if fast else 1, rate=float(rate))]
        case ["tell", number, "sentences"]:
            return [Pause(1), Say(" ".join(f"This is sentence {at}." for at in range(int(number))), rate=25)]
        case ["write", number, "sections", "at", rate]:
            return [Say(sections(int(number)), words=8, rate=float(rate))]
        case ["hang"]:
            return [Pause(3_600)]
        case ["count", "to", number]:
            return [Say("Let me count. ", rate=50), Call("count", {"to": int(number), "seconds": 0.3}, size=4)]
        case ["half", "a", "call"]:
            return [Call("count", '{"to": 12, "sec', size=0), Pause(3_600)]
        case ["fail", "the", "tool"]:
            return [Call("fail", {})]
        case ["break"]:
            return [Say("This will not go ", rate=50), Fail(ErrorCode.OVERLOADED, "Overloaded", retryable=True)]
        case ["reset"]:
            return [Say("The line is ", rate=50), Reset()]
        case ["think"]:
            return [Think("Hm, let me see. ", rate=20), Say("I have thought about it.", rate=20)]
        case ["refuse"]:
            return [Refuse("That I will not say.", rate=20)]
        case ["spell", number]:
            return spelled(json.loads(PAYLOADS.read_text(encoding="utf-8"))[int(number)], request.results)
        case ["tour"]:
            return tour()
        case _:
            return [Say(f"You said {request.question!r}.", rate=50)]


def spelled(text: str, results: Sequence[Returned]) -> Reply:
    """Return an answer that says `text`, and does so again in all other ways that there are."""
    letters = [TextDelta(letter) for letter in text]
    if results:
        return [Refuse(text), *letters, Fail(ErrorCode.OVERLOADED, text)]
    return [Think(text), *letters, Call("echo", {"text": text}, size=1), Call(text, {text: text}, size=1)]


def words(count: int) -> str:
    """Return that many words: sentences, and a new paragraph now and then."""
    stops = ("." if number % 10 == 9 else "" for number in range(count // 2))
    gaps = ("\n\n" if number % 100 == 99 else " " for number in range(count // 2))
    return "".join(f"word {number}{stop}{gap}" for number, (stop, gap) in enumerate(zip(stops, gaps, strict=True)))


def sections(count: int) -> str:
    """Return that many sections of Markdown: prose, a list, a table and code."""
    return "\n\n".join(
        f"## Section {number}\n\nSome **bold** and *other* words with `code` and a [link](https://example.org/).\n\n"
        f"- one item\n- another, with **bold** words\n\n| a | b |\n|---|---|\n| {number} | cell |\n\n"
        f"```python\ndef section_{number}(x: int) -> int:\n    return x * {number}  # so many\n```"
        for number in range(count)
    )


async def serve(port: int, grace: float, *, trace: bool) -> None:
    """Serve until killed."""
    run = RunOptions(grace_seconds=grace)
    options = ServiceOptions(trace=trace)
    prices = {"scripted-demo": Price(1.0, 2.0, 0.5, 1.0)}
    async with stack(
        brain, socket=True, tools=tools, run=run, options=options, prices=prices, server=ServerOptions(port=port)
    ) as up:

        async def observed() -> Response:
            transport = up.transport
            seen = {"opened": transport.opened, "closed": transport.closed, "runs": len(up.service.runs)}
            return Response(json.dumps(seen), content_type="application/json")

        up.app.add_url_rule("/observed", "observed", observed)
        print(f"serves {up.url}", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--grace", type=float, default=5, help="seconds that a run goes on without a reader")
    parser.add_argument("--no-trace", action="store_true")
    given = parser.parse_args()
    trio.run(lambda: serve(given.port, given.grace, trace=not given.no_trace))
