"""Reading a conversation: what is asked now, what was called since, what may be called.

Only the shape of messages and tool specs is known here, nothing about files or tasks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import msgspec

from ...types import ChatMessage, Role, ToolCall, ToolSpec, canonical_json

# More text than this in one tool result is not looked at, so that a call costs a bounded time.
_MOST_TEXT = 400_000
_OWN_ID = re.compile(r"offline_(\d{1,9})\Z")


class Wanted(NamedTuple):
    """A call to ask for."""

    name: str
    arguments: dict[str, Any]

    @property
    def key(self) -> tuple[str, bytes]:
        """Equal for equal calls."""
        return (self.name, canonical_json(self.arguments))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A call that was asked for, and its result. ``failed`` also when no result came back."""

    name: str
    arguments: dict[str, Any]
    text: str
    failed: bool

    @property
    def key(self) -> tuple[str, bytes]:
        """Equal for equal calls."""
        return (self.name, canonical_json(self.arguments))


@dataclass(frozen=True, slots=True)
class Turn:
    """What the last user message asks, and the calls made since. ``next_number`` is free for a call id."""

    task: str
    exchanges: tuple[Exchange, ...]
    next_number: int


def read_turn(messages: Sequence[ChatMessage]) -> Turn:
    """Read the conversation once, from the front."""
    task, number = "", 0
    calls: list[ToolCall] = []
    results: dict[str, ChatMessage] = {}
    for message in messages:
        if message.role == Role.USER:
            task, calls, results = message.text_content or "", [], {}
        elif message.role == Role.ASSISTANT:
            for call in message.tool_calls or ():
                own = _OWN_ID.match(call.id)
                number = max(number + 1, int(own[1]) + 1 if own else 0)
                calls.append(call)
        elif message.role == Role.TOOL and message.tool_call_id is not None:
            results.setdefault(message.tool_call_id, message)
    return Turn(task, tuple(_exchange(call, results.get(call.id)) for call in calls), number)


def _exchange(call: ToolCall, result: ChatMessage | None) -> Exchange:
    arguments = _object(call.arguments)
    if result is None:
        return Exchange(call.name, arguments, "no result came back", True)
    return Exchange(call.name, arguments, (result.text_content or "")[:_MOST_TEXT], result.is_error)


def _object(text: str) -> dict[str, Any]:
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


class Offered:
    """The tools of this request, and whether a call fits what they declare."""

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        self._schemas = {tool.name: tool.parameters for tool in tools}

    @property
    def names(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._schemas)

    def objection(self, name: str, arguments: object) -> str | None:
        """Why a call cannot be made, or None when it can."""
        if name not in self._schemas:
            return "no tool of that name is offered"
        if not isinstance(arguments, dict):
            return "its arguments are not a JSON object"
        given = set(cast("dict[str, Any]", arguments))
        known, required = _declared(self._schemas[name])
        if given - known:
            there = f"only {_listed(known)}" if known else "and takes none"
            return f"it has no parameter {_listed(given - known)}, {there}"
        if required - given:
            return f"it needs the parameter {_listed(required - given)}"
        return None

    def call(self, name: str, needed: dict[str, Any], extra: dict[str, Any] | None = None) -> Wanted | None:
        """A call with ``needed`` arguments and those of ``extra`` that the tool declares.

        None when the tool is not offered, lacks a needed parameter or requires one that is not given.
        """
        known, _ = _declared(self._schemas.get(name, {}))
        arguments = {**needed, **{key: value for key, value in (extra or {}).items() if key in known}}
        return None if self.objection(name, arguments) else Wanted(name, arguments)


def _declared(schema: dict[str, Any]) -> tuple[set[str], set[str]]:
    # A schema may come from a foreign server: what is not of the expected shape declares nothing.
    properties: object = schema.get("properties")
    required: object = schema.get("required")
    known = set(cast("dict[str, Any]", properties)) if isinstance(properties, dict) else set[str]()
    names = (
        {str(key) for key in cast("list[Any]", required)}
        if isinstance(required, list | tuple)
        else set[str]()
    )
    return known, names


def _listed(names: set[str]) -> str:
    return ", ".join(repr(name[:40]) for name in sorted(names)[:8])
