"""Reading JSON whose shape nobody promised: whatever is not what was hoped for is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard


def is_dict(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether ``value`` is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether ``value`` is an array."""
    return isinstance(value, list | tuple)


def as_dict(value: object) -> dict[str, Any]:
    """``value`` when it is an object, else an empty one."""
    return value if is_dict(value) else {}


def as_list(value: object) -> list[Any]:
    """``value`` when it is an array, else an empty one."""
    return value if is_list(value) else []


def as_text(value: object) -> str:
    """``value`` when it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def as_count(value: object) -> int:
    """``value`` when it is a whole number above 0, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def wrong_field(value: Mapping[str, object], wanted: Mapping[str, type | tuple[type, ...]]) -> str | None:
    """The first of the ``wanted`` fields that ``value`` lacks or holds as something else; None when all are right.

    A text that is wanted says something, unless None is among the types.
    """
    for name, kind in wanted.items():
        found = value.get(name)
        if not isinstance(found, kind) or (kind is str and not found):
            return name
    return None
