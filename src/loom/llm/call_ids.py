"""Ids of tool calls, for services that give none or give one twice.

Results find their calls by id, so no two calls of a conversation may share one, and the same request must get
the same ids again: they are counted, never rolled.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from ..types import ChatMessage


def invented_id(history: Sequence[ChatMessage], made: int) -> str:
    """An id for a call without one, after ``made`` others of its reply and all those of ``history``."""
    earlier = sum(len(message.tool_calls or ()) for message in history)
    return f"call_{earlier + made + 1}"


def distinct_id(wanted: str, taken: Container[str]) -> str:
    """``wanted``, or that with a number behind it when it is taken."""
    unique, number = wanted, 2
    while unique in taken:
        unique, number = f"{wanted}_{number}", number + 1
    return unique
