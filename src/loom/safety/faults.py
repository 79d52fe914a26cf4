"""The words in which wrong arguments are reported, so that a model can correct them.

Every text made here is bounded, whatever was sent: arguments are the model's, and the report goes back to it.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from .json_kinds import is_object

__all__ = ["ABSENT", "Fault", "describe_value", "join_path", "report"]

ABSENT: Final = object()
"""Stands for a value that was not sent."""

_MAX_FAULTS = 8
_MAX_NAMES = 40
_MAX_TEXT = 80
_MAX_PATH = 120
_MAX_PROBLEM = 300


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong place: where, what should be there, and what came (ABSENT: nothing to show)."""

    path: str
    problem: str
    value: object = ABSENT


def shorten(text: str, limit: int = _MAX_TEXT) -> str:
    """``text`` with its end replaced by an ellipsis when it is longer than ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quote(text: str, limit: int = _MAX_TEXT) -> str:
    """``text`` as a JSON string of bounded length, with control characters visible."""
    quoted = json.dumps(shorten(text, limit), ensure_ascii=False)
    return quoted.encode("utf-8", "replace").decode()


def describe_value(value: object) -> str:
    """What came, in a few words: the value when it is short, else its kind and size."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "the boolean true" if value else "the boolean false"
    if isinstance(value, int):
        return f"the integer {value}" if value.bit_length() <= 128 else "a huge integer"
    if isinstance(value, float):
        return f"the number {value!r}" if math.isfinite(value) else f"{value!r}, which is not a finite number"
    if isinstance(value, str):
        size = f" ({len(value)} characters)" if len(value) > _MAX_TEXT else ""
        return f"the string {quote(value)}{size}"
    if isinstance(value, list | tuple):
        return f"an array of {len(cast('Sequence[Any]', value))} item(s)"
    if is_object(value):
        return _describe_object(value)
    return f"a {type(value).__name__}"


def _describe_object(value: dict[Any, Any]) -> str:
    keys = [quote(str(key), 30) for key, _ in zip(value, range(5), strict=False)]
    more = ", …" if len(value) > len(keys) else ""
    return f"an object with the keys {', '.join(keys)}{more}" if keys else "an empty object"


def join_path(parts: Iterable[str | int]) -> str:
    """``("a", 0, "b")`` as ``a[0].b``; a key that is no plain word is quoted."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            word = part if part.isidentifier() and len(part) <= _MAX_TEXT else quote(part, 60)
            path += f".{word}" if path else word
    return shorten(path, _MAX_PATH)


def report(opening: str, faults: Sequence[Fault], *, names: Sequence[str], required: Sequence[str]) -> str:
    """The whole text: the opening, each fault in a line, and the names that are valid."""
    lines = [opening]
    for fault in faults[:_MAX_FAULTS]:
        came = "" if fault.value is ABSENT else f"; got {describe_value(fault.value)}"
        problem = shorten(fault.problem, _MAX_PROBLEM)
        lines.append(f"- {fault.path or '(the whole)'}: {problem}{came}{_hint(fault)}")
    if len(faults) > _MAX_FAULTS:
        lines.append(f"- and {len(faults) - _MAX_FAULTS} more")
    lines.append(_valid_names(names, required))
    return "\n".join(line for line in lines if line)


def unknown_name(name: str, names: Sequence[str], *, kind: str = "argument") -> str:
    """The problem text for a name that is not in the schema, with the nearest valid one."""
    near = difflib.get_close_matches(name[:64], names[:200], n=1)
    return f"there is no such {kind}" + (f"; did you mean {near[0]}?" if near else "")


def _hint(fault: Fault) -> str:
    value = fault.value
    wants_container = any(
        word in fault.problem for word in ("list", "array", "dictionary", "object", "instance")
    )
    if wants_container and isinstance(value, str) and value[:20].lstrip()[:1] in ("[", "{"):
        return " (send the value itself, not its JSON text in a string)"
    return ""


def _valid_names(names: Sequence[str], required: Sequence[str]) -> str:
    if not names:
        return ""
    must = set(required)
    shown = [f"{shorten(name)} (required)" if name in must else shorten(name) for name in names[:_MAX_NAMES]]
    more = f", and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"Valid names: {', '.join(shown)}{more}"
