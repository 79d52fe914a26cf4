"""Grants and functions -> the handlers a model may call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from ..config.abilities import Files, Web
from ..errors import ConfigError
from ..tools.base import ToolHandler
from ..tools.function import as_handler
from ..tools.output import MIN_LIMIT, OutputStore, ReadOutput
from ..tools.registry import ToolRegistry
from ..types import ToolResult

SESSIONS_KEPT = 1000
"""Sessions whose oversized outputs are kept at once; the one longest unused goes first."""


class OutputShelf:
    """The oversized outputs of an agent's sessions, each session's apart from the others'."""

    def __init__(self, limit_chars: int) -> None:
        self._limit = max(limit_chars, MIN_LIMIT)
        self._stores: OrderedDict[str, OutputStore] = OrderedDict()

    def cap(self, result: ToolResult, session_id: str, call_id: str) -> ToolResult:
        """The result as the model gets it."""
        if len(result.text) <= self._limit and result.data is None and not result.content_parts:
            return result
        store = self._stores.get(session_id)
        if store is None:
            store = OutputStore()
        capped = store.cap(result, limit_chars=self._limit, call_id=call_id)
        if capped is not result:
            self._stores[session_id] = store
            self._stores.move_to_end(session_id)
            while len(self._stores) > SESSIONS_KEPT:
                self._stores.popitem(last=False)
        return capped

    def find(self, session_id: str) -> OutputStore | None:
        """The outputs kept for a session."""
        return self._stores.get(session_id)


def compile_tools(tools: Iterable[Any], capabilities: Iterable[Any], shelf: OutputShelf) -> ToolRegistry:
    """Every handler an agent has. Raises ConfigError for what is no tool, no grant, or named twice.

    An agent that has any tool can also read on in outputs that were cut.
    """
    registry = ToolRegistry(as_handler(tool) for tool in tools)
    for capability in capabilities:
        for handler in _handlers_of(capability):
            registry.register(handler)
    if len(registry):
        registry.register(ReadOutput(shelf.find))
    return registry


def _handlers_of(capability: Any) -> list[ToolHandler]:
    if isinstance(capability, Files):
        from ..tools.files import file_tools

        return file_tools(
            root=capability.root,
            max_read_bytes=capability.max_read_bytes,
            respect_gitignore=capability.respect_gitignore,
        )
    if isinstance(capability, Web):
        from ..tools.web import web_tools

        return web_tools(
            allow_hosts=capability.allow_hosts,
            max_bytes=capability.max_bytes,
            timeout=capability.timeout,
            max_redirects=capability.max_redirects,
        )
    raise ConfigError(
        f"{capability!r} is not a capability; there is Files(...) and Web.enabled(), functions go into tools="
    )
