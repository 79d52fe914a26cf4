"""Checks of what a user declares: a value that cannot mean anything is a ConfigError where it is written.

Each function returns the value, so that it can be checked and kept in one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any, TypeVar, cast

from ..errors import ConfigError
from ..types import safe_repr

T = TypeVar("T")


def instance(what: str, value: Any, kind: type[T], hint: str = "") -> T:
    """``value``, which must be an instance of ``kind``. ``hint`` says what to write instead."""
    if isinstance(value, kind):
        return value
    given = (
        f"the class {value.__name__}"
        if isinstance(value, type)
        else f"{type(value).__name__} {safe_repr(value):.80}"
    )
    instead = f"; {hint}" if hint else ""
    raise ConfigError(f"{what} must be of type {kind.__name__}, not {given}{instead}")


def several(what: str, value: Any, kind: type[T], hint: str = "") -> tuple[T, ...]:
    """A sequence of ``kind`` as a tuple. Text is refused: it would be taken for its letters."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        instead = f"; {hint}" if hint else ""
        shown = safe_repr(cast("object", value))
        raise ConfigError(f"{what} must be a sequence of {kind.__name__}, not {shown:.80}{instead}")
    return tuple(instance(f"each of {what}", one, kind, hint) for one in value)  # pyright: ignore[reportUnknownVariableType]


def texts(what: str, value: Any) -> tuple[str, ...]:
    """A sequence of non-empty texts as a tuple."""
    found = several(what, value, str, 'write ["..."], also for a single one')
    if any(not one.strip() for one in found):
        raise ConfigError(f"{what} must not hold empty text")
    return found


def text(what: str, value: Any) -> str:
    """Text that says something."""
    if not instance(what, value, str).strip():
        raise ConfigError(f"{what} must not be empty")
    return cast("str", value)


def flag(what: str, value: Any) -> bool:
    """True or False and nothing that merely counts as one."""
    return instance(what, value, bool, "write True or False")


def word(what: str, value: Any, known: Iterable[str]) -> str:
    """One of the ``known`` words."""
    words = tuple(known)
    if isinstance(value, str) and value in words:
        return str(value)
    raise ConfigError(f"{what} must be one of {', '.join(words)}, not {safe_repr(value):.80}")


def seconds(what: str, value: Any, *, endless: bool = False) -> float:
    """A positive number of seconds; with ``endless`` it may be infinite."""
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value > 0
        and (endless or value < inf)
    ):
        return float(value)
    raise ConfigError(f"{what} must be a positive number of seconds, not {safe_repr(value):.80}")


def count(what: str, value: Any, *, least: int = 1) -> int:
    """A whole number of at least ``least``."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ConfigError(f"{what} must be a whole number of at least {least}, not {safe_repr(value):.80}")


def function(what: str, value: Any) -> Callable[..., Any]:
    """Something that can be called."""
    if callable(value):
        return cast("Callable[..., Any]", value)
    raise ConfigError(f"{what} must be a function, not {type(value).__name__} {safe_repr(value):.80}")


def takes(what: str, value: Callable[..., Any], *arguments: str) -> Callable[..., Any]:
    """A function that can be called with so many arguments by position. One that hides its signature is believed."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return value
    try:
        signature.bind(*arguments)
    except TypeError:
        wanted = ", ".join(arguments)
        raise ConfigError(f"{what} is called with ({wanted}), which {signature} does not take") from None
    return value


def plain(what: str, value: Any) -> Any:
    """Plain JSON data: what a model can send as an argument. Anything else would equal none."""
    if (
        value is None
        or isinstance(value, str | bool | int)
        or (isinstance(value, float) and abs(value) < inf)
    ):
        return value
    if isinstance(value, list):
        return [plain(what, one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: plain(what, one) for key, one in mapping(what, value).items()}  # pyright: ignore[reportUnknownArgumentType]
    raise ConfigError(
        f"{what} must be text, a finite number, True, False, None, or a list or dict of these, "
        f"not {safe_repr(value):.80}; for one of several values write one rule for each"
    )


def mapping(what: str, value: Any) -> Mapping[str, Any]:
    """A mapping with text for keys."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{what} must be a mapping, not {safe_repr(value):.80}; write {{...}}")
    if any(not isinstance(key, str) for key in value):  # pyright: ignore[reportUnknownVariableType]
        raise ConfigError(f"the keys of {what} must be text")
    return value  # pyright: ignore[reportUnknownVariableType]
