import json
import os

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=os.environ["UP"] + "/v1", api_key="x")
app = FastAPI()


@function_tool
async def get_weather(city: str, unit: str, days: int) -> str:
    """Weather."""
    return json.dumps({"city": city, "unit": unit, "temp": 21, "days": days})


@app.post("/chat")
async def chat(request: Request, model: str):
    body = await request.json()
    agent = Agent(name="a", tools=[get_weather], model=OpenAIChatCompletionsModel(model=model, openai_client=client))

    async def out():
        result = Runner.run_streamed(agent, body["messages"])
        try:
            async for ev in result.stream_events():
                if ev.type == "raw_response_event" and ev.data.type == "response.output_text.delta":
                    yield f"data: {json.dumps({'content': ev.data.delta})}\n\n"
                elif ev.type == "run_item_stream_event" and ev.item.type == "tool_call_output_item":
                    yield f"data: {json.dumps({'tool': str(ev.item.output)})}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            result.cancel()

    return StreamingResponse(out(), media_type="text/event-stream")
