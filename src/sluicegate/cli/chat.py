"""`sluicegate chat`: a conversation in the terminal. Ctrl-C stops the answer and keeps the conversation.

The answer's text goes to standard output, all else to standard error.
"""

import argparse
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import trio

from ..client import Client, Interrupted, Refused, Stream
from ..client.frame import Frame

DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"
RESULT_CHARACTERS = 200


def run_chat(options: argparse.Namespace) -> int:
    """Talk until end of input; 1 if a single message could not be answered to the end."""
    return trio.run(_chat, options)


async def _chat(options: argparse.Namespace) -> int:
    settings = {name: value for name in ("model", "system") if (value := getattr(options, name))}
    try:
        client = Client(options.url)
    except httpx2.InvalidURL as error:
        _complain(f"--url {options.url}: {error}")
        return 1
    async with client:
        conversation = Conversation(client, options.url, settings)
        if options.message:
            return 0 if await conversation.say(" ".join(options.message)) else 1
        _note("Ctrl-C stops an answer, Ctrl-D leaves.")
        while (line := _ask()) is not None:
            if line.strip():
                await conversation.say(line)
    return 0


def _ask() -> str | None:
    """Return the next line, None at the end of input. Blocks the event loop: nothing else runs between answers, and
    only in the main thread does Ctrl-C get through to a read that waits.
    """
    while True:
        try:
            return input("\n> ")
        except KeyboardInterrupt:
            _note("\nCtrl-D leaves.")
        except EOFError:
            return None


class Conversation:
    """What was said so far, and the service that it is said to."""

    def __init__(self, client: Client, url: str, settings: dict[str, str]) -> None:
        self._client = client
        self._url = url
        self._settings = settings
        self._messages: list[dict[str, Any]] = []

    async def say(self, text: str) -> bool:
        """Stream the answer to `text`; return whether it came to its end. What was said of it is kept."""
        self._messages.append({"role": "user", "content": text})
        said: list[str] = []
        ended = False
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signal, signals, nursery.cancel_scope)
                ended = await self._answer(said)
                nursery.cancel_scope.cancel()
        if said:
            self._messages.append({"role": "assistant", "content": "".join(said)})
        else:
            self._messages.pop()
        return ended

    async def _answer(self, said: list[str]) -> bool:
        try:
            async with self._client.chat(self._messages, **self._settings) as stream:
                return await _show(stream, said)
        except (Refused, Interrupted) as error:
            _complain(str(error))
        except httpx2.HTTPError as error:
            _complain(f"{self._url} cannot be reached ({error}); `sluicegate serve` starts a service.")
        return False


async def _stop_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        _note("\nstopped")
        scope.cancel()  # leaving the stream's context disconnects, which ends the run
        return


async def _show(stream: Stream, said: list[str]) -> bool:
    done = False
    async for frame in stream:
        if frame.content is not None:
            said.append(frame.content)
            print(frame.content, end="", flush=True)
        else:
            _describe(frame)
        done = frame.done
    return done


def _describe(frame: Frame) -> None:
    if frame.reasoning is not None:
        _note(frame.reasoning, end="")
    elif frame.refusal is not None:
        _complain(frame.refusal)
    elif frame.activity is not None:
        _note(f"\n[{frame.activity}]")
    elif frame.tool_result is not None:
        mark = "failed: " if frame.tool_result.get("is_error") else ""
        _note(f"[{mark}{str(frame.tool_result.get('content'))[:RESULT_CHARACTERS]}]")
    elif frame.error is not None:
        _complain(f"{frame.error.get('code')}: {frame.error.get('message')}")
    elif frame.done:
        print(flush=True)
        usage = frame.usage or {}
        _note(f"{frame.finish_reason} ({usage.get('input_tokens', 0)} in, {usage.get('output_tokens', 0)} out)")


def _note(text: str, end: str = "\n") -> None:
    _print_aside(text, DIM, end)


def _complain(text: str) -> None:
    _print_aside(f"\n{text}", RED, "\n")


def _print_aside(text: str, colour: str, end: str) -> None:
    shown = f"{colour}{text}{PLAIN}" if sys.stderr.isatty() else text
    print(shown, end=end, file=sys.stderr, flush=True)
