"""The application: routes, and the room in which runs live."""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from ..machine.errors import ErrorCode, RunError
from ..machine.events import RunFailed
from ..providers.models import Models
from ..runtime.admission import Gate
from ..runtime.driver import Driver
from ..runtime.ledger import Ledger
from ..runtime.observers import LogLine, Observer
from ..runtime.options import RunOptions
from ..runtime.runs import TOO_MANY, Key, Runs
from ..tools.registry import Registry
from .access import Access, Caller, Everybody, RawHeaders
from .addresses import Address, client_address, networks_of, share_of
from .body import decode_chat
from .budgets import Budgets
from .catalog import catalog
from .cors import Cors
from .factory import Factory
from .gauges import gauged
from .limits import Limits, Shares
from .metrics import Metrics
from .naming import CURSOR_HEADER, KEY_HEADER, is_past_the_end, key_of, name_in, place_in, refuse_place
from .openapi import encoded
from .options import LimitOptions, MetricsAccess, ServiceOptions
from .page import add_page
from .problems import SAFE, STATUS, Problem, Refusal, problem_of, refusal_of, respond_run_error
from .refusal import Refusing
from .stream import Answer, Connection, Lease, headers, take_lease

STOPPED = RunError(ErrorCode.CANCELLED, "The run was stopped.")
MAX_USER = 256  # characters of the name of an end user
SHUTTING_DOWN = RunError(ErrorCode.SHUTTING_DOWN, "The server is shutting down.", retryable=True)
_AGAIN_MS = 1000  # who is refused meanwhile: another process answers soon, behind the balancer or in place of this one


