"""The application: routes, and the room in which runs live."""

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from ..machine.errors import ErrorCode, RunError
from ..machine.events import RunFailed
from ..machine.history import Request
from ..machine.run import Run
from ..providers.models import Models, UnknownModel
from ..runtime.driver import Driver
from ..runtime.feed import Feed, FeedState
from ..runtime.options import RunOptions
from ..runtime.runs import Runs
from ..tools.function import Tool
from ..tools.registry import Registry
from ..wire.downstream.native import NativeEncoder
from .body import ChatRequest, decode_chat, history
from .options import ServiceOptions
from .problems import Problem, respond_run_error
from .stream import Connection, headers, respond, take_lease

STOPPED = RunError(ErrorCode.CANCELLED, "The run was stopped.")
SHUTTING_DOWN = RunError(ErrorCode.SHUTTING_DOWN, "The server is shutting down.", retryable=True)
_CURSOR = re.compile(r"([0-9a-f]{1,40})-(\d{1,12})")


class Service:
    """What the routes share. `ids` makes run ids; `runs` is there while the application is up."""

    def __init__(
        self,
        models: Models,
        tools: Registry,
        run_options: RunOptions | None = None,
        options: ServiceOptions | None = None,
        ids: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self.models = models
        self.tools = tools
        self.run_options = run_options or RunOptions()
        self.options = options or ServiceOptions()
        self.ids = ids
        self.runs: Runs
        self._stopping: RunError | None = None

    def app(self) -> QuartTrio:
        """Return the ASGI application."""
        app = QuartTrio("sluicegate", static_folder=None)
        app.asgi_http_class = Connection
        app.config["MAX_CONTENT_LENGTH"] = self.options.max_body_bytes
        app.config["BODY_TIMEOUT"] = self.options.body_seconds
        # Quart's default of 60 s would cut a stream without a word.
        app.config["RESPONSE_TIMEOUT"] = None
        app.before_serving(self._open(app))
        app.after_serving(self._close)
        app.add_url_rule("/chat", "chat", self.chat, methods=["POST"])
        app.add_url_rule("/runs/<run_id>/events", "events", self.events, methods=["GET"])
        app.add_url_rule("/runs/<run_id>", "stop", self.stop, methods=["DELETE"])
        app.add_url_rule("/healthz", "healthz", self.healthz, methods=["GET"])
        app.register_error_handler(Problem, _respond_problem)
        app.register_error_handler(HTTPException, _respond_http)
        app.register_error_handler(500, _respond_internal)
        return app

    def stop_runs(self, error: RunError = SHUTTING_DOWN) -> None:
        """End every live run with `error`; their readers still get the terminal event. No new run is taken then."""
        self._stopping = error
        self.runs.cancel_all(error)

    async def drain(self) -> None:
        """End the service's streams, because the server is told to stop."""
        self.stop_runs()
        await trio.lowlevel.checkpoint()

    async def chat(self) -> Response:
        """`POST /chat`: start a run and stream it."""
        if self._stopping is not None and (refusal := respond_run_error(self._stopping)) is not None:
            return refusal
        _check_media_type()
        asked = decode_chat(await self._body())
        driver = self._driver(asked)
        lease = take_lease(driver)
        self.runs.start(driver)
        with trio.move_on_after(self.options.hold_seconds):
            await driver.answered.wait()
        refusal = respond_run_error(driver.first.error) if isinstance(driver.first, RunFailed) else None
        return refusal or respond(driver, lease)

    async def events(self, run_id: str) -> Response:
        """`GET /runs/{id}/events`: read a run's log from the start, or from behind `Last-Event-ID`."""
        driver = self._find(run_id)
        cursor = request.headers.get("Last-Event-ID", "")
        after = self._after(driver, cursor) if cursor else 0
        if driver.feed.state is FeedState.ENDED and after == len(driver.feed.frames):
            return Response(b"", status=204)
        if request.method == "HEAD":
            return Response(b"", headers=headers(driver))
        return respond(driver, take_lease(driver, after))

    async def stop(self, run_id: str) -> Response:
        """`DELETE /runs/{id}`: end a run, whoever reads it. 204 also if it has ended."""
        self._find(run_id).cancel(STOPPED)
        return Response(b"", status=204)

    async def healthz(self) -> Response:
        """`GET /healthz`: the process is up."""
        return Response(b'{"status":"ok"}', content_type="application/json")

    def _open(self, app: QuartTrio) -> Callable[[], Awaitable[None]]:
        async def open_runs() -> None:
            self.runs = Runs(app.nursery, self.run_options)

        return open_runs

    async def _close(self) -> None:
        self.stop_runs()
        await self.models.aclose()

    async def _body(self) -> bytes:
        try:
            with trio.move_on_after(self.options.body_seconds):
                return await _read(self.options.max_body_bytes)
        except HTTPException:
            raise
        except Exception:
            await trio.lowlevel.checkpoint()  # Quart 0.23 raises where a client leaves, and has cancelled us by then
            raise
        raise RequestTimeout

    def _driver(self, asked: ChatRequest) -> Driver:
        try:
            provider, model = self.models.resolve(asked.model)
        except UnknownModel as error:
            raise Problem(400, f"model: {error}.", field="model") from None
        tools = self._tools(asked.tools)
        run = Run(
            self.ids(),
            Request(model, history(asked), tools.specs(), asked.max_output_tokens, asked.temperature),
            self.run_options.limits,
            tools.eager,
        )
        feed = Feed(NativeEncoder(secrets.token_hex(4)), self.run_options.log_room)
        return Driver(run, provider, tools, feed, self.run_options, self.runs.ledger)

    def _tools(self, names: list[str] | None) -> Registry:
        if names is None:
            return self.tools
        chosen: dict[str, Tool[..., Any]] = {}
        for index, name in enumerate(names):
            tool = self.tools.get(name)
            if tool is None:
                known = ", ".join(tool.name for tool in self.tools) or "none"
                raise Problem(400, f"tools[{index}]: {name!r} is not a tool here; there are: {known}.", field="tools")
            if name in chosen:
                raise Problem(400, f"tools[{index}]: names {name!r} twice; name each tool once.", field="tools")
            chosen[name] = tool
        return Registry(chosen.values())

    def _find(self, run_id: str) -> Driver:
        driver = self.runs.get(run_id)
        if driver is None:
            raise Problem(404, "There is no such run.", field="id")
        return driver

    def _after(self, driver: Driver, cursor: str) -> int:
        match = _CURSOR.fullmatch(cursor)
        after = int(match[2]) if match else -1
        known = driver.feed.epoch == (match[1] if match else "")
        if not known or after > len(driver.feed.frames):
            raise Problem(404, "Last-Event-ID is not an event of this run.", field="Last-Event-ID")
        return after


async def _read(limit: int) -> bytes:
    """The request's body, counted as it comes: Quart 0.23 looks at the size only when all of it is there."""
    data = bytearray()
    async for piece in request.body:
        data += piece
        if len(data) > limit:
            raise RequestEntityTooLarge
    return bytes(data)


def _check_media_type() -> None:
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(415, "Content-Type: must be application/json.", field="Content-Type")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "Content-Encoding: send the body uncompressed.", field="Content-Encoding")


async def _respond_problem(problem: Problem) -> Response:
    return problem.respond()


async def _respond_http(error: HTTPException) -> Response:
    status = error.code or 500
    messages = {
        404: "There is nothing here; POST /chat starts a run.",
        405: "This method is not allowed here.",
        408: "The body did not arrive in time.",
        413: "The body is too large (max_body_bytes).",
    }
    response = Problem(status, messages.get(status, error.name + ".")).respond()
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


async def _respond_internal(_error: Exception) -> Response:
    return Problem(500, "Something went wrong on our side.", code=ErrorCode.INTERNAL).respond()
