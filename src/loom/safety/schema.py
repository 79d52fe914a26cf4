"""Whether arguments fit a tool's JSON Schema."""

from __future__ import annotations

from typing import Any

from ..errors import ToolArgumentsError
from ..types import ToolSpec


def check_arguments(spec: ToolSpec, arguments: dict[str, Any]) -> None:
    """Raise ToolArgumentsError naming what is missing or unknown."""
    properties: dict[str, Any] = spec.parameters.get("properties", {})
    missing = [name for name in spec.parameters.get("required", ()) if name not in arguments]
    unknown = [name for name in arguments if properties and name not in properties]
    if missing or unknown:
        raise ToolArgumentsError(
            f"{spec.name}: missing {missing}, unknown {unknown}; valid: {list(properties)}"
        )
