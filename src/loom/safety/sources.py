"""Sources that are told more than once, as in one reply or one run. What a reply tells is ``llm/sources.py``."""

from __future__ import annotations

from collections.abc import Iterable

from ..types import Source


def each_once(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Sources in the order they were first told, each once, with the title and text that any telling of it had."""
    found: dict[tuple[str, str], Source] = {}
    for source in sources:
        key = (source.url, "" if source.url else source.title)
        known = found.get(key)
        found[key] = source if known is None else known.filled(source)
    return tuple(found.values())
