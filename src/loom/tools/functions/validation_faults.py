"""Reads pydantic's validation errors as faults: real paths in what was sent, one line per place.

Imports pydantic; used only where a validation has failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ...safety.faults import ABSENT, Fault, join_path, unknown_name
from ...safety.json_kinds import is_array, is_object

__all__ = ["read_faults"]

_MAX_READ = 100


def read_faults(error: ValidationError, sent: object, names: Sequence[str]) -> list[Fault]:
    """The faults of an error about ``sent``. ``names`` are the valid names at the top, to suggest from.

    The branches of a union fail at one place each; they are joined into one fault.
    """
    problems: dict[str, list[str]] = {}
    values: dict[str, object] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_READ]:
        kind = detail["type"]
        path, value, found = _locate(detail["loc"], sent, ends_in_key=kind in ("missing", "extra_forbidden"))
        where = join_path(path)
        if kind == "missing":
            problem, value = "is required but missing", ABSENT
        elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
            problem, value = unknown_name(str(path[-1]), names if len(path) == 1 else ()), ABSENT
        else:
            problem = _reworded(detail["msg"])
            value = value if found else ABSENT
        if problem not in problems.setdefault(where, []):
            problems[where].append(problem)
        values.setdefault(where, value)
    return [Fault(where, ", or ".join(texts), values[where]) for where, texts in problems.items()]


def _locate(
    loc: tuple[int | str, ...], sent: object, *, ends_in_key: bool
) -> tuple[list[str | int], object, bool]:
    """Follow a location through what was sent; parts that lead nowhere are pydantic's labels of branches."""
    path: list[str | int] = []
    here: Any = sent
    for index, part in enumerate(loc):
        if ends_in_key and index == len(loc) - 1:
            path.append(part)
        elif _leads_on(here, part):
            here = here[part]
            path.append(part)
    return path, here, bool(path) or not loc


def _leads_on(here: object, part: int | str) -> bool:
    if is_object(here):
        return part in here
    return is_array(here) and isinstance(part, int) and part < len(here)


def _reworded(message: str) -> str:
    for opening in ("Input ", "Value error, ", "Assertion failed, "):
        if message.startswith(opening):
            return message[len(opening) :]
    return message[:1].lower() + message[1:]
