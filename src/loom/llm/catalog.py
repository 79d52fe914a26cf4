"""What is known about models before they are asked: how much they read and write, and what they understand.

The rows are ``catalog_data``, loaded when the first model is looked up. Prices are not here (``pricing``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

from msgspec import Struct

StructuredMode = Literal["native", "tool", "json", "prompt"]
"""How a model is held to a JSON Schema: by its service, by the arguments of a tool, by JSON mode, by words."""

# What services add to the name of a model without making it another one: a date, "the newest", a revision.
_VERSION = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|00\d|latest)$")

# Another wire to the same models.
_SAME = {"openai-responses": "openai"}


class ModelInfo(Struct, frozen=True, kw_only=True):
    """What a vendor's documentation says about a model; None means that nobody has told us.

    ``name`` also stands for its dated versions. ``context_window`` counts tokens of input and output together,
    ``max_output`` those of one reply. ``vision``, ``audio`` and ``pdf`` are kinds of input.
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


def find_model(provider: str, name: str) -> ModelInfo | None:
    """What is known about ``name`` at ``provider``; None for a model that is not in the catalogue.

    A dated name (``-20250514``, ``-2024-08-06``, ``-001``, ``-latest``) that has no row of its own means the
    model without the date. A name that only begins like a known one is another model.
    """
    rows = _rows().get(_SAME.get(provider, provider), {})
    wanted = name.lower()
    return rows.get(wanted) or rows.get(_VERSION.sub("", wanted))


def known_models(provider: str) -> tuple[ModelInfo, ...]:
    """The rows of ``provider``, in the order of the catalogue: the newest of a family first."""
    return tuple(_rows().get(_SAME.get(provider, provider), {}).values())


@cache
def _rows() -> Mapping[str, Mapping[str, ModelInfo]]:
    from .catalog_data import MODELS

    rows: dict[str, dict[str, ModelInfo]] = {}
    for info in MODELS:
        rows.setdefault(info.provider, {})[info.name.lower()] = info
    return rows
