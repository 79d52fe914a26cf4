"""What is known about models before they are asked: how much they read and write, what they understand, their end.

The rows are ``catalog_data``, loaded when the first model is looked up; when models end is in ``catalog_endings``.
Prices are not here (``pricing``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cache
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

StructuredMode = Literal["native", "tool", "json", "prompt"]
"""How a model is held to a JSON Schema: by its service, by the arguments of a tool, by JSON mode, by words."""

# What services add to the name of a model without making it another one: a date, "the newest", a revision.
_VERSION = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|00\d|latest)$")
# The same, and the short dates (``-0709``, ``-2512``), but not "the newest".
_DATED = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|00\d|\d{4})$")

# Another wire to the same models.
_SAME = {"openai-responses": "openai"}

# OpenRouter's names of the makers whose own services have rows.
_MAKERS = {
    "anthropic": "anthropic",
    "openai": "openai",
    "google": "gemini",
    "deepseek": "deepseek",
    "qwen": "qwen",
    "minimax": "minimax",
    "mistralai": "mistral",
    "x-ai": "xai",
    "z-ai": "zai",
}


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What a vendor's documentation says about a model; None means that nobody has told us.

    ``name`` also stands for its dated versions. ``context_window`` counts tokens of input and output together,
    ``max_output`` those of one reply. ``vision``, ``audio`` and ``pdf`` are kinds of input.

    ``retires`` is the first day on which the service no longer answers to the name, ``successor`` the model its
    vendor names instead. ``source`` says where the row was read, and ``checked`` when. ``pinned`` says that the
    name is one model's although there is no date in it.
    """

    provider: str
    name: str
    context_window: int | None = None
    max_output: int | None = None
    vision: bool | None = None
    audio: bool | None = None
    pdf: bool | None = None
    tools: bool | None = None
    thinking: bool | None = None
    streaming: bool | None = None
    structured: StructuredMode | None = None
    retires: date | None = None
    successor: str | None = None
    source: str = ""
    checked: date | None = None
    pinned: bool = False

    def ended(self, today: date) -> bool:
        """Whether the service no longer answers to the name on ``today``; an unknown end is none."""
        return self.retires is not None and self.retires <= today


def find_model(provider: str, name: str) -> ModelInfo | None:
    """What is known about ``name`` at ``provider``; None for a model that is not in the catalogue.

    A dated name (``-20250514``, ``-2024-08-06``, ``-001``, ``-latest``) that has no row of its own means the
    model without the date. A name that only begins like a known one is another model. ``models/`` before the
    name of a Gemini model is part of no name, and a name at OpenRouter (``vendor/model``, with or without a
    variant such as ``:free``) has what is known of that model at its vendor.
    """
    provider = _SAME.get(provider, provider)
    if provider == "openrouter":
        return _resold(name)
    return _row(provider, name.removeprefix("models/") if provider == "gemini" else name)


def known_models(provider: str) -> tuple[ModelInfo, ...]:
    """The rows of ``provider``, in the order of the catalogue: the newest of a family first."""
    rows = _rows().get(_SAME.get(provider, provider), {})
    if provider == "openrouter":
        return tuple(info for name in rows if (info := _resold(name)) is not None)
    return tuple(rows.values())


def is_dated(name: str) -> bool:
    """Whether ``name`` holds a date or a revision, and so is one model for ever."""
    return _DATED.search(name) is not None


def living(info: ModelInfo, today: date) -> ModelInfo | None:
    """``info``, or the first of its successors that has not ended on ``today``; None when there is none."""
    found: ModelInfo | None = info
    while found is not None and found.ended(today):  # a successor outlives whom it follows, so this ends
        found = find_model(info.provider, found.successor) if found.successor is not None else None
    return found


def _row(provider: str, name: str) -> ModelInfo | None:
    rows = _rows().get(provider, {})
    wanted = name.lower()
    return rows.get(wanted) or rows.get(_VERSION.sub("", wanted))


def _resold(name: str) -> ModelInfo | None:
    """What is known of a model at OpenRouter: its own row, and of its maker's what holds wherever it is asked."""
    name = name.removeprefix("~").partition(":")[0]
    own = _row("openrouter", name)
    maker, _, model = name.partition("/")
    provider = _MAKERS.get(maker, "")
    # Claude's versions have dots there, and dashes at their maker's.
    made = _row(provider, model.replace(".", "-") if maker == "anthropic" else model)
    if made is None:
        return own
    successor = made.successor
    if successor is not None:
        successor = re.sub(r"(?<=\d)-(?=\d)", ".", successor) if maker == "anthropic" else successor
        successor = f"{maker}/{successor}"
    if own is None:  # which host answers is theirs to choose, and so is how it takes a schema
        own = replace(made, provider="openrouter", name=name, structured=None)
    return replace(
        own, retires=made.retires, successor=successor, source=own.source or made.source, checked=made.checked
    )


@cache
def _rows() -> Mapping[str, Mapping[str, ModelInfo]]:
    from .catalog_data import MODELS
    from .catalog_endings import with_endings

    return _indexed(with_endings(MODELS))


def _indexed(models: Iterable[ModelInfo]) -> Mapping[str, Mapping[str, ModelInfo]]:
    rows: dict[str, dict[str, ModelInfo]] = {}
    for info in models:
        rows.setdefault(info.provider, {})[info.name.lower()] = info
    return rows
