"""The samples of the fourth seed run as printed, against a loopback model service."""

from __future__ import annotations

import pytest
from samples import run_sample, sample

from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.loop import Agent, AgentConfig
from loom.testing import ModelServer, call
from loom.types import ChatMessage, Role

PRINTED_URL = "http://localhost:11434/v1"


def test_first_agent(capsys: pytest.CaptureFixture[str]) -> None:
    with ModelServer.in_thread(["Hello, human."]) as server:
        code = sample("seed_004", "first agent")
        assert PRINTED_URL in code
        run_sample(code.replace(PRINTED_URL, server.base_url))
    assert capsys.readouterr().out == "Hello, human.\n"
    body = server.requests[0].body
    assert body["model"] == "llama3"
    assert [m["content"] for m in body["messages"]] == ["You are a helpful assistant.", "Hello!"]


def test_tools() -> None:
    with ModelServer.in_thread([call("get_weather", city="Lisbon"), "Sunny."]) as server:
        provider = OpenAICompatibleProvider(base_url=server.base_url, default_model="llama3")
        names = run_sample(sample("seed_004", "tools"), Agent=Agent, provider=provider, config=AgentConfig())
        messages = [ChatMessage(role=Role.USER, content="Weather in Lisbon?")]
        turn = run_sample("turn = await agent.run_turn(messages)", agent=names["agent"], messages=messages)[
            "turn"
        ]
    assert turn.reply == "Sunny."
    assert (turn.iterations, turn.tool_calls) == (2, 1)
    assert turn.input_tokens > 0
    assert turn.output_tokens > 0
    assert len(messages) == 1
    assert "Weather in Lisbon: 72°F, sunny" in str(server.requests[1].body["messages"][-1])
