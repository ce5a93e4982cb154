"""A bound on how long a cancelled tool may go on, whatever it does.

Trio's cancellation stops at a shield, and a tool may sit in one for ever. A tool gets GRACE seconds for its clean-up
after it was cancelled; then its shields are lifted, and the cancellation reaches it. Structured concurrency holds:
no task is left behind. Beyond reach is only code that never comes back to Trio.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

GRACE = 1.0

T = TypeVar("T")


async def contained(function: Callable[[], Awaitable[T]]) -> T:
    """Await `function()` in a nursery of its own; always a checkpoint. Returns at most GRACE seconds after a cancel.

    Exceptions come out in an ExceptionGroup, trio.Cancelled among them.
    """
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_lift_shields, nursery.cancel_scope, ended)
        try:
            result = await function()
        finally:
            ended.set()
    return result


async def _lift_shields(root: trio.CancelScope, ended: trio.Event) -> None:
    try:
        await ended.wait()
    finally:
        with trio.CancelScope(shield=True) as own:  # ends when the tool ends, which the loop brings about
            while not ended.is_set():
                with trio.move_on_after(GRACE) as grace:
                    await ended.wait()
                if grace.cancelled_caught:
                    _lift(root, own)


def _lift(root: trio.CancelScope, keep: trio.CancelScope) -> None:
    status = root._cancel_status  # private, but Trio offers no walk over the scopes below one
    pending = list(status.children) if status is not None else []
    while pending:
        current = pending.pop()
        if current._scope is not keep:
            pending.extend(current.children)
            current._scope.shield = False
