"""Which model a name stands for on a day: names of families move on to a living member, dated names never do."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

from ..errors import ConfigError
from .catalog import ModelInfo, find_model, is_dated, living

NOTICE = timedelta(days=30)
"""How long before its end a model is warned of."""


class Meaning(NamedTuple):
    """The name to ask for, and what the user should be told about it; empty when nothing."""

    name: str
    notice: str = ""


def meaning(provider: str, name: str, today: date) -> Meaning:
    """What ``name`` stands for at the service of ``provider`` on ``today``.

    Raises ConfigError for a retired model whose name is never replaced, and for one without a living successor.
    """
    info = find_model(provider, name)
    if info is None or info.retires is None:
        return Meaning(name)
    if not info.ended(today):
        soon = info.retires - today <= NOTICE
        return Meaning(
            name, f"{_named(info, name)} will be retired on {info.retires}{_instead(info)}" if soon else ""
        )
    said = f"{_named(info, name)} was retired on {info.retires}"
    if info.provider == "openrouter":  # which host it asks, and what that still has, is its own business
        return Meaning(name, f"{said} by those who made it{_instead(info)}")
    heir = living(info, today)
    if heir is None or info.pinned or is_dated(name):
        raise ConfigError(f"{said}{_instead(info, heir)} (source: {info.source}, read on {info.checked})")
    return Meaning(heir.name, f"{said}; {heir.name} is asked for in its place. Name the model you mean")


def stand_in(provider: str, name: str, today: date) -> str:
    """``name``, or the living model that its vendor names in its place, however the name looks."""
    info = find_model(provider, name)
    heir = living(info, today) if info is not None else None
    return name if info is None or heir is None or heir is info else heir.name


def _named(info: ModelInfo, name: str) -> str:
    return f"the model {info.provider}:{name}"


def _instead(info: ModelInfo, heir: ModelInfo | None = None) -> str:
    if info.successor is None:
        return "; its vendor names no successor"
    further = f", by now {heir.name}" if heir is not None and heir.name != info.successor else ""
    return f"; its successor is {info.successor}{further}"
