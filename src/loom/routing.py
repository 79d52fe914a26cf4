"""Choosing a model by what a message asks for, over a registry of models.

How messages are judged is ``loom.policies.routing``; here it meets the registry. ``loom.RoutedModel`` is the same
choice as a declaration of an agent.

>>> from loom.llm.registry import ProviderRegistry
>>> from loom.testing import ScriptedProvider
>>> registry = ProviderRegistry()
>>> registry.register("small", ScriptedProvider(), "small-1")
>>> registry.register("large", ScriptedProvider(), "large-1")
>>> strengths = {
...     "small": ModelStrengths(speed=9, cost=1, reasoning=4, coding=4),
...     "large": ModelStrengths(speed=3, cost=9, reasoning=9, coding=9),
... }
>>> choose_model("Why does parse_date() raise a TypeError?", registry, strengths)
'large'
>>> choose_model("Good morning!", registry, strengths)
'small'
"""

from __future__ import annotations

from collections.abc import Mapping

from .llm.registry import ProviderRegistry
from .policies.routing import MessageCategory, ModelStrengths, best_model, classify_message

__all__ = ["MessageCategory", "ModelStrengths", "choose_model", "classify_message"]


def choose_model(
    message: str,
    registry: ProviderRegistry,
    strengths: Mapping[str, ModelStrengths] | None = None,
    default_model: str | None = None,
) -> str | None:
    """The registered id that suits ``message`` best: a value for ``AgentConfig.choose_model`` or ``model_id``.

    ``strengths`` are by id; an id without them has 5 in everything. Among equals ``default_model`` wins, then
    the registry's default, then the first registered. An empty registry gives ``default_model``.
    """
    names = registry.list_models()
    preferred = default_model if default_model in names or not names else registry.default_model
    return best_model(message, names, strengths, preferred)
