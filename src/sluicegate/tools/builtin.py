"""Three tools to try a deployment with: a pretended weather service, a calculator, a clock."""

import hashlib
import zoneinfo
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal

import trio
from pydantic import Field

from . import arithmetic
from .context import ToolContext
from .decorator import tool
from .faults import ToolError
from .registry import Registry

LATENCY = 0.3
_SKIES = ("sunny", "partly cloudy", "cloudy", "light rain", "heavy rain", "fog")


@tool(activity="Checking the weather in {city}")
async def get_weather(
    city: Annotated[str, Field(min_length=1, max_length=100)],
    context: ToolContext,
    unit: Literal["celsius", "fahrenheit"] = "celsius",
    days: Annotated[int, Field(ge=1, le=7)] = 1,
) -> dict[str, object]:
    """Get the weather forecast for a city. The data is made up, for demonstrations.

    Args:
        city: Name of the city, for example "Paris".
        unit: Unit of the temperatures.
        days: Number of days, from 1 to 7, today being the first.
    """
    context.progress({"status": "asking the weather service"})
    await trio.sleep(LATENCY)
    seed = hashlib.sha256(city.strip().casefold().encode()).digest()
    forecast = []
    for day in range(days):
        celsius = (seed[0] + 3 * seed[day + 1]) % 40 - 8
        forecast.append(
            {
                "day": day + 1,
                "sky": _SKIES[seed[day + 8] % len(_SKIES)],
                "temperature": celsius if unit == "celsius" else round(celsius * 9 / 5 + 32),
            }
        )
    return {"city": city, "unit": unit, "forecast": forecast, "note": "Demo data, not a real forecast."}


@tool(activity="Calculating {expression}", eager=True)
async def calculate(expression: str) -> str:
    """Calculate an arithmetic expression exactly.

    Args:
        expression: Numbers, + - * / // % **, parentheses, abs, max, min, round, sqrt, pi, e. At most 200 characters.
    """
    try:
        value = arithmetic.evaluate(expression)
    except ValueError as error:
        raise ToolError(f"Cannot calculate: {error}.") from error
    return str(value) if isinstance(value, int) else f"{value:.15g}"


@tool(activity="Looking at the clock for {timezone}")
def current_time(timezone: str = "UTC") -> dict[str, str]:
    """Get the current date and time in a time zone.

    Args:
        timezone: IANA name of the time zone, for example "Europe/Paris".
    """
    now = datetime.now(_zone(timezone))
    return {"timezone": timezone, "time": now.isoformat(timespec="seconds"), "weekday": now.strftime("%A")}


def _zone(name: str) -> tzinfo:
    if name.upper() in {"UTC", "Z"}:
        return UTC  # known without the system's time zone files, which small containers lack
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ToolError('There is no such time zone. Use an IANA name such as "Europe/Paris", or "UTC".') from error


demo = Registry([get_weather, calculate, current_time])
