"""One agent as a tool of another: its own conversation, its parent's budget."""

from __future__ import annotations

import asyncio

from loom import Agent
from loom.testing import ScriptedProvider, call


async def main() -> None:
    researcher = Agent(model=ScriptedProvider(["Retries should use full jitter."]))
    lead = Agent(
        model=ScriptedProvider([call("research", task="How should retries wait?"), "With full jitter."]),
        tools=[researcher.as_tool(name="research", description="Looks one question up.")],
    )
    result = await lead.run("How should our client retry?")
    print(result.unwrap(), f"({result.usage.total_tokens} tokens in all)")


if __name__ == "__main__":
    asyncio.run(main())
