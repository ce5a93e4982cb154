"""The OpenAPI document, held against the running service by schemathesis: what it answers is documented, every word."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema  # type: ignore[import-untyped]
import msgspec
import openapi_spec_validator
import pytest
import requests
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi import checks

from sluicegate.machine.errors import ErrorCode
from sluicegate.machine.limits import ReplyLimits, RunLimits
from sluicegate.providers.script import Call, Fail, Reply, Say, Stall, Status
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.options import RunOptions
from sluicegate.service import body, openapi
from sluicegate.service.access import Access
from sluicegate.service.key_file import KeyRing
from sluicegate.service.limits import Limits
from sluicegate.service.options import LimitOptions, Rates, ServiceOptions
from sluicegate.tools.builtin import calculate
from sluicegate.tools.registry import Registry

from .harness import DONE, JSON, Answer, read_frames, stack, virtually
from .test_access import added

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
OF_HTTP = {"content-type", "content-length", "date", "connection", "transfer-encoding"}
EVENTS = "/runs/{run_id}/events"
NAME = "known"  # the Idempotency-Key of a run that has ended
KNOWN: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
PROMPT = RunOptions(max_lateness_seconds=math.inf)  # schemathesis and the service share an interpreter
SHARES = {"POST /chat": 16, "GET /runs/{run_id}/events": 4, "HEAD /runs/{run_id}/events": 2, "DELETE /runs/{run_id}": 2}
JUNK = 8
KINDS = [
    "application/json",
    "application/json; charset=utf-8",
    "text/plain",
    "application/jsonx",
    "multipart/form-data",
    "",
]


def examples(count: int) -> settings:
    """Up to `count` of them, the same ones each time."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def _within(junk: bytes) -> bytes:
    """Junk within a request that is right but for it."""
    return b'{"messages": [{"role": "user", "content": "' + junk + b'"}]}'


def brain(asked: ScriptedRequest) -> Reply:
    if asked.tools and not asked.results:
        return [Say("Let me see."), Call(asked.tools[0].name, {"expression": "6 * 7"})]
    return [Say("That is all there is to say.")]


