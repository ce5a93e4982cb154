"""`@tool`: turn a typed Python function into a tool."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, overload

from .function import MAX_RESULT_BYTES, TIMEOUT, Tool
from .isolation import Isolation, IsolationName

P = ParamSpec("P")
R = TypeVar("R")


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    activity: str | None = None,
    timeout: float = TIMEOUT,
    eager: bool = False,
    max_result_bytes: int = MAX_RESULT_BYTES,
    isolation: IsolationName = Isolation.TASK,
    memory_bytes: int | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    activity: str | None = None,
    timeout: float = TIMEOUT,
    eager: bool = False,
    max_result_bytes: int = MAX_RESULT_BYTES,
    isolation: IsolationName = Isolation.TASK,
    memory_bytes: int | None = None,
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """Turn a typed function, sync or async, into a Tool; use as `@tool` or `@tool(...)`.

    Name and description come from the function and its docstring, the JSON Schema from its annotations; a parameter
    of type ToolContext is filled in and not shown to the model. `activity` is a template over the parameters
    ("Checking the weather in {city}"). A sync function runs in a thread. After `timeout` seconds the call is
    cancelled; clean-up may then take one second more, shielded or not.

    With `isolation="process"` the function, sync or async, runs in a process of its own, started for the call. At the
    timeout or a cancellation that process and all it started are killed at once, without clean-up. The function must
    be importable; its module is imported once more in the process, which sees nothing of the service's memory.
    `memory_bytes` bounds its address space. Raises as Tool does.
    """

    def decorate(function: Callable[P, R]) -> Tool[P, R]:
        return Tool(
            function,
            name=name,
            activity=activity,
            timeout=timeout,
            eager=eager,
            max_result_bytes=max_result_bytes,
            isolation=isolation,
            memory_bytes=memory_bytes,
        )

    return decorate if function is None else decorate(function)
