"""What a row of the table owes: building an agent, running it, streaming it, keeping a session.

Standard library only: peers' environments import this too.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

Turn = Callable[[str], Awaitable[str]]
"""Say something in a session; returns the answer."""

INSTRUCTIONS = "You are a careful assistant. Use the tools you are given."
PROMPT = "Add up the numbers, one call at a time, and say when you are done."
MODEL = "scripted"
KEY = "sk-benchmark"
WAIT_SECONDS = 0.05


class NotOffered(Exception):
    """This client has no such thing."""


class Client(ABC):
    """One way to write an agent. Agents it builds are used by ``run`` and ``stream`` only."""

    def tool(self, function: Callable[..., Any], *, together: bool = False, asks: bool = False) -> Any:
        """``function`` as this client wants its tools. ``together``: calls of it may run at the same time."""
        if asks:
            raise NotOffered
        return function

    @abstractmethod
    def agent(self, base_url: str, tools: Sequence[Any]) -> Any:
        """An agent with these tools, as an application would write it. No I/O."""

    def ready(self, agent: Any) -> None:
        """Build whatever ``agent`` put off to its first run. Most put off nothing."""
        return

    async def close(self, agent: Any) -> None:
        """Let go of what ``agent`` holds, as an application does that built it for one request."""
        return

    @abstractmethod
    async def run(self, agent: Any, prompt: str) -> str:
        """One run to its end; the final text."""

    def stream(self, agent: Any, prompt: str) -> AsyncIterator[str]:
        """One run as pieces of text, each as it came from the model."""
        raise NotOffered

    def session(self, base_url: str, path: str) -> AbstractAsyncContextManager[Turn]:
        """A conversation kept in the SQLite file ``path``."""
        raise NotOffered

    async def park(self, base_url: str, tools: Sequence[Any], count: int, *, attached: bool) -> Any:
        """``count`` runs that wait for a human; return what keeps them alive.

        ``attached``: a human has been asked and has not answered yet; else nobody was there to be asked.
        """
        raise NotOffered


class Tools:
    """The tools of all scenarios, counting how often they really ran."""

    def __init__(self) -> None:
        self.executed = 0

    def add(self) -> Callable[..., Any]:
        """A tool that costs nothing."""

        def add(a: int, b: int) -> int:
            """Add two numbers.

            Args:
                a: The first number.
                b: The second number.
            """
            self.executed += 1
            return a + b

        return add

    def async_add(self) -> Callable[..., Any]:
        """The same as asynchronous code."""

        async def add(a: int, b: int) -> int:
            """Add two numbers.

            Args:
                a: The first number.
                b: The second number.
            """
            self.executed += 1
            return a + b

        return add

    def wait(self) -> Callable[..., Any]:
        """A tool that waits as asynchronous code does."""

        async def wait(a: int, b: int) -> int:
            """Wait a moment, then add two numbers."""
            await asyncio.sleep(WAIT_SECONDS)
            self.executed += 1
            return a + b

        return wait

    def block(self) -> Callable[..., Any]:
        """A tool that blocks its thread."""

        def block(a: int, b: int) -> int:
            """Block for a moment, then add two numbers."""
            time.sleep(WAIT_SECONDS)
            self.executed += 1
            return a + b

        return block