class Document:
    """A document, and what it says of answers: their statuses, their headers, their bodies, each frame of a stream."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said

    def check(self, method: str, path: str, status: int, headers: Iterable[tuple[str, str]], content: bytes) -> None:
        """Fail unless an answer is one that is documented."""
        documented = self.said["paths"][path][method.lower()]["responses"]
        assert str(status) in documented, (method, path, status, content)
        response = documented[str(status)]
        given = {name.lower(): value for name, value in headers}
        assert given.keys() - OF_HTTP <= {name.lower() for name in response["headers"]}
        for name, header in response["headers"].items():
            if name.lower() in given:
                value = given[name.lower()]
                self.validate(header, int(value) if name == "Retry-After" else value, "schema")
            else:
                assert not header.get("required"), name
        assert bool(content) == ("content" in response)
        if not content:
            return
        media_type = given["content-type"]
        body = response["content"][media_type]
        if media_type == "application/json":
            self.validate(body, json.loads(content), "schema")
        elif media_type.startswith("text/plain"):
            self.validate(body, content.decode(), "schema")
        else:
            assert content.endswith(DONE)
            for frame in read_frames(content):
                self.validate({"$ref": "#/components/schemas/Frame"}, frame)

    def validate(self, node: dict[str, Any], value: Any, *inner: str) -> None:
        """Fail unless `value` is as the schema at `node`, or within it, says."""
        while "$ref" in node and inner:
            kind, name = node["$ref"].split("/")[-2:]
            node = self.said["components"][kind][name]
        for name in inner:
            node = node[name]
        jsonschema.Draft202012Validator({**node, "components": self.said["components"]}).validate(value)


class Caller:
    """Asks the service what schemathesis makes up, and holds each answer against the document that is served."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = {"Authorization": f"Bearer {key}"} if key else {}
        self.session = requests.Session()
        self.document = Document(self.session.get(f"{url}/openapi.json", timeout=10).json())
        self.schema = from_dict(self.document.said)
        self.schema.config.max_stream_events = 10_000  # all there are, not the first twenty
        self.answers: Counter[tuple[str, int]] = Counter()
        log = self.session.post(f"{url}/chat", json=KNOWN, headers={"Idempotency-Key": NAME, **self.key}, timeout=10)
        self.ids = (log.headers["Run-Id"], NAME)
        self.cursors = [line.removeprefix("id: ") for line in log.text.splitlines() if line.startswith("id: ")]

    def sweep(self, unit: int) -> None:
        """Ask every operation; those with something to make up `unit` times their share, in each mode, and junk."""
        try:
            for result in self.schema.get_all_operations():
                assert isinstance(result, Ok)
                operation = result.ok()
                share = unit * SHARES.get(operation.label, 0)
                self._ask(operation.as_strategy(GenerationMode.POSITIVE), share or 1)
                if share:
                    self._ask(operation.as_strategy(GenerationMode.NEGATIVE), share)
            self._send_junk(self.schema["/chat"]["POST"], unit * JUNK)
        finally:
            self.session.close()

    def _ask(self, cases: st.SearchStrategy[Case[Any]], count: int) -> None:
        @examples(count)
        @given(cases, st.data())
        def ask(case: Case[Any], data: st.DataObject) -> None:
            if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
                self._aim(case, data)
            key = data.draw(st.sampled_from([self.key, {}, {"Authorization": "Bearer x"}])) if self.key else {}
            response = case.call(self.url, self.session, key, timeout=20)
            self.answers[case.operation.label, response.status_code] += 1
            # Without a key nothing is looked at, so nothing else can be said of what is wrong.
            case.validate_response(response, CHECKS if key is self.key or not self.key else CHECKS[:-1])
            self.check(case, response)

        ask()

    def _send_junk(self, operation: APIOperation[Any, Any, Any, Any], count: int) -> None:
        """What is no JSON, or none of its kind, under any content type."""

        @examples(count)
        @given(
            st.binary() | st.binary().map(_within), st.sampled_from(KINDS), st.sampled_from(["identity", "gzip", ""])
        )
        def send(data: bytes, kind: str, encoding: str) -> None:
            headers = {"Content-Type": kind, "Content-Encoding": encoding, **self.key}
            answer = self.session.post(f"{self.url}/chat", data=data, headers=headers, timeout=20)
            case, response = operation.Case(body={}, media_type="application/json"), Response.from_any(answer)
            self.answers[operation.label, response.status_code] += 1
            case.validate_response(response, CHECKS[:-1])
            self.check(case, response)

        send()

    def _aim(self, case: Case[Any], data: st.DataObject) -> None:
        """Now and then ask for the run that is there, and for what is behind one of its frames."""
        if "run_id" in case.path_parameters and data.draw(st.booleans()):
            case.path_parameters["run_id"] = data.draw(st.sampled_from(self.ids))
            case.headers["Last-Event-ID"] = data.draw(st.sampled_from(["", "x-1", *self.cursors]))
        elif isinstance(case.body, dict) and data.draw(st.integers(0, 3)) == 0:
            case.body = {**KNOWN}
            case.headers["Idempotency-Key"] = NAME
            case.headers["Last-Event-ID"] = data.draw(st.sampled_from(["", "x-1", *self.cursors]))

    def check(self, case: Case[Any], response: Response) -> None:
        """What schemathesis does not look at: headers that are not documented, and the frames within a stream."""
        headers = [(name, values[0]) for name, values in response.headers.items()]
        self.document.check(case.method, case.path, response.status_code, headers, response.content)


