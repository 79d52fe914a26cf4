"""What a tool is declared to be means what it says, or is refused."""

from __future__ import annotations

from typing import Any

import pytest

from loom import Agent, ToolRegistry, tool
from loom.errors import ConfigError
from loom.testing import ScriptedProvider
from loom.types import ToolResult, ToolRetries, ToolSpec

NO_FACTS: list[dict[str, Any]] = [
    *({flag: value} for flag in ("read_only", "destructive", "idempotent", "concurrency_safe", "strict")
      for value in ("no", "false", 1, 0, None)),
    {"needs_approval": "never"},
    {"needs_approval": 0},
    *({"timeout": value} for value in (True, "5", 0, -1, float("nan"))),
    *({"max_calls": value} for value in (True, "3", 0, -1, 1.5, float("nan"))),
    *({"retries": value, "idempotent": True} for value in (True, False, -1, "2", 1.0, 0.0)),
    {"retries": ToolRetries(1, delay=True), "idempotent": True},
    {"description": 3},
]  # fmt: skip


def _id(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in facts.items())


@pytest.mark.parametrize("facts", NO_FACTS, ids=_id)
def test_review_a_a_fact_of_no_meaning_is_refused_where_it_is_written(facts: dict[str, Any]) -> None:
    words = {"requires_permission" if name == "needs_approval" else name: facts[name] for name in facts}
    with pytest.raises(ConfigError):
        tool(**words)


class _Raw:
    def __init__(self, **facts: Any) -> None:
        self.tool = ToolSpec("raw", **{"description": "d", **facts})

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        return ToolResult("ran")


@pytest.mark.parametrize("facts", NO_FACTS, ids=_id)
def test_review_a_a_handler_with_a_fact_of_no_meaning_is_refused(facts: dict[str, Any]) -> None:
    handler: Any = _Raw(**facts)
    with pytest.raises(ConfigError, match="raw"):
        ToolRegistry([handler])
    with pytest.raises(ConfigError, match="raw"):
        Agent(model=ScriptedProvider(["end"]), tools=[handler]).check()


def test_review_a_a_tool_timeout_ends() -> None:
    with pytest.raises(ConfigError, match="infinite"):
        tool(timeout=float("inf"))
