"""Azure and Vertex: what goes over the wire is what the official SDKs send for the same request."""

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from sluicegate.machine.history import Request, TextPart, UserMessage
from sluicegate.providers.anthropic import vertex_provider
from sluicegate.providers.openai import azure_provider
from sluicegate.providers.sdk import SdkProvider, UpstreamOptions

MODELS = ("gpt-5-mini", "my deployment/2", "claude-sonnet-4-5@20250929", "a:b&c")
TURNS: Any = [{"role": "user", "content": "Hi"}]
# Of our way to send, of the SDK's own parser of streams, or of the name of our class.
_OURS = {
    "content-length",
    "user-agent",
    "accept",
    "accept-encoding",
    "x-stainless-helper-method",
    "x-stainless-read-timeout",
}


class Recorder:
    """Answers with an empty stream and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []
        self.transport = httpx2.MockTransport(self._answer)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=b"data: [DONE]\n\n")


async def ours(make: Callable[[httpx2.AsyncBaseTransport], SdkProvider], model: str) -> list[httpx2.Request]:
    recorder = Recorder()
    provider = make(recorder.transport)
    for _ in range(2):  # built, and copied
        request = Request(model, (UserMessage((TextPart("Hi"),)),), (), 100)
        async with provider.open(request) as chunks:
            assert b"".join([chunk async for chunk in chunks])
    await provider.aclose()
    return recorder.asked


def check(mine: list[httpx2.Request], theirs: httpx2.Request, needed: dict[str, object]) -> None:
    for one in mine:
        assert (one.method, str(one.url)) == (theirs.method, str(theirs.url))
        known = {name: value for name, value in theirs.headers.items() if name not in _OURS}
        assert {name: value for name, value in one.headers.items() if name not in _OURS} == known
        body = json.loads(one.content)
        their_body = json.loads(theirs.content)
        assert {name: body.get(name) for name in needed} == {name: their_body.get(name) for name in needed} == needed


@pytest.mark.parametrize("model", MODELS)
async def test_azure_is_asked_as_its_sdk_asks(model: str) -> None:
    endpoint, version = "https://unit.openai.azure.com", "2024-10-21"
    recorder = Recorder()
    sdk = openai.AsyncAzureOpenAI(
        api_key="secret",
        azure_endpoint=endpoint,
        api_version=version,
        http_client=httpx2.AsyncClient(transport=recorder.transport),
    )
    async with await sdk.chat.completions.create(model=model, messages=TURNS, stream=True):
        pass
    mine = await ours(lambda way: azure_provider(UpstreamOptions(), way, "secret", endpoint, version), model)
    assert mine[0].headers["api-key"] == "secret"
    check(mine, recorder.asked[0], {"model": model, "stream": True})


@pytest.mark.parametrize("region", ["europe-west1", "global"])
@pytest.mark.parametrize("model", MODELS)
async def test_vertex_is_asked_as_its_sdk_asks(model: str, region: str) -> None:
    recorder = Recorder()
    sdk = anthropic.AsyncAnthropicVertex(
        access_token="secret",
        project_id="unit",
        region=region,
        http_client=httpx2.AsyncClient(transport=recorder.transport),
    )
    async with await sdk.messages.create(model=model, messages=TURNS, max_tokens=100, stream=True):
        pass
    mine = await ours(lambda way: vertex_provider(UpstreamOptions(), way, "secret", None, "unit", region), model)
    assert mine[0].headers["authorization"] == "Bearer secret"
    version = json.loads(recorder.asked[0].content)["anthropic_version"]
    check(mine, recorder.asked[0], {"anthropic_version": version, "model": None, "stream": True, "max_tokens": 100})
