"""The printed dashboard against a real Prometheus that reads the real service: every query has an answer."""

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from sluicegate.cli import main
from sluicegate.machine.price import Price
from sluicegate.providers.script import Call, Fail, Pause, Reply, Say, Stall, Status
from sluicegate.providers.scripted_request import ScriptedRequest
from sluicegate.runtime.options import RunOptions
from sluicegate.runtime.spool import Spool, SpoolOptions
from sluicegate.service.key_file import KeyRing
from sluicegate.tools.builtin import demo

from ..service.harness import JSON, Answer, Exchange, SocketExchange, Stack, stack
from ..service.test_access import added
from .test_nginx import free_port

WAIT = 30.0  # seconds; it takes five
SCRAPE = 0.25  # seconds from one scrape to the next
# Of a page on which a point stands for 5 s: what is between two points, and one scrape more.
RATE_INTERVAL = f"{round((5 + SCRAPE) * 1000)}ms"
CONFIG = """\
global:
  scrape_interval: {milliseconds}ms
  scrape_timeout: {milliseconds}ms
scrape_configs:
  - job_name: sluicegate
    authorization:
      credentials_file: {key}
    static_configs:
      - targets: ["{target}"]
"""
PRICES = {"scripted-demo": Price(1, 2, 1, 1)}
MODELS = ("scripted-demo", "unpriced")
SCRIPTS: dict[str, list[Reply]] = {
    "finished": [[Say("one two three four")]],
    "tools": [[Call("calculate", {"expression": "6 * 7"}), Call("calculate", {"expression": "6 *"})], [Say("one two")]],
    "refused": [[Status(400)]],
    "failed": [[Say("one two"), Fail()]],
    "held": [[Say("one "), Pause(0.002), Say("two"), Stall()]],
}
Dashboard = dict[str, Any]


def brain(asked: ScriptedRequest) -> Reply:
    return SCRIPTS[asked.question][1 if asked.results else 0]


@pytest.fixture
def dashboard(capsys: pytest.CaptureFixture[str]) -> Dashboard:
    assert main(["deploy", "grafana"]) == 0
    found: Dashboard = json.loads(capsys.readouterr().out)
    return found


def queries_of(dashboard: Dashboard) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


class Choice(NamedTuple):
    """What is chosen at the top of the page; Grafana writes it into a regular expression."""

    instance: str
    model: str

    def fill(self, query: str) -> str:
        for name, value in (("instance", self.instance), ("model", self.model), ("__rate_interval", RATE_INTERVAL)):
            query = query.replace(f"${name}", value)
        assert "$" not in query
        return query


def escaped(value: str) -> str:
    """One value that was chosen, as Grafana writes it for Prometheus."""
    return re.escape(value).replace("\\", "\\\\")


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def get(self, target: str) -> Answer:
        exchange = SocketExchange(await trio.open_tcp_stream("127.0.0.1", self.port))
        await exchange.ask("GET", target, {}, b"")
        return await exchange.answer()

    async def wait_ready(self) -> None:
        """Wait until it answers; it begins by saying that it does not."""
        while True:
            try:
                if (await self.get("/-/ready")).status == 200:
                    return
            except OSError:
                pass
            await trio.sleep(0.01)

    async def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its HTTP API. Fails where that is an error."""
        answer = await self.get(f"{path}?{urlencode(parameters)}")
        assert answer.status == 200, (parameters, answer.body)
        return json.loads(answer.body)["data"]

    async def is_answered(self, query: str) -> bool:
        """Whether there is a number in the answer to `query`."""
        data = await self.ask("/api/v1/query", query=query)
        assert data["resultType"] == "vector"
        return any(math.isfinite(float(each["value"][1])) for each in data["result"])

    async def values(self, query: str) -> list[str]:
        """Return what there is to choose from: the values of a variable."""
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert found is not None, query
        values: list[str] = await self.ask(f"/api/v1/label/{found[2]}/values", **{"match[]": found[1]})
        return values


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed", pytrace=False)
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def running(target: str, key: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that reads `target`; ended with the context."""
    (folder / "key").write_text(key)
    config = CONFIG.format(milliseconds=round(SCRAPE * 1000), target=target, key=folder / "key")
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    arguments = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "error",
    }
    command = [program("prometheus"), *(f"--{name}={value}" for name, value in arguments.items())]
    with subprocess.Popen(command) as process:
        try:
            yield Prometheus(port)
        finally:
            process.terminate()


