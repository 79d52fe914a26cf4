"""What Loom logs of the failures of tools and hooks holds no keys, on either face."""

import logging

import pytest

import loom
from loom.loop import Agent as LoopAgent
from loom.loop import AgentConfig
from loom.testing import ScriptedProvider, call
from loom.types import ChatMessage, Role

KEY = "sk-ant-api03-5f3a9c1e7b2d4860aabbccdd5f3a9c1e7b2d4860"


def fails(**event: object) -> None:
    raise RuntimeError(f"401 for {KEY}")


async def test_a_hook_that_shows_a_key(caplog: pytest.LogCaptureFixture) -> None:
    agent = loom.Agent(model=ScriptedProvider(["Hello"]))
    agent.on("after_run", fails)
    with caplog.at_level(logging.DEBUG, logger="loom"):
        assert (await agent.run("Hello")).ok
    assert "RuntimeError" in caplog.text
    assert KEY not in caplog.text
    assert all(KEY not in repr(vars(record)) for record in caplog.records)


async def test_a_hook_of_the_loop_agent_that_shows_a_key(caplog: pytest.LogCaptureFixture) -> None:
    def watch(call: object, text: str) -> None:
        fails()

    @loom.tool
    def look() -> str:
        """Looks."""
        return "seen"

    config = AgentConfig(on_tool_result=watch)
    registry = loom.ToolRegistry([look])
    agent = LoopAgent(
        provider=ScriptedProvider([call("look"), "Done"]), tool_registry=registry, config=config
    )
    with caplog.at_level(logging.DEBUG, logger="loom"):
        turn = await agent.run_turn([ChatMessage(Role.USER, "Look")])
    assert turn.reply == "Done"
    assert "RuntimeError" in caplog.text
    assert KEY not in caplog.text
