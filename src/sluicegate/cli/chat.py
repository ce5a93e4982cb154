"""`sluicegate chat`: a conversation in the terminal. Ctrl-C stops the answer and keeps the conversation; an answer
whose connection is lost is read on, where the service allows that.

The answer's text goes to standard output, all else to standard error.
"""

import argparse
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
import trio

from ..client import Client, Frame, Interrupted, OnDisconnect, Refused, Stream, Transcript

DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"
RESULT_CHARACTERS = 200
STOP_SECONDS = 5.0
KEY_BYTES = 16
KEY_VARIABLE = "SLUICEGATE_API_KEY"


def run_chat(options: argparse.Namespace) -> int:
    """Talk until end of input; 1 if a single message could not be answered to the end."""
    return trio.run(_chat, options)


async def _chat(options: argparse.Namespace) -> int:
    settings: dict[str, Any] = {name: value for name in ("model", "system") if (value := getattr(options, name))}
    try:
        client = Client(options.url, api_key=os.environ.get(KEY_VARIABLE, ""), on_lost=_tell_loss)
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

    def __init__(self, client: Client, url: str, settings: dict[str, Any]) -> None:
        self._client = client
        self._url = url
        self._settings = settings
        self._policy = OnDisconnect.DETACH
        self._messages: list[dict[str, Any]] = []

    async def say(self, text: str) -> bool:
        """Stream the answer to `text`; return whether it came to its end. What was said of it is kept."""
        self._messages.append({"role": "user", "content": text})
        said = Transcript()
        ended = False
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signal, signals, nursery.cancel_scope)
                ended = await self._answer(said)
                nursery.cancel_scope.cancel()
        if said.text:
            self._messages.append({"role": "assistant", "content": said.text})
        else:
            self._messages.pop()
        return ended

    async def _answer(self, said: Transcript) -> bool:
        try:
            return await self._read_as_allowed(said)
        except (Refused, Interrupted) as error:
            _complain(str(error))
        except httpx2.HTTPError as error:
            _complain(f"{self._url} cannot be reached ({error}); `sluicegate serve` starts a service.")
        return False

    async def _read_as_allowed(self, said: Transcript) -> bool:
        try:
            return await self._read(said)
        except Refused as refused:
            if self._policy is OnDisconnect.CANCEL or refused.error.get("field") != "on_disconnect":
                raise
        _note("The service does not allow detach: if the connection is lost, so is the rest of the answer.")
        self._policy = OnDisconnect.CANCEL
        return await self._read(said)

    async def _read(self, said: Transcript) -> bool:
        key = secrets.token_hex(KEY_BYTES) if self._policy is OnDisconnect.DETACH else ""
        try:
            async with self._client.chat(
                self._messages, on_disconnect=self._policy, idempotency_key=key, **self._settings
            ) as stream:
                return await show(stream, said)
        except (Refused, Interrupted, httpx2.HTTPError):
            raise
        except BaseException:  # Ctrl-C, or nobody reads what we print
            await self._stop(key)
            raise

    async def _stop(self, key: str) -> None:
        """End the run under `key`, which is detached and would go on; without a key it has ended by itself."""
        if key:
            with trio.move_on_after(STOP_SECONDS, shield=True), suppress(Refused, httpx2.HTTPError):
                await self._client.stop(key)


async def _stop_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        _note("\nstopped")
        scope.cancel()
        return


def _tell_loss(reason: str, _seconds: float) -> None:
    _note(f"\n[connection lost, reconnecting ... ({reason})]")


async def show(stream: Stream, said: Transcript) -> bool:
    """Print what comes and add it to `said`; return whether the answer came to its end. Raises what `stream` raises."""
    shown = 0
    async for frame in stream:
        said.add(frame)
        text = said.text[shown:] if frame.gap is not None else frame.content
        if text is not None:
            shown += len(text)
            print(text, end="", flush=True)
        else:
            _describe(frame)
    return said.finish_reason is not None


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
