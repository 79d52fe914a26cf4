"""Tools from functions, and what the run tells while they work. A scripted model makes it repeatable."""

from __future__ import annotations

import asyncio

from loom import Agent, ToolContext, tool
from loom.testing import ScriptedProvider, call


@tool(read_only=True, concurrency_safe=True)
async def weather(city: str, context: ToolContext) -> str:
    """Tell the weather in a city."""
    context.emit(f"asking about {city}")
    return f"sunny in {city}"


async def main() -> None:
    model = ScriptedProvider(
        [[call("weather", city="Lisbon"), call("weather", city="Oslo")], "Sunny in both."]
    )
    agent = Agent(model=model, tools=[weather])
    async for event in agent.stream("How is the weather in Lisbon and Oslo?"):
        if event.type == "tool.progress":
            print("...", event.text)
        elif event.type == "tool.finished":
            print("tool:", event.result.text)
        elif event.type == "run.finished":
            print(event.output)


if __name__ == "__main__":
    asyncio.run(main())
