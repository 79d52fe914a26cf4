"""Door: what a model may call."""

from typing import TYPE_CHECKING

from .._door import hand_on

if TYPE_CHECKING:
    from ..types import ToolResult, ToolSpec
    from .base import RunContext, ToolContext, ToolHandler
    from .function import FunctionTool, tool
    from .registry import ToolRegistry

__all__ = [
    "FunctionTool",
    "RunContext",
    "ToolContext",
    "ToolHandler",
    "ToolRegistry",
    "ToolResult",
    "ToolSpec",
    "tool",
]

__getattr__ = hand_on(
    __name__,
    {
        "FunctionTool": ".function",
        "RunContext": ".base",
        "ToolContext": ".base",
        "ToolHandler": ".base",
        "ToolRegistry": ".registry",
        "ToolResult": "..types",
        "ToolSpec": "..types",
        "tool": ".function",
    },
)
