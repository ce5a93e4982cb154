"""`sluicegate chat`: a conversation in the terminal. Ctrl-C stops the answer and keeps the conversation."""

import argparse
import signal
import sys
from typing import Any

import httpx2
import trio

from ..client import Client, Interrupted, Refused, Stream
from ..client.frame import Frame

DIM, RED, PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"


def run_chat(options: argparse.Namespace) -> int:
    """Talk until end of input; 1 if a single message could not be answered."""
    return trio.run(_chat, options)


async def _chat(options: argparse.Namespace) -> int:
    settings = {name: value for name in ("model", "system") if (value := getattr(options, name))}
    messages: list[dict[str, Any]] = []
    async with Client(options.url) as client:
        if options.message:
            messages.append({"role": "user", "content": " ".join(options.message)})
            return 0 if await _answer(client, messages, settings) else 1
        print(f"{DIM}Ctrl-C stops an answer, Ctrl-D leaves.{PLAIN}")
        while (line := await _ask()) is not None:
            if line.strip():
                messages.append({"role": "user", "content": line})
                if not await _answer(client, messages, settings):
                    messages.pop()
    return 0


async def _ask() -> str | None:
    try:
        # Reading a line must not be cancelled in its thread; Ctrl-C at the prompt leaves.
        return await trio.to_thread.run_sync(input, "\n> ")
    except EOFError:
        return None


async def _answer(client: Client, messages: list[dict[str, Any]], settings: dict[str, Any]) -> bool:
    """Stream one answer and add what was said to `messages`; return False if nothing was."""
    said: list[str] = []
    with trio.open_signal_receiver(signal.SIGINT) as signals, trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, signals, scope)
            try:
                async with client.chat(messages, **settings) as stream:
                    await _show(stream, said)
            except* Refused as refused:
                _complain(str(refused.exceptions[0]))
            except* Interrupted as interrupted:
                _complain(str(interrupted.exceptions[0]))
            except* httpx2.HTTPError as error:
                _complain(f"the service cannot be reached: {error.exceptions[0]}")
            nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        print(f"\n{DIM}stopped{PLAIN}")
    text = "".join(said)
    if text:
        messages.append({"role": "assistant", "content": text})
    return bool(text)


async def _stop_on_signal(signals: Any, scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()  # leaving the stream's context disconnects, which ends the run
        return


async def _show(stream: Stream, said: list[str]) -> None:
    async for frame in stream:
        _print(frame, said)


def _print(frame: Frame, said: list[str]) -> None:
    if frame.content is not None:
        said.append(frame.content)
        print(frame.content, end="", flush=True)
    elif frame.reasoning is not None:
        print(f"{DIM}{frame.reasoning}{PLAIN}", end="", flush=True)
    elif frame.refusal is not None:
        print(f"{RED}{frame.refusal}{PLAIN}", end="", flush=True)
    elif frame.activity is not None:
        print(f"\n{DIM}[{frame.activity}]{PLAIN}")
    elif frame.tool_result is not None:
        mark = "failed: " if frame.tool_result.get("is_error") else ""
        print(f"{DIM}[{mark}{str(frame.tool_result.get('content'))[:200]}]{PLAIN}")
    elif frame.error is not None:
        _complain(f"{frame.error.get('code')}: {frame.error.get('message')}")
    elif frame.done:
        usage = frame.usage or {}
        tokens = f"{usage.get('input_tokens', 0)} in, {usage.get('output_tokens', 0)} out"
        print(f"\n{DIM}{frame.finish_reason} ({tokens}){PLAIN}")


def _complain(text: str) -> None:
    print(f"\n{RED}{text}{PLAIN}", file=sys.stderr)