def spooled(folder: Path) -> closing[Spool]:
    """A spool, closed with the context."""
    return closing(Spool(SpoolOptions(folder / "spool")))


async def names_of(up: Stack) -> set[str]:
    """The names of all metrics, as queries have them, but for the parts of histograms."""
    text = (await (await up.open("GET", "/metrics")).answer()).body.decode()
    return {
        family.name + ("_total" if family.type == "counter" else "") for family in text_string_to_metric_families(text)
    }


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Stack, Prometheus, str]]:
    """A service with keys, and a Prometheus that reads it with one of them, which is given, too."""
    key = added(folder / "keys.json").text
    run = RunOptions(max_lateness_seconds=math.inf)
    access = KeyRing(folder / "keys.json")
    with spooled(folder) as spool, trio.fail_after(2 * WAIT):
        async with stack(brain, socket=True, tools=demo, run=run, ledger=spool, access=access, prices=PRICES) as up:
            with running(up.url.removeprefix("http://"), key, folder) as prometheus:
                await prometheus.wait_ready()
                yield up, prometheus, key


async def play(up: Stack, key: str) -> None:
    """Runs of each ending and each model; those that are held up are left or stopped, in turns."""
    headers = {**JSON, "Authorization": f"Bearer {key}"}

    async def ask(script: str, model: str) -> Exchange:
        body = msgspec.json.encode({"messages": [{"role": "user", "content": script}], "model": model})
        return await up.open("POST", "/chat", body, headers)

    for model in MODELS:
        for script in SCRIPTS:
            exchange = await ask(script, model)
            if script != "held":
                await exchange.answer()
                continue
            await exchange.until(b"two")
            if model == MODELS[0]:
                await exchange.leave()
            else:
                await (await up.open("DELETE", f"/runs/{exchange.run_id}", headers=headers)).answer()
                await exchange.answer()


@pytest.mark.sockets
async def test_every_query_is_answered(dashboard: Dashboard, tmp_path: Path) -> None:
    """For all that there is to choose and for one of each, while runs end in every way."""
    variables = {each["name"]: each for each in dashboard["templating"]["list"] if each["type"] == "query"}
    queries = queries_of(dashboard)
    assert len(queries) >= 40
    async with watched(tmp_path) as (up, prometheus, key):
        every = Choice(variables["instance"]["allValue"], variables["model"]["allValue"])
        one = Choice(escaped(up.url.removeprefix("http://")), escaped("scripted-demo"))
        free = Choice(one.instance, "unpriced")
        # There are no runs without a price of a model that has one.
        wanted = [
            (free if "unpriced" in query and choice is one else choice).fill(query)
            for query in queries
            for choice in (every, one)
        ]
        until = trio.current_time() + WAIT
        while wanted and trio.current_time() < until:
            await play(up, key)
            wanted = [query for query in wanted if not await prometheus.is_answered(query)]
        assert wanted == []
        assert await prometheus.values(variables["instance"]["query"]["query"]) == [up.url.removeprefix("http://")]
        assert await prometheus.values(variables["model"]["query"]["query"]) == sorted(MODELS)
        other = Choice("nobody", "nothing")
        for query in queries:
            assert not await prometheus.is_answered(other.fill(query)), query


async def test_every_metric_is_on_the_dashboard(dashboard: Dashboard, tmp_path: Path) -> None:
    """And nothing else is."""
    with spooled(tmp_path) as spool:
        async with stack(brain, ledger=spool) as up:
            names = await names_of(up)
    assert len(names) >= 25
    shown = {name for query in queries_of(dashboard) for name in re.findall(r"sluicegate_\w+", query)}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in shown} == names


def test_panels_have_places_of_their_own(dashboard: Dashboard) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)
    places = [panel["gridPos"] for panel in panels]
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for panel in panels:
        assert panel["type"] == "row" or all(target["legendFormat"] for target in panel["targets"])