class Service:
    """What the routes share. `ids` makes run ids, `ledger` notes what runs cost (default: in memory), `access` says who
    may do what (default: everybody everything), `limits` how much of it (default: any), `budgets` what it may cost
    (default: those of `limits.options`, nothing spent yet), `observers` hear of runs
    (default: one line of log for each). `runs` is there while the application is up, `metrics` unless they are off.
    """

    def __init__(
        self,
        models: Models,
        tools: Registry,
        run_options: RunOptions | None = None,
        options: ServiceOptions | None = None,
        ids: Callable[[], str] = lambda: secrets.token_hex(16),
        ledger: Ledger | None = None,
        access: Access | None = None,
        observers: Sequence[Observer] = (LogLine(),),
        limits: Limits | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        self.models = models
        self.tools = tools
        self.run_options = run_options or RunOptions()
        self.options = options or ServiceOptions()
        self.ledger = ledger
        self.access: Access = access or Everybody()
        self.limits = limits or Limits(LimitOptions())
        self.budgets = budgets or Budgets(self.limits.options)
        self.observers = (*observers, self.limits)
        self.metrics: Metrics | None = None
        if self.options.metrics is not MetricsAccess.OFF:
            most = self.run_options.max_runs
            self.metrics = gauged(models, tools, ledger, most, lambda: self.runs.admission.gate)
            self.observers = (*self.observers, self.metrics)
        self.runs: Runs
        self._factory = Factory(models, tools, self.run_options, self.options, ids, self.budgets)
        self._cors = Cors(self.options.cors_origins)
        self._proxies = networks_of("trusted_proxies", self.options.trusted_proxies)
        self._stopping: RunError | None = None  # and how new runs are refused then

    def app(self) -> QuartTrio:
        """Return the ASGI application."""
        app = QuartTrio("sluicegate", static_folder=None)
        app.asgi_http_class = Connection
        app.asgi_app = Refusing(app.asgi_app, self.refuse)  # type: ignore[method-assign]  # as Quart tells to do
        app.config["MAX_CONTENT_LENGTH"] = self.options.max_body_bytes
        app.config["BODY_TIMEOUT"] = self.options.body_seconds
        # Quart's default of 60 s would cut a stream without a word.
        app.config["RESPONSE_TIMEOUT"] = None
        app.before_serving(self._open(app))
        app.after_serving(self._close)
        app.add_url_rule("/chat", "chat", self.chat, methods=["POST"])
        app.add_url_rule("/runs/<run_id>/events", "events", self.events, methods=["GET"])
        app.add_url_rule("/runs/<run_id>", "stop", self.stop, methods=["DELETE"])
        app.add_url_rule("/models", "list_models", self.list_models, methods=["GET"])
        app.add_url_rule("/healthz", "healthz", self.healthz, methods=["GET"])
        app.add_url_rule("/readyz", "readyz", self.readyz, methods=["GET"])
        app.add_url_rule("/openapi.json", "openapi", self.openapi, methods=["GET"])
        if self.options.page:
            add_page(app)
        if self.options.cors_origins:
            app.after_request(self._for_pages)
        if self.metrics is not None:
            app.add_url_rule("/metrics", "metrics", self.scraped(self.metrics), methods=["GET"])
        app.register_error_handler(Problem, self._respond_problem)
        app.register_error_handler(HTTPException, self._respond_http)
        app.register_error_handler(500, self._respond_internal)
        return app

    def refuse(self, method: str, path: str, headers: RawHeaders) -> Refusal | None:
        """Return the answer to a request for a run that there is no room for, None for all other requests: who reads,
        stops or goes on with a run is always let in. Synchronous; `headers` have names in lower case.
        """
        if method != "POST" or path != "/chat" or self._stopping is not None:
            return None
        key = next((value for name, value in headers if name == b"idempotency-key"), b"")
        name = name_in(key.decode("latin-1"))
        if name is not None and self._is_known(headers, name):
            return None
        error = self.runs.refusal()
        if error is None:
            return None
        self._note_refusal(STATUS[error.code], error.code)
        origin = next((value for name, value in headers if name == b"origin"), b"")
        return refusal_of(error, self._cors.headers(origin.decode("latin-1")))

    def note_eviction(self) -> None:
        """A client was cut off because it took too little of what it was sent. Synchronous."""
        if self.metrics is not None:
            self.metrics.note_eviction()

    def stop_runs(self, error: RunError = SHUTTING_DOWN) -> None:
        """End every live run with `error`; their readers still get the terminal event. No new run is taken then."""
        self._stop_taking(error)
        self.runs.cancel_all(error)

    def _stop_taking(self, error: RunError) -> None:
        self._stopping = msgspec.structs.replace(error, retry_after_ms=_AGAIN_MS)

    async def drain(self) -> None:
        """Take no new run and wait until the live ones have ended, at most `drain_seconds`, then end them. Checkpoint.

        Their readers get the terminal event all the same, and reattaching works on.
        """
        self._stop_taking(SHUTTING_DOWN)
        with trio.move_on_after(self.options.drain_seconds):
            await self.runs.wait_none()
        self.stop_runs()
        await trio.lowlevel.checkpoint()

    async def chat(self) -> Response:
        """`POST /chat`: start a run and stream it, or go on with the one that has this `Idempotency-Key`."""
        caller = self._caller()
        _check_media_type()
        body = await self._body()
        key = key_of(caller.owner, body)
        driver = self._known(key)
        if driver is not None:
            return await self._go_on(driver)
        refuse_place()
        if (refusal := self._refusal()) is not None:
            return refusal
        asked = decode_chat(body)
        driver = self._factory.driver(asked, caller, self.runs.ledger)
        left = self._admit(driver, caller)
        lease = take_lease(driver)
        self.runs.start(driver, key)
        answer = self._answer(driver, lease)
        if left:
            answer.headers.extend(left)
        return answer

    async def events(self, run_id: str) -> Response:
        """`GET /runs/{id}/events`: read a run's log from the start, or from behind `Last-Event-ID`."""
        driver = self._find(run_id)
        after = place_in(driver)
        if is_past_the_end(driver, after):
            return Response(b"", 204, SAFE)
        if request.method == "HEAD":
            return Response(b"", headers=headers(driver))
        return Answer(driver, take_lease(driver, after))

    async def stop(self, run_id: str) -> Response:
        """`DELETE /runs/{id}`: end a run, whoever reads it. 204 also if it has ended."""
        self._find(run_id).cancel(STOPPED)
        return Response(b"", 204, SAFE)

    async def list_models(self) -> Response:
        """`GET /models`: the models that the caller may ask for."""
        body = msgspec.json.encode(catalog(self.models, self._caller().grants))
        return Response(body, 200, SAFE, content_type="application/json")

    async def healthz(self) -> Response:
        """`GET /healthz`: the process is up."""
        return Response(b'{"status":"ok"}', 200, SAFE, content_type="application/json")

    async def readyz(self) -> Response:
        """`GET /readyz`: new runs are taken; 503 while the server stops. 200 also while some are refused: sent away for
        that, all of the load would go and come back in turns.
        """
        if self._stopping is not None:
            return Response(b'{"status":"draining"}', 503, SAFE, content_type="application/json")
        status = b"ok" if self.runs.admission.gate is Gate.OPEN else b"shedding"
        return Response(b'{"status":"%b"}' % status, 200, SAFE, content_type="application/json")

    async def openapi(self) -> Response:
        """`GET /openapi.json`: the service, described for machines."""
        document = encoded(is_guarded=not isinstance(self.access, Everybody), metrics=self.options.metrics)
        return Response(document, 200, SAFE, content_type="application/json")

    def scraped(self, metrics: Metrics) -> Callable[[], Awaitable[Response]]:
        """Return what answers `GET /metrics`: for Prometheus."""

        async def scrape() -> Response:
            if self.options.metrics is MetricsAccess.KEY:
                self._caller()
            body, media_type = await metrics.exposition(request.headers.get("Accept", ""))
            return Response(body, 200, SAFE, content_type=media_type)

        return scrape

    async def _for_pages(self, response: Response) -> Response:
        preflight = request.method == "OPTIONS"
        response.headers.update(self._cors.headers(request.headers.get("Origin", ""), preflight=preflight))
        return response

    def _open(self, app: QuartTrio) -> Callable[[], Awaitable[None]]:
        async def open_runs() -> None:
            self.runs = Runs(app.nursery, self.run_options, self.ledger, self.observers)
            app.nursery.start_soon(self.access.attend)

        return open_runs

    async def _close(self) -> None:
        self.stop_runs()
        self.runs.close()
        await self.models.aclose()

    def _caller(self) -> Caller:
        return self.access.identify(request.scope["headers"])

    def _client_address(self) -> Address | None:
        return client_address(request.scope["client"], request.scope["headers"], self._proxies)

    def _is_known(self, headers: RawHeaders, name: str) -> bool:
        try:
            owner = self.access.identify(headers).owner
        except Problem:
            return False  # who may not ask gets no room either
        return self.runs.named(owner, name) is not None

    def _admit(self, driver: Driver, caller: Caller) -> Mapping[str, str]:
        user_header = self.limits.options.user_header
        user = request.headers.get(user_header, "") if user_header else ""
        if len(user) > MAX_USER:
            raise Problem(400, f"{user_header}: must be at most {MAX_USER} characters.", field=user_header)
        address = share_of(self._client_address()) if self.limits.by_address else ""
        shares = Shares(caller, driver.run.model, caller.user or user, address)
        return self.limits.admit(driver.run.run_id, shares, driver.prompt_tokens)

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

    def _known(self, key: Key | None) -> Driver | None:
        """Return the run that was started under `key`. Raises Problem 409 if something else was asked under it."""
        named = self.runs.named(key.owner, key.name) if key is not None else None
        if key is None or named is None:
            return None
        fingerprint, driver = named
        if fingerprint != key.fingerprint:
            raise Problem(
                409, f"{KEY_HEADER}: was used for another request; take a new key for a new one.", field=KEY_HEADER
            )
        if isinstance(driver.first, RunFailed) and CURSOR_HEADER not in request.headers:
            self.runs.unname(driver.run.run_id)  # it ended without a word, so there is nothing to go on with
            return None
        return driver

    def _refusal(self) -> Response | None:
        error = self._stopping or (TOO_MANY if self.runs.is_full else None)
        if error is None:
            return None
        self._note_refusal(STATUS[error.code], error.code)
        return respond_run_error(error)

    async def _go_on(self, driver: Driver) -> Response:
        after = place_in(driver)
        if is_past_the_end(driver, after):
            return Response(b"", 204, SAFE)
        lease = take_lease(driver, after)
        # Who has frames has a response already: what went wrong since then is told by the frames behind them.
        return Answer(driver, lease) if after else self._answer(driver, lease)

    def _answer(self, driver: Driver, lease: Lease) -> Answer:
        return Answer(driver, lease, self.options.hold_seconds, on_refusal=self._unname)

    def _unname(self, refused: Driver) -> None:
        self.runs.unname(refused.run.run_id)

    def _find(self, name: str) -> Driver:
        owner = self._caller().owner
        driver = self.runs.get(name)
        if driver is None:
            _, driver = self.runs.named(owner, name) or (b"", None)
        if driver is None or driver.owner != owner:
            raise Problem(404, "There is no such run.", field="id")
        return driver

    def _note_refusal(self, status: int, code: ErrorCode) -> None:
        if self.metrics is not None:
            self.metrics.note_refusal(status, code)

    async def _respond_problem(self, problem: Problem) -> Response:
        self._note_refusal(problem.status, problem.info.code)
        return problem.respond()

    async def _respond_http(self, error: HTTPException) -> Response:
        return await self._respond_problem(problem_of(error))

    async def _respond_internal(self, _error: Exception) -> Response:
        return await self._respond_problem(Problem(500, "Something went wrong on our side.", code=ErrorCode.INTERNAL))


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
