"""The service as an OpenAPI document, made from the types that it reads and writes.

What is said of a route stands in `ROUTES`, and in `METRICS` where there are any. Left out are what HTTP itself gives
to every route (405 and OPTIONS, and answers to what is no HTTP) and the headers of CORS, which the Fetch standard
describes.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from ..machine.errors import ErrorCode
from ..wire.downstream.native import FRAMES
from .access import CHALLENGE
from .body import ChatRequest
from .catalog import ModelList
from .metrics import OPEN_METRICS, TEXT
from .naming import CURSOR_HEADER, KEY_HEADER, NAME
from .options import MetricsAccess
from .problems import SAFE, STATUS, ProblemInfo
from .stream import HEADERS

Json: TypeAlias = dict[str, Any]
_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_LIMIT: Final = r'"[a-z]+-[a-z]+";%s=\d+;%s=\d+'


class Reply(NamedTuple):
    """One status of a route. `fixed` are headers with their values, `may` those that are there at times, both beside
    the media type of `content`, which maps that to its schema.
    """

    text: str
    fixed: Mapping[str, str] = SAFE
    has: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    content: Mapping[str, Json] = {}


class Route(NamedTuple):
    """One method of one path; a GET stands for HEAD, too. `parameters` and headers are named as in `components`. With
    `is_guarded` it asks who asks, where the service does.
    """

    method: str
    path: str
    name: str
    text: str
    replies: Mapping[int, Reply]
    parameters: tuple[str, ...] = ()
    body: type[msgspec.Struct] | None = None
    is_guarded: bool = False


def _problem(codes: Iterable[ErrorCode], has: tuple[str, ...] = (), may: tuple[str, ...] = ()) -> Reply:
    named = sorted(codes)
    code = {"properties": {"error": {"properties": {"code": {"enum": named}}}}}
    return Reply(", ".join(named), SAFE, has, may, {_JSON: {"allOf": [_named("Problem"), code]}})


def _named(name: str) -> Json:
    return {"$ref": _REF.format(name=name)}


def _state(*states: str) -> Mapping[str, Json]:
    status = {"type": "string", "enum": list(states)}
    return {_JSON: {"type": "object", "properties": {"status": status}, "required": ["status"]}}


def _of_runs() -> dict[int, Reply]:
    """How a run that fails before its first word is told: 503 is also said of a provider that may come back."""
    codes: dict[int, set[ErrorCode]] = {503: {ErrorCode.UPSTREAM_ERROR}}
    for code, status in STATUS.items():
        codes.setdefault(status, set()).add(code)
    del codes[STATUS[ErrorCode.UNAUTHORIZED]]  # said to callers alone
    return {
        status: _problem(each, may=("RateLimit", "RateLimit-Policy", "Retry-After")) for status, each in codes.items()
    }


_WRONG: Final = _problem([ErrorCode.INVALID_REQUEST])
_BUG: Final = _problem([ErrorCode.INTERNAL])
_OVER: Final = Reply("Nothing more will come: the client has the terminal frame.")
_ADMITTED: Final = ("RateLimit", "RateLimit-Policy")
_GUARD: Final = {
    401: _problem([ErrorCode.UNAUTHORIZED], has=("WWW-Authenticate",)),
    503: _problem([ErrorCode.UPSTREAM_ERROR]),
}
_TEXT: Final[Json] = {"type": "string"}
_FIXED: Final = {name: value for name, value in HEADERS.items() if name != "Content-Type"}
# Before OpenAPI 3.2, tools take the schema of an event stream for that of one event.
_STREAM: Final = Reply("Server-sent events.", _FIXED, ("Run-Id",), (), {HEADERS["Content-Type"]: _named("Event")})

ROUTES: Final = (
    Route(
        "POST",
        "/chat",
        "chat",
        "Start a run and stream it, or go on with the one that has this Idempotency-Key.",
        {
            200: _STREAM._replace(may=_ADMITTED),
            204: _OVER,
            403: _problem([ErrorCode.UNAUTHORIZED]),
            **dict.fromkeys((404, 408, 409, 413, 415), _WRONG),
            **_of_runs(),
        },
        (KEY_HEADER, CURSOR_HEADER),
        ChatRequest,
        is_guarded=True,
    ),
    Route(
        "GET",
        "/runs/{run_id}/events",
        "events",
        "Read a run from its start, or from behind Last-Event-ID.",
        {200: _STREAM, 204: _OVER, 404: _WRONG, 500: _BUG},
        ("run_id", CURSOR_HEADER),
        is_guarded=True,
    ),
    Route(
        "DELETE",
        "/runs/{run_id}",
        "stop",
        "End a run, whoever reads it.",
        {204: Reply("It has ended."), 404: _WRONG, 500: _BUG},
        ("run_id",),
        is_guarded=True,
    ),
    Route(
        "GET",
        "/models",
        "list_models",
        "The models that the caller may ask for.",
        {200: Reply("They are.", content={_JSON: _named("ModelList")}), 500: _BUG},
        is_guarded=True,
    ),
    Route("GET", "/healthz", "healthz", "The process is up.", {200: Reply("It is.", content=_state("ok"))}),
    Route(
        "GET",
        "/readyz",
        "readyz",
        "Whether new runs are taken.",
        {
            200: Reply("They are; while it is shedding, not all.", content=_state("ok", "shedding")),
            503: Reply("The server is stopping.", content=_state("draining")),
        },
    ),
    Route(
        "GET",
        "/openapi.json",
        "openapi",
        "This document.",
        {200: Reply("An OpenAPI document.", content={_JSON: {"type": "object", "required": ["openapi"]}})},
    ),
)
METRICS: Final = Route(
    "GET",
    "/metrics",
    "metrics",
    "What Prometheus reads; OpenMetrics where Accept asks for that.",
    {200: Reply("Metrics.", content={TEXT: _TEXT, OPEN_METRICS: _TEXT})},
)


@cache
def encoded(*, is_guarded: bool, metrics: MetricsAccess = MetricsAccess.KEY) -> bytes:
    """Return the document as JSON, see `document`."""
    return msgspec.json.encode(document(is_guarded=is_guarded, metrics=metrics))


def document(*, is_guarded: bool, metrics: MetricsAccess = MetricsAccess.KEY) -> Json:
    """Return the document of a service that asks who asks, or of one that does not; `metrics` as it is set."""
    paths: dict[str, Json] = {}
    for route in _routes(metrics):
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, is_guarded=is_guarded)
        if route.method == "GET":
            paths[route.path]["head"] = _head(_operation(route, is_guarded=is_guarded))
    bearer = {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}} if is_guarded else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sluicegate",
            "version": version("sluicegate"),
            "description": "Streams the replies of language models, runs their tools and stops when nobody listens.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(), "parameters": _PARAMETERS, "headers": _HEADERS, **bearer},
    }


def _routes(metrics: MetricsAccess) -> Iterable[Route]:
    yield from ROUTES
    if metrics is not MetricsAccess.OFF:
        yield METRICS._replace(is_guarded=metrics is MetricsAccess.KEY)


def _operation(route: Route, *, is_guarded: bool) -> Json:
    asks = is_guarded and route.is_guarded
    replies = {**_GUARD, **route.replies} if asks else {s: r for s, r in route.replies.items() if s != 403}
    operation: Json = {"operationId": route.name, "summary": route.text}
    if asks:
        operation["security"] = [{"bearer": []}]
    if route.parameters:
        operation["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in route.parameters]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": _named(route.body.__name__)}}}
    operation["responses"] = {str(status): _response(reply) for status, reply in sorted(replies.items())}
    return operation


def _head(operation: Json) -> Json:
    """The same without bodies."""
    bare = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in operation["responses"].items()
    }
    return {**operation, "operationId": f"{operation['operationId']}_head", "responses": bare}


def _response(reply: Reply) -> Json:
    headers: Json = {name: {"required": True, "schema": {"const": value}} for name, value in reply.fixed.items()}
    headers |= {name: {**_HEADERS[name], "required": True} for name in reply.has}
    headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in reply.may}
    response: Json = {"description": reply.text, "headers": headers}
    if reply.content:
        response["content"] = {media_type: {"schema": schema} for media_type, schema in reply.content.items()}
    return response


def _schemas() -> Json:
    (_, _, _, *frames), schemas = msgspec.json.schema_components(
        (ChatRequest, ProblemInfo, ModelList, *FRAMES), ref_template=_REF
    )
    data = {"type": "string", "contentMediaType": _JSON, "contentSchema": _named("Frame")}
    return {
        **schemas,
        "Problem": {"type": "object", "properties": {"error": _named(ProblemInfo.__name__)}, "required": ["error"]},
        "Frame": {"anyOf": frames},
        "Event": {
            "type": "object",
            "description": "One server-sent event. The last one is [DONE] and has no id of its own.",
            "properties": {
                "id": {"type": "string", "pattern": "^[A-Za-z0-9._]{1,40}-[0-9]+$"},
                "data": {"anyOf": [data, {"const": "[DONE]"}]},
            },
            "required": ["data"],
        },
    }


_PARAMETERS: Final[Json] = {
    "run_id": {
        "name": "run_id",
        "in": "path",
        "required": True,
        "description": f"The Run-Id, or the {KEY_HEADER} that the run was started with.",
        "schema": {"type": "string", "pattern": f"^{NAME}$"},
    },
    KEY_HEADER: {
        "name": KEY_HEADER,
        "in": "header",
        "description": "The client's own name for the run; the same body with it is the same run.",
        "schema": {"type": "string", "pattern": f'^("?{NAME}"?)?$'},
    },
    CURSOR_HEADER: {
        "name": CURSOR_HEADER,
        "in": "header",
        "description": "The id of the last frame that the client has.",
        "schema": {"type": "string"},
    },
}

_HEADERS: Final[Json] = {
    "Run-Id": {"description": "The run's id.", "schema": {"type": "string", "minLength": 1}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
    "RateLimit": {
        "description": "For each limit, what is left and the seconds until all of it is there again.",
        "schema": {"type": "string", "pattern": f"^{_LIMIT % ('r', 't')}(, {_LIMIT % ('r', 't')})*$"},
    },
    "RateLimit-Policy": {
        "description": "For each limit, how much is allowed in how many seconds.",
        "schema": {"type": "string", "pattern": f"^{_LIMIT % ('q', 'w')}(, {_LIMIT % ('q', 'w')})*$"},
    },
    **{name: {"description": "How to ask.", "schema": {"const": value}} for name, value in CHALLENGE.items()},
}
