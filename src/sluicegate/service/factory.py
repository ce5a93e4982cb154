"""From what a request asks to the driver of its run, within what the caller may do."""

import secrets
from collections.abc import Callable
from typing import Any

from ..machine.history import Request
from ..machine.run import Run
from ..providers.models import Models, UnknownModel
from ..runtime.driver import Driver, OnDisconnect
from ..runtime.feed import Feed
from ..runtime.ledger import Ledger
from ..runtime.options import RunOptions
from ..tools.function import Tool
from ..tools.registry import Registry
from ..wire.downstream.native import NativeEncoder
from .access import Caller, Grants, forbidden
from .body import ChatRequest, history
from .budgets import Budgets
from .options import ServiceOptions
from .problems import Problem


class Factory:
    """Makes runs. `ids` gives each its id."""

    def __init__(
        self,
        models: Models,
        tools: Registry,
        run_options: RunOptions,
        options: ServiceOptions,
        ids: Callable[[], str],
        budgets: Budgets,
    ) -> None:
        self._models = models
        self._tools = tools
        self._run_options = run_options
        self._options = options
        self._ids = ids
        self._budgets = budgets

    def driver(self, asked: ChatRequest, caller: Caller, ledger: Ledger) -> Driver:
        """Return the driver of the run that `caller` asked for. Raises Problem where that may not be."""
        on_disconnect = OnDisconnect(asked.on_disconnect)
        if on_disconnect is OnDisconnect.DETACH and not self._options.detach:
            raise Problem(400, "on_disconnect: this server does not allow detach; use cancel.", field="on_disconnect")
        if on_disconnect is OnDisconnect.DETACH and not caller.grants.detach:
            raise forbidden("on_disconnect", "this key does not allow detach; use cancel")
        try:
            name = asked.model or self._models.default_for(caller.grants.models)
            route = self._models.resolve(name)
        except UnknownModel as error:
            raise Problem(400, f"model: {error}.", field="model") from None
        if (models := caller.grants.models) is not None and name not in models:
            raise forbidden("model", f"this key does not allow it; it allows {', '.join(models) or 'none'}")
        tools = self._chosen(asked.tools, caller.grants)
        run = Run(
            self._ids(),
            Request(route.model, history(asked), tools.specs(), route.cap(asked.max_output_tokens), asked.temperature),
            self._run_options.limits,
            tools.eager,
            traces=self._options.trace,
        )
        encoder = NativeEncoder(secrets.token_hex(4), tells_cost=self._options.tell_cost)
        feed = Feed(encoder, self._run_options.log_room, self._run_options.log_bytes)
        return Driver(
            run,
            route,
            tools,
            feed,
            self._run_options,
            ledger,
            on_disconnect,
            caller.owner,
            caller.key,
            self._budgets.for_run(caller, route),
        )

    def _chosen(self, names: list[str] | None, grants: Grants) -> Registry:
        allowed = self._tools if grants.tools is None else Registry(t for t in self._tools if t.name in grants.tools)
        if names is None:
            return allowed
        chosen: dict[str, Tool[..., Any]] = {}
        for index, name in enumerate(names):
            tool = allowed.get(name)
            if tool is None:
                known = ", ".join(tool.name for tool in allowed) or "none"
                raise Problem(400, f"tools[{index}]: {name!r} is not a tool here; there are: {known}.", field="tools")
            if name in chosen:
                raise Problem(400, f"tools[{index}]: names {name!r} twice; name each tool once.", field="tools")
            chosen[name] = tool
        return Registry(chosen.values())
