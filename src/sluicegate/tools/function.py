"""A typed Python function as a tool that a model can call."""

import functools
import inspect
import math
import re
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast

import trio

from ..machine.errors import LocalProtocolError
from ..machine.history import ToolSpec
from . import docstrings
from .activity import Activity
from .containment import contained
from .context import ToolContext, ToolOutcome
from .faults import ResultError, ToolError, ToolFault
from .isolation import Isolation, IsolationName, Place, checked_memory, find, isolation_of, place_of
from .jsontext import encode_json
from .messages import Job
from .parameters import ArgumentsError, Parameters
from .process import perform
from .text import encodable

TIMEOUT = 10.0
MAX_RESULT_BYTES = 65_536

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Not the tool's to fail with: who cancels, interrupts or finds a bug of ours must get it.
_PASSED_ON = (trio.Cancelled, KeyboardInterrupt, GeneratorExit, LocalProtocolError)

P = ParamSpec("P")
R = TypeVar("R")


class Tool(Generic[P, R]):
    """A function with what a model needs to call it. Calling the object itself calls the plain function.

    `timeout` is in seconds (math.inf for none) and covers the wait for a thread or a process; `eager` means without
    side effects: it may start before the reply is complete. `place` is where an isolated function can be imported,
    `memory_bytes` bounds the address space of its process. Raises TypeError or ValueError, naming function, parameter
    and cure, where the function cannot be a tool.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        activity: str | None = None,
        timeout: float = TIMEOUT,
        eager: bool = False,
        max_result_bytes: int = MAX_RESULT_BYTES,
        isolation: IsolationName = Isolation.TASK,
        memory_bytes: int | None = None,
    ) -> None:
        self.name = name if name is not None else str(getattr(function, "__name__", ""))
        where = f"tool {getattr(function, '__qualname__', self.name or repr(function))}"
        _check(where, self.name, function, timeout, max_result_bytes)
        self.function = function
        self._is_async = _is_async(function)
        self.timeout = timeout
        self.eager = eager
        self.max_result_bytes = max_result_bytes
        self.isolation = isolation_of(where, isolation)
        self.place = place_of(where, function) if self.isolation is Isolation.PROCESS else None
        self.memory_bytes = checked_memory(where, self.isolation, memory_bytes)
        documentation = docstrings.read(function)
        self._parameters = Parameters(where, function, documentation.parameters)
        self.spec = ToolSpec(self.name, documentation.description, self._parameters.schema)
        self._activity = Activity(where, self.name, activity, self._parameters.names, self._parameters.defaults)
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function, as if it were not a tool."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    def activity_text(self, arguments: str) -> str:
        """Return what the tool is about to do with `arguments` (JSON text), in words for people; never raises."""
        return self._activity.text(arguments)

    async def call(self, arguments: str, context: ToolContext) -> ToolOutcome:
        """Run the tool with `arguments`, JSON text as the model wrote it, and return how it ended. A checkpoint.

        Whatever the model or the tool does becomes an outcome. It raises only trio.Cancelled (from outside: a
        tool cannot swallow it), KeyboardInterrupt and LocalProtocolError. After the timeout or a cancellation it ends
        within containment.GRACE seconds. The thread of a sync function is abandoned at once, its result discarded; the
        process of an isolated one is killed at once, with its group.
        """
        scope = trio.CancelScope(deadline=trio.current_time() + self.timeout)
        try:
            with scope:
                content = await contained(functools.partial(self._run, arguments, context))
                return ToolOutcome(content)
            return self._timed_out(None)
        except BaseException as error:
            leaves = _leaves(error)
            passed_on = [leaf for leaf in leaves if isinstance(leaf, _PASSED_ON)]
            if len(passed_on) == len(leaves):
                raise
            if passed_on:
                raise BaseExceptionGroup(f"the call of {self.name} was ended from outside", passed_on) from error
            fault = leaves[0] if len(leaves) == 1 else error
            return self._timed_out(fault) if scope.cancelled_caught else self._failed(fault, leaves)
        finally:
            context.close()

    async def _run(self, arguments: str, context: ToolContext) -> str:
        positional, named = self._parameters.bind(arguments, context)
        if self.place is not None:
            return await perform(self._job(self.place, arguments, context), context)
        function = cast(Callable[..., Any], self.function)
        if self._is_async:
            result = await cast(Awaitable[object], function(*positional, **named))
        else:
            work = functools.partial(function, *positional, **named)
            result = await context.threads().run_sync(work)
        return self._content(result)

    def _job(self, place: Place, arguments: str, context: ToolContext) -> Job:
        return Job(
            place, self.name, arguments, context.call_id, context.run_id, self.max_result_bytes, self.memory_bytes
        )

    def _content(self, result: object) -> str:
        too_large = ResultError(
            f"The result of {self.name} is larger than the limit of {self.max_result_bytes} bytes (max_result_bytes). "
            "Ask for less."
        )
        if isinstance(result, str) and len(result) > self.max_result_bytes:
            raise too_large
        try:
            data = str.__str__(result).encode() if isinstance(result, str) else encode_json(result)
        except ValueError as error:
            raise ResultError(f"The tool {self.name} gave a result that cannot be shown.") from error
        if len(data) > self.max_result_bytes:
            raise too_large
        return data.decode()

    def _timed_out(self, fault: BaseException | None) -> ToolOutcome:
        return ToolOutcome(f"The tool {self.name} timed out after {self.timeout:g} s.", is_error=True, fault=fault)

    def _failed(self, error: BaseException, leaves: list[BaseException]) -> ToolOutcome:
        spoken = [leaf.message for leaf in leaves if isinstance(leaf, ToolError)]
        if len(spoken) < len(leaves):
            kinds = sorted({type(leaf).__name__ for leaf in leaves if not isinstance(leaf, ToolError)})
            return ToolOutcome(f"The tool {self.name} failed ({', '.join(kinds)}).", is_error=True, fault=error)
        content = "\n".join(spoken)
        if isinstance(error, ArgumentsError):
            content = f"The arguments for {self.name} are not valid, it was not run:\n{content}"
        fault = error if any(isinstance(leaf, ToolFault) for leaf in leaves) else None
        return ToolOutcome(encodable(content, self.max_result_bytes), is_error=True, fault=fault)


def function_at(place: Place) -> object:
    """Return the function, also if it became a tool there, that stands at `place` in its imported module; or None."""
    found = find(place)
    return found.function if isinstance(found, Tool) else found


def _check(where: str, name: str, function: Callable[..., Any], timeout: float, max_result_bytes: int) -> None:
    if not callable(function):
        raise TypeError(f"{where}: a tool is made of a function, not of a {type(function).__name__}")
    if isinstance(function, Tool):
        raise TypeError(f"{where}: it is a tool already")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{where}: the name {name!r} is not 1 to 64 of the characters A-Z a-z 0-9 _ -; pass another, name=..."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{where}: a tool cannot be a generator; return a list, and report with context.progress()")
    if math.isnan(timeout) or timeout <= 0:
        raise ValueError(f"{where}: timeout={timeout!r} must be more than 0 seconds (math.inf for none)")
    if max_result_bytes < 1:
        raise ValueError(f"{where}: max_result_bytes={max_result_bytes!r} must be at least 1")


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _leaves(error: BaseException) -> list[BaseException]:
    leaves: list[BaseException] = []
    pending = [error]
    while pending:
        current = pending.pop()
        if isinstance(current, BaseExceptionGroup):
            pending.extend(reversed(current.exceptions))
        else:
            leaves.append(current)
    return leaves
