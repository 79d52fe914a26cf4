"""What a registry takes: handlers whose name and spec every service accepts."""

from __future__ import annotations

from typing import Any

import pytest

from loom import Agent
from loom.errors import ConfigError
from loom.testing import ScriptedProvider
from loom.tools.base import ToolHandler
from loom.tools.function import tool
from loom.tools.registry import ToolRegistry
from loom.types import ToolResult, ToolSpec


class Handler(ToolHandler):
    def __init__(self, **spec: Any) -> None:
        self._spec = ToolSpec(**{"name": "act", **spec})

    @property
    def tool(self) -> ToolSpec:
        return self._spec

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        return ToolResult()


BAD_NAMES = [
    "", " ", "a b", "a.b", "files.read", "a/b", "a:b", "x" * 65,
    "d\N{CYRILLIC SMALL LETTER IE}ploy", "delete\u200b", "\uff44eploy",
    "größe", "act\n",
    "act\x00", "\N{KELVIN SIGN}", "a'b", None, 3, b"act",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
async def test_review_j_a_name_that_no_service_accepts_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="is no name for a tool"):
        ToolRegistry([Handler(name=name)])
    with pytest.raises(ConfigError, match="is no name for a tool"):
        await Agent(model=ScriptedProvider(["x"]), tools=[Handler(name=name)]).run("go")
    if isinstance(name, str) and name:
        with pytest.raises(ConfigError, match="is no name for a tool"):
            tool(name=name)(lambda: None)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="is no name for a tool"):
            Agent().as_tool(name=name, description="x")


@pytest.mark.parametrize("name", ["a", "x" * 64, "A-b_9", "mcp__files__read"])
def test_review_j_good_names_are_taken(name: str) -> None:
    assert ToolRegistry([Handler(name=name)]).has(name)


def test_review_j_a_letter_that_looks_like_another_is_pointed_at() -> None:
    with pytest.raises(ConfigError, match=r"U\+0435"):
        ToolRegistry([Handler(name="d\N{CYRILLIC SMALL LETTER IE}ploy")])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"description": None}, "description must be text"),
        ({"parameters": {"type": "array"}}, "of type object"),
        ({"parameters": []}, "of type object"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"read_only": True, "destructive": True}, "not both"),
    ],
)
def test_review_j_a_spec_that_means_nothing_is_refused(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ToolRegistry([Handler(**spec)])


async def test_review_j_a_name_is_taken_once() -> None:
    registry = ToolRegistry([Handler()])
    with pytest.raises(ConfigError, match="two tools are named"):
        registry.register(Handler())
    assert registry.list_handlers() == ["act"]
    with pytest.raises(ConfigError, match="two tools are named"):
        await Agent(model=ScriptedProvider(["x"]), tools=[Handler(), Handler()]).run("go")


def test_review_j_a_tool_says_its_facts() -> None:
    @tool(destructive=True, idempotent=True, timeout=3, concurrency_safe=True)
    def wipe(path: str) -> None:
        """Wipe a path."""

    assert (wipe.name, wipe.description) == ("wipe", "Wipe a path.")
    assert wipe.parameters["properties"] == {"path": {"type": "string"}}
    assert (wipe.read_only, wipe.destructive, wipe.concurrency_safe) == (False, True, True)
    assert (wipe.needs_approval, wipe.requires_permission) == (None, True)
    assert (wipe.idempotent, wipe.timeout) == (True, 3)

    @tool(read_only=True, requires_permission=True)
    def look() -> None: ...

    assert (look.read_only, look.needs_approval, look.requires_permission, look.timeout) == (
        True,
        True,
        True,
        None,
    )
    child = Agent().as_tool(name="ask", description="Ask.")
    assert (child.name, child.description, child.read_only, child.idempotent) == ("ask", "Ask.", False, True)
