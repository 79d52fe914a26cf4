"""What somebody is told who holds it wrong: each message names what to write instead."""

from __future__ import annotations

import pytest

from loom import Agent, GovernancePolicy, Model, PermissionRule, Runtime, RuntimeLimits, tool
from loom.errors import ConfigError, LoomError, MissingExtra, RunNotOver
from loom.testing import ScriptedProvider, call

pytestmark = pytest.mark.timeout(20)


@tool(read_only=True)
def look(file_path: str) -> str:
    """Look."""
    return file_path


async def test_review_guide_an_agent_among_the_tools_is_told_of_as_tool() -> None:
    other = Agent(model=ScriptedProvider(["x"]))
    with pytest.raises(ConfigError, match=r"\.as_tool\(name=\.\.\., description=\.\.\.\)"):
        await Agent(model=ScriptedProvider(["x"]), tools=[other]).run("go")


async def test_review_guide_a_rule_without_a_reason_is_named_as_check_prints_it() -> None:
    agent = Agent(
        model=ScriptedProvider([call("look", file_path="/etc/x"), "done"]),
        tools=[look],
        governance=GovernancePolicy(rules=(PermissionRule.deny("look", file_path="/etc/*"),)),
    )
    (row,) = agent.check()
    result = await agent.run("go")
    assert row.rule in result.denied[0].result.text


async def test_review_guide_the_offline_model_names_the_parameters_there_are() -> None:
    result = await Agent(model="offline", tools=[look]).run('call look {"path": "x"}')
    assert result.error is not None
    assert "no parameter 'path', only 'file_path'" in result.error.message


async def test_review_guide_a_stream_without_a_result_yet_raises_a_typed_error() -> None:
    async with Agent(model=ScriptedProvider(["one"])).stream("go") as stream:
        with pytest.raises(RunNotOver) as raised:
            _ = stream.result
    assert isinstance(raised.value, LoomError)
    assert isinstance(raised.value, RuntimeError)


async def test_review_guide_no_message_sends_one_to_another_projects_package() -> None:
    limited = Agent(
        model=Model(provider="compatible", name="unheard-of", api_base="http://127.0.0.1:9"),
        runtime=Runtime(limits=RuntimeLimits(max_cost=1.0)),
    )
    with pytest.raises(ConfigError) as raised:
        await limited.run("go")
    for text in (str(raised.value), str(MissingExtra("this", "pricing"))):
        assert "pip install 'loom-agent" not in text
        assert "with its extra 'pricing'" in text
