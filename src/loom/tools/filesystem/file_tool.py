"""What the four file tools have in common: a root, a thread to work in, a budget that a cancel stops."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...types import ToolResult, ToolSpec
from ..base import ToolHandler
from ..threads import run_in_thread
from .rooted import Root
from .walk import MAX_ENTRIES, MAX_SECONDS, Budget


@dataclass(frozen=True, slots=True)
class Access:
    """What a file tool may look at and how much of it."""

    root: Root
    max_read_bytes: int = 128 * 1024
    respect_gitignore: bool = True
    max_entries: int = MAX_ENTRIES
    max_seconds: float = MAX_SECONDS
    clock: Callable[[], float] = time.monotonic

    def budget(self) -> Budget:
        """A fresh budget for one call."""
        return Budget(entries=self.max_entries, seconds=self.max_seconds, clock=self.clock)


class FileTool(ToolHandler):
    """A read-only tool over a root. A subclass says what it is (``spec``) and works in a thread."""

    spec: ToolSpec

    def __init__(self, access: Access) -> None:
        self._access = access

    @property
    def tool(self) -> ToolSpec:
        """What the model and the gates are told."""
        return self.spec

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        """Do the work off the event loop. Raises the ToolError family; a cancel stops the work as well."""
        budget = self._access.budget()
        try:
            return await run_in_thread(partial(self.work, args, budget))
        except asyncio.CancelledError:
            budget.stop()
            raise

    @abstractmethod
    def work(self, args: dict[str, Any], budget: Budget) -> ToolResult:
        """Do the work, blocking. Checks ``args`` itself and minds the budget."""


def read_only_spec(
    name: str, description: str, properties: dict[str, Any], required: Sequence[str] = ()
) -> ToolSpec:
    """The spec of a tool that only looks: calls may run side by side and be repeated."""
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return ToolSpec(
        name=name,
        description=description,
        parameters=schema,
        read_only=True,
        concurrency_safe=True,
        idempotent=True,
    )


def with_notes(lines: Sequence[str], notes: Sequence[str]) -> str:
    """Result lines followed by what the model should know about them, each note in brackets."""
    return "\n".join([*lines, *(f"[{note}]" for note in notes)])