def ask_everything(unit: int, access: Access | None = None, key: str = "") -> Counter[tuple[str, int]]:
    """Run a service and ask it all that schemathesis makes up; return how often each operation gave each status."""

    async def main() -> Counter[tuple[str, int]]:
        tools = Registry([calculate])
        async with stack(brain, socket=True, tools=tools, run=PROMPT, access=access) as up:
            caller = await trio.to_thread.run_sync(Caller, up.url, key)
            await trio.to_thread.run_sync(caller.sweep, unit)
        return caller.answers

    return trio.run(main)


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("unit", "floor"), [(6, 300), pytest.param(25, 1_250, marks=pytest.mark.sweep)], ids=["some", "sweep"]
)
@pytest.mark.once
@pytest.mark.parametrize("is_guarded", [False, True], ids=["open", "guarded"])
def test_what_is_answered_is_documented(unit: int, floor: int, is_guarded: bool, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = added(path).text if is_guarded else ""
    answers = ask_everything(unit, KeyRing(path) if is_guarded else None, key)
    assert answers.total() >= floor, answers
    statuses = {status for label, status in answers if label == "POST /chat"}
    assert statuses >= ({200, 400, 401, 404, 415} if is_guarded else {200, 400, 404, 415}), answers
    for label in ("GET /runs/{run_id}/events", "HEAD /runs/{run_id}/events", "DELETE /runs/{run_id}"):
        assert {status for each, status in answers if each == label} >= {404}, answers
        assert any((label, status) in answers for status in (200, 204)), answers
    assert not any(status >= 500 for _, status in answers), answers


@pytest.mark.parametrize("is_guarded", [False, True])
def test_it_is_an_openapi_document(is_guarded: bool) -> None:
    said = openapi.document(is_guarded=is_guarded)
    openapi_spec_validator.validate(said)
    names = [operation["operationId"] for item in said["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    secured = {
        (method, path)
        for path, item in said["paths"].items()
        for method, operation in item.items()
        if "security" in operation
    }
    runs = {("post", "/chat"), ("get", EVENTS), ("head", EVENTS), ("delete", "/runs/{run_id}")}
    read = {(method, path) for method in ("get", "head") for path in ("/models", "/metrics")}
    assert secured == (runs | read if is_guarded else set())
    assert ("securitySchemes" in said["components"]) == is_guarded


def test_every_route_is_documented_and_every_documented_one_is_there() -> None:
    async def main() -> None:
        async with stack(brain) as up:
            routes = {
                (method.lower(), re.sub(r"<(\w+)>", r"{\1}", rule.rule))
                for rule in up.app.url_map.iter_rules()
                if rule.endpoint not in ("page", "assets")  # for people
                for method in rule.methods or ()
                if method != "OPTIONS"
            }
            said = msgspec.json.decode((await (await up.open("GET", "/openapi.json")).answer()).body)
            assert {(method, path) for path, item in said["paths"].items() for method in item} == routes
            for path, item in said["paths"].items():
                answer = await (await up.open("PATCH", path)).answer()
                assert answer.status == 405
                assert {*(answer.header("Allow") or "").lower().split(", ")} - {"options"} == {*item}

    virtually(main)


def test_what_is_bounded_says_so() -> None:
    schemas = openapi.document(is_guarded=False)["components"]["schemas"]
    asked, image = schemas["ChatRequest"]["properties"], schemas["ImageUrl"]["properties"]["url"]
    assert (asked["messages"]["minItems"], asked["messages"]["maxItems"]) == (1, body.MAX_MESSAGES)
    assert (asked["max_output_tokens"]["minimum"], asked["max_output_tokens"]["maximum"]) == (1, body.MAX_OUTPUT_TOKENS)
    assert (asked["temperature"]["minimum"], asked["temperature"]["maximum"]) == (0, body.MAX_TEMPERATURE)
    message = schemas["ChatMessage"]["properties"]
    assert [message[name]["maxItems"] for name in ("content", "tool_calls")] == [body.MAX_PARTS] * 2
    assert all(re.match(image["pattern"], f"{start}x") for start in body.IMAGE_URLS)
    assert not re.match(image["pattern"], "http://x")


class Way(NamedTuple):
    """How to get a status: what the provider says, what is sent, and how the service is set."""

    reply: Reply = (Say("Hi"),)
    data: bytes = json.dumps(KNOWN).encode()
    headers: Mapping[str, str] = {}
    options: ServiceOptions | None = None
    run: RunOptions | None = None
    limits: LimitOptions | None = None


WAYS = {
    "200": Way(),
    "200, limited": Way(limits=LimitOptions(Rates(requests_per_minute=9, tokens_per_minute=9_000))),
    "200, filtered": Way([Fail(ErrorCode.CONTENT_FILTER)]),
    "400": Way(data=b"{"),
    "400, too long": Way([Status(400, {}, b'{"error": {"code": "context_length_exceeded"}}')]),
    "402": Way(run=RunOptions(RunLimits(reply=ReplyLimits(reply_bytes=1)))),
    "404": Way(headers={"Last-Event-ID": "abc-1"}),
    "413": Way(options=ServiceOptions(max_body_bytes=10)),
    "415": Way(headers={"Content-Type": "text/plain"}),
    "429": Way([Status(429, {"retry-after": "7"})]),
    "429, limited": Way(limits=LimitOptions(model=Rates(requests_per_minute=1, tokens_per_minute=9))),
    "502": Way([Status(400)], limits=LimitOptions(Rates(requests_per_minute=9))),
    "503": Way([Status(503, {"retry-after": "30"})]),
    "503, full": Way(run=RunOptions(max_runs=0)),
    "504": Way([Status(504)]),
}


@pytest.mark.parametrize("name", WAYS)
def test_every_status_of_a_run_is_documented(name: str) -> None:
    way = WAYS[name]

    async def main() -> None:
        limits = Limits(way.limits) if way.limits is not None else None
        async with stack(lambda _: way.reply, options=way.options, run=way.run, limits=limits) as up:
            document = Document(openapi.document(is_guarded=False))
            for _ in range(2 if name == "429, limited" else 1):
                answer = await (await up.open("POST", "/chat", way.data, {**JSON, **way.headers})).answer()
            assert answer.status == int(name[:3]), answer.body
            document.check("POST", "/chat", answer.status, answer.headers, answer.body)

    virtually(main)


def test_what_becomes_of_a_run_is_documented() -> None:
    """A name for another request, a run that is stopped before its first word, one that is read to its end."""

    async def main() -> None:
        async with stack([[Say("Hi")], [Stall()]]) as up:
            document = Document(openapi.document(is_guarded=False))

            async def ask(
                status: int, method: str, path: str, target: str, more: Mapping[str, str], data: bytes
            ) -> Answer:
                answer = await (await up.open(method, target, data, {**JSON, **more})).answer()
                assert answer.status == status
                document.check(method, path, status, answer.headers, answer.body)
                return answer

            data, named = json.dumps(KNOWN).encode(), {"Idempotency-Key": NAME}
            read = await ask(200, "POST", "/chat", "/chat", named, data)
            last = {"Last-Event-ID": re.findall(rb"id: (\S+)", read.body)[-1].decode()}
            await ask(204, "POST", "/chat", "/chat", {**named, **last}, data)
            await ask(409, "POST", "/chat", "/chat", named, data + b" ")
            await ask(200, "GET", EVENTS, f"/runs/{NAME}/events", {}, b"")
            await ask(200, "HEAD", EVENTS, f"/runs/{NAME}/events", {}, b"")
            await ask(204, "GET", EVENTS, f"/runs/{NAME}/events", last, b"")
            await ask(404, "GET", EVENTS, "/runs/nobody/events", {}, b"")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, 499, "POST", "/chat", "/chat", {"Idempotency-Key": "other"}, data)
                await trio.sleep(1)
                await ask(204, "DELETE", "/runs/{run_id}", "/runs/other", {}, b"")
            up.service.stop_runs()
            await ask(503, "GET", "/readyz", "/readyz", {}, b"")
            await ask(503, "POST", "/chat", "/chat", {}, data)

    virtually(main)
