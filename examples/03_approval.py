"""An approval that outlives its process: the run waits in the store until somebody answers."""

from __future__ import annotations

import asyncio

from loom import Agent, SqliteSessionStore, tool
from loom.testing import ScriptedProvider, call


@tool(destructive=True)
def refund(order: str, amount: float) -> str:
    """Refund an order."""
    return f"refunded {amount} for {order}"


def agent(*replies: object) -> Agent:
    return Agent(
        model=ScriptedProvider(replies), tools=[refund], session_store=SqliteSessionStore("approvals.db")
    )


async def main() -> None:
    desk = agent(call("refund", order="A-17", amount=12.5))
    result = await desk.session("customer-7").run("Refund order A-17")
    print(result.state, "-", result.pending[0].prompt)
    await desk.aclose()

    later = agent("Done, 12.50 is on its way.")  # a new process would do the same
    session = later.session("customer-7")
    (request,) = await session.pending()
    result = await session.resume(answers=[request.approve(by="ana")])
    print(result.state, "-", result.unwrap())
    await later.aclose()


if __name__ == "__main__":
    asyncio.run(main())
