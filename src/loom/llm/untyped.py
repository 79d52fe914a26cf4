"""Reading JSON whose shape nobody promised: whatever is not what was hoped for is empty."""

from __future__ import annotations

from typing import Any


def as_dict(value: object) -> dict[str, Any]:
    """``value`` when it is an object, else an empty one."""
    if isinstance(value, dict):
        fields: dict[str, Any] = value
        return fields
    return {}


def as_list(value: object) -> list[Any]:
    """``value`` when it is an array, else an empty one."""
    if isinstance(value, list | tuple):
        items: list[Any] = list[Any](value)
        return items
    return []


def as_text(value: object) -> str:
    """``value`` when it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def as_count(value: object) -> int:
    """``value`` when it is a whole number above 0, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
