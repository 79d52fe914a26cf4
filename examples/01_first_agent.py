"""The first agent: reads the folder it is started in. No key and no network are needed."""

from __future__ import annotations

import asyncio

from loom import Agent, Files


async def main() -> None:
    agent = Agent(model="offline", capabilities=[Files(read_only=True)])
    result = await agent.run("Summarize this repository")
    print(result.unwrap())


if __name__ == "__main__":
    asyncio.run(main())
