"""What both hand-written loops need beside their loop: a described tool, a table of messages."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

from ..client import INSTRUCTIONS


class Tool(NamedTuple):
    """A function and what the model is told about it."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    schema: dict[str, Any]

    async def call(self, arguments: dict[str, Any]) -> str:
        """Run it; the one that blocks goes to a thread."""
        if self.is_async:
            return str(await self.function(**arguments))
        if self.name == "block":
            return str(await asyncio.to_thread(self.function, **arguments))
        return str(self.function(**arguments))


def describe(function: Callable[..., Any]) -> Tool:
    """``function`` as a tool."""
    numbers = {name: {"type": "integer"} for name in inspect.signature(function).parameters}
    parameters = {"type": "object", "properties": numbers, "required": list(numbers)}
    said = {"name": function.__name__, "description": inspect.getdoc(function), "parameters": parameters}
    is_async = inspect.iscoroutinefunction(function)
    return Tool(function.__name__, function, is_async, {"type": "function", "function": said})


def opening(prompt: str | None = None) -> list[Any]:
    """The first messages of a conversation."""
    said = [{"role": "system", "content": INSTRUCTIONS}]
    return said if prompt is None else [*said, {"role": "user", "content": prompt}]


def open_turns(path: str) -> sqlite3.Connection:
    """A table of messages, as durable as ours: write-ahead log and full synchronisation."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE messages (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)")
    return database


def append_turn(database: sqlite3.Connection, *messages: str) -> None:
    """Keep what was said, in one transaction."""
    database.execute("BEGIN IMMEDIATE")
    database.executemany("INSERT INTO messages (body) VALUES (?)", [(message,) for message in messages])
    database.execute("COMMIT")
