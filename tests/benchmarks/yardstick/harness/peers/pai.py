"""Pydantic AI agent + one tool, Vercel AI adapter on Starlette (run by uvicorn[standard])."""

import os

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.ui.vercel_ai import VercelAIAdapter
from starlette.applications import Starlette
from starlette.routing import Route

provider = OpenAIProvider(base_url=os.environ["UP"] + "/v1", api_key="x")
agent = Agent()


@agent.tool_plain
async def get_weather(city: str, unit: str = "celsius", days: int = 1) -> dict:
    """Weather."""
    return {"city": city, "unit": unit, "temp": 21, "days": days}


async def chat(request):
    model = OpenAIChatModel(request.query_params["model"], provider=provider)
    return await VercelAIAdapter.dispatch_request(request, agent=agent, model=model)


app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
