"""Reading the arguments of the built-in handlers: one checked value at a time.

The governed path validates against the schema before; this also holds when application code calls a handler
directly, and gives each value its type.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ...errors import ToolArgumentsError


def only(args: dict[str, Any], names: Collection[str]) -> None:
    """Raise ToolArgumentsError when ``args`` holds a name that is not in ``names``."""
    unknown = sorted(str(name)[:80] for name in args if name not in names)
    if unknown:
        raise ToolArgumentsError(f"unknown argument(s) {', '.join(unknown[:8])}; valid: {', '.join(names)}.")


def text(args: dict[str, Any], name: str, default: str | None = None) -> str:
    """The text ``name``. Raises ToolArgumentsError when it is missing without default, or no text."""
    value = args.get(name, default)
    if not isinstance(value, str):
        raise ToolArgumentsError(f"`{name}` must be text.")
    return value


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The whole number ``name``, from ``low`` to ``high``. Raises ToolArgumentsError for anything else."""
    value = args.get(name, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ToolArgumentsError(f"`{name}` must be a whole number from {low} to {high}.")
    return value


def flag(args: dict[str, Any], name: str) -> bool:
    """The switch ``name``, off when absent. Raises ToolArgumentsError when it is neither true nor false."""
    value = args.get(name, False)
    if not isinstance(value, bool):
        raise ToolArgumentsError(f"`{name}` must be true or false.")
    return value
