"""Read by the type checkers, not run: a decorated function keeps its types."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, assert_type

from loom.assembly.output import OutputSpec
from loom.tools.base import ToolContext, ToolHandler
from loom.tools.function import FunctionTool, as_handler, tool
from loom.types import ToolResult, ToolSpec


@tool
def bare(query: str, limit: int = 3) -> list[str]:
    """Bare."""
    return [query] * limit


@tool(name="other", read_only=True, timeout=2.0)
async def with_options(query: str, *, ctx: ToolContext[int]) -> int:
    """With options."""
    return ctx.deps


class Service:
    """Methods bind."""

    @tool
    def look(self, query: str) -> bytes:
        """Look."""
        return query.encode()


@dataclass
class City:
    """An output type."""

    name: str


async def use(context: ToolContext[int], service: Service) -> None:
    """What users write, and the mistakes that are found."""
    assert_type(bare("a"), list[str])
    assert_type(bare(query="a", limit=2), list[str])
    assert_type(await with_options("a", ctx=context), int)
    assert_type(service.look("a"), bytes)
    assert_type(bare.tool, ToolSpec)
    assert_type(await bare.invoke({}), ToolResult)
    assert_type(bare.name, str)

    handlers: list[ToolHandler] = [bare, with_options, service.look, as_handler(bare)]
    general: FunctionTool[..., Any] = with_options
    awaited: Awaitable[int] = with_options("a", ctx=context)
    assert_type(OutputSpec.of(City).parse("{}"), City)

    bare(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    bare("a", limits=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await bare("a")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    tool(names="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    tool(timeout="x")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    print(handlers, general, awaited)
