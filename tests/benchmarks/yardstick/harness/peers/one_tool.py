"""The tool of every peer, for sluicegate: it answers at once, so that the loop is measured and no tool."""

from sluicegate.tools import tool


@tool
async def get_weather(city: str, unit: str = "celsius", days: int = 1) -> dict[str, object]:
    """Weather."""
    return {"city": city, "unit": unit, "temp": 21, "days": days}


tools = [get_weather]
