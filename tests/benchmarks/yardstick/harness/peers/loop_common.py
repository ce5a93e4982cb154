"""The naive tool loop on the official SDK, shared by the FastAPI and the Quart-Trio targets."""

import json
import os

from openai import AsyncOpenAI

client = AsyncOpenAI(base_url=os.environ["UP"] + "/v1", api_key="x")
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]


async def get_weather(city, unit="celsius", days=1):
    return {"city": city, "unit": unit, "temp": 21, "days": days}


def sse(obj):
    return f"data: {json.dumps(obj)}\n\n"


async def run(messages, model):
    for _ in range(5):
        stream = await client.chat.completions.create(model=model, messages=messages, tools=TOOLS, stream=True)
        text, calls = "", {}
        async with stream:
            async for chunk in stream:
                if not chunk.choices:
                    continue
                delta = chunk.choices[0].delta
                if delta.content:
                    text += delta.content
                    yield sse({"content": delta.content})
                for tc in delta.tool_calls or []:
                    c = calls.setdefault(
                        tc.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
                    )
                    if tc.id:
                        c["id"] = tc.id
                    if tc.function and tc.function.name:
                        c["function"]["name"] += tc.function.name
                    if tc.function and tc.function.arguments:
                        c["function"]["arguments"] += tc.function.arguments
        if not calls:
            break
        messages.append({"role": "assistant", "content": text, "tool_calls": list(calls.values())})
        for c in calls.values():
            out = await get_weather(**json.loads(c["function"]["arguments"]))
            yield sse({"tool": c["function"]["name"], "result": out})
            messages.append({"role": "tool", "tool_call_id": c["id"], "content": json.dumps(out)})
    yield "data: [DONE]\n\n"
