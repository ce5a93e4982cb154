"""Metrics of runs, by the GenAI conventions of OpenTelemetry: counted once a run has ended, never for each token."""

from collections.abc import Container, Sequence
from typing import Final

from opentelemetry.metrics import Histogram, Meter

from ..runtime.driver import Driver
from .chats import OTHER, Chat, end_of, failure_of, tool_error

# As the conventions have them. In seconds.
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_RUN_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
_TOKENS: Final = tuple(4**each for each in range(14))


class Measures:
    """The instruments of `meter`. `tools` are those that there are."""

    def __init__(self, meter: Meter, tools: Container[str]) -> None:
        def seconds(name: str, description: str, bounds: Sequence[float] = _SECONDS) -> Histogram:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=bounds)

        self._tools = tools
        self._chat = seconds("gen_ai.client.operation.duration", "GenAI operation duration.")
        self._first_chunk = seconds(
            "gen_ai.client.operation.time_to_first_chunk", "Time until the first chunk of a response."
        )
        self._run = seconds("gen_ai.invoke_agent.duration", "Duration of an agent's invocation.", _RUN_SECONDS)
        self._tool = seconds("gen_ai.execute_tool.duration", "Duration of a tool's execution.")
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def add(self, driver: Driver, chats: list[Chat]) -> None:
        """Count a run that has ended."""
        record, failure = driver.record, failure_of(driver)
        self._run.record(end_of(driver) - record.began, {} if failure is None else {"error.type": failure.code})
        for chat in chats:
            self._add_chat(chat)
        for call in record.tools:
            attributes = {"gen_ai.tool.name": call.name if call.name in self._tools else OTHER}
            if error := tool_error(call, driver):
                attributes["error.type"] = error
            ended = end_of(driver) if call.ended is None else call.ended
            self._tool.record(ended - call.began, attributes)

    def _add_chat(self, chat: Chat) -> None:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": chat.provider,
            "gen_ai.request.model": chat.model,
        }
        if chat.said_model:
            attributes["gen_ai.response.model"] = chat.said_model
        if chat.first_word is not None:
            self._first_chunk.record(chat.first_word - chat.began, attributes)
        if chat.usage is not None:
            self._tokens.record(chat.usage.input_tokens, {**attributes, "gen_ai.token.type": "input"})
            self._tokens.record(chat.usage.output_tokens, {**attributes, "gen_ai.token.type": "output"})
        if chat.error is not None:
            attributes["error.type"] = chat.error.code
        self._chat.record(chat.ended - chat.began, attributes)
