"""Grants and functions -> the handlers a model may call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..config.abilities import Files, Web
from ..errors import ConfigError
from ..tools.base import ToolHandler
from ..tools.function import as_handler
from ..tools.output import ReadOutput
from ..tools.registry import ToolRegistry
from .network import make_network


def compile_tools(tools: Iterable[Any], capabilities: Iterable[Any], limit_chars: int) -> ToolRegistry:
    """Every handler an agent has. Raises ConfigError for what is no tool, no grant, or named twice.

    An agent that has any tool can also read on in outputs that were cut, ``limit_chars`` at a time at most.
    """
    registry = ToolRegistry(as_handler(tool) for tool in tools)
    for capability in capabilities:
        for handler in _handlers_of(capability):
            registry.register(handler)
    if len(registry):
        registry.register(ReadOutput(limit_chars))
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
            network=make_network(
                "", proxy=capability.proxy, ca_bundle=capability.ca_bundle, trust_env=False, environ={}
            ),
        )
    raise ConfigError(
        f"{capability!r} is not a capability; there is Files(...) and Web.enabled(), functions go into tools="
    )
