"""A loop agent of parts that cannot mean anything is refused when it is made, and when its config was changed since."""

from __future__ import annotations

from typing import Any

import pytest

from loom import GovernancePolicy, TerminalHuman, tool
from loom.errors import ConfigError
from loom.loop import Agent, AgentConfig
from loom.testing import ScriptedProvider, call
from loom.tools.registry import ToolRegistry
from loom.types import ChatMessage, Role

EFFECTS: list[str] = []


@tool
def deploy(env: str) -> str:
    """Deploy."""
    EFFECTS.append(env)
    return "deployed"


FIELDS: list[tuple[str, Any]] = [
    *(("governance", value) for value in (False, (), "plan", {"mode": "plan"}, {}, GovernancePolicy)),
    *(("max_iterations", value) for value in (float("nan"), 0, -1, True, "3", None, 2.0)),
    *((hook, 3) for hook in (
        "on_before_turn", "on_after_turn", "on_tool_result", "on_event", "choose_model", "before_llm_call",
        "limit_message_builder", "serialize_event",
    )),
    ("on_event", ""),
    ("before_llm_call", False),
    *(("extra_tools", value) for value in ("deploy", "", 3, False, {"deploy": deploy}, deploy, (t for t in [deploy]))),
    ("affirmatives", "yes"),
    ("negatives", [3]),
    ("negatives", [""]),
    ("model", 3),
    ("model", ""),
    ("system_preamble", 3),
    ("system_preamble", None),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=lambda value: repr(value)[:20])
async def test_review_a_a_config_that_cannot_mean_anything_is_refused(field: str, value: Any) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=field):
        AgentConfig(**options)
    changed: AgentConfig[Any] = AgentConfig()
    made = Agent(ScriptedProvider(["end"]), config=changed)
    setattr(changed, field, value)
    with pytest.raises(ConfigError, match=field):
        Agent(ScriptedProvider(["end"]), config=changed)
    with pytest.raises(ConfigError, match=field):
        await made.run_turn([ChatMessage(Role.USER, "hi")])


PARTS: list[tuple[str, Any]] = [
    ("human", 3),
    ("human", False),
    ("human", TerminalHuman),
    ("human", lambda request: True),
    ("tool_registry", [deploy]),
    ("tool_registry", ()),
    ("tool_registry", ToolRegistry),
    ("config", {}),
    ("config", {"governance": GovernancePolicy.plan()}),
    ("config", AgentConfig),
    ("provider_registry", {}),
]


@pytest.mark.parametrize(("part", "value"), PARTS, ids=lambda value: repr(value)[:20])
def test_review_a_a_loop_agent_of_other_parts_is_refused(part: str, value: Any) -> None:
    options: dict[str, Any] = {part: value}
    with pytest.raises(ConfigError, match=part):
        Agent(ScriptedProvider(["end"]), **options)


async def test_review_a_what_means_something_is_taken() -> None:
    EFFECTS.clear()
    config: AgentConfig[Any] = AgentConfig(
        extra_tools=[deploy], governance=GovernancePolicy.plan(), affirmatives={"si"}, negatives=frozenset()
    )
    agent = Agent(ScriptedProvider([call("deploy", env="prod"), "end"]), config=config)
    assert (await agent.run_turn([ChatMessage(Role.USER, "hi")])).reply == "end"
    assert EFFECTS == []
