"""Declarations of several models as one: ``FallbackModel`` and ``RoutedModel``. Pure values, as in ``model``.

Wherever an agent takes a model it takes these, and these take each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import ConfigError, ProviderError
from ..policies.routing import ModelStrengths
from ..types import ChatMessage
from .model import Model

if TYPE_CHECKING:
    from ..llm.base import SupportsChat

__all__ = ["AnyModel", "FallbackModel", "RoutedModel"]

AnyModel: TypeAlias = "Model | FallbackModel | RoutedModel | SupportsChat | str"
"""What an agent takes as its model."""


@dataclass(frozen=True, slots=True, repr=False)
class FallbackModel:
    """Models of which the first that answers will do, asked in this order for every reply.

    ``models`` are a ``Model``, ``"provider:name"``, a provider object or another declaration like this one. An
    error of a class in ``on`` sends the request on to the next model. The default is any ProviderError: a
    service that is down, limits, refuses the key or payment, or answers nonsense. An InvalidRequestError counts
    only when named itself, for the next service mostly refuses the same request too; a ContextOverflowError only
    when named too, for a shorter conversation is its usual cure. A model whose key is missing has failed with
    AuthenticationError.

    Each model first makes its own retries: give those with a successor ``max_retries=0`` to fall back at once.
    A stream falls back only while nothing of it has been shown. Events tell who answered and who failed before:
    ``ModelReplied.model`` and ``attempts``. With ``max_cost`` every model needs a price. Raises ConfigError for
    values that cannot work.

    >>> model = FallbackModel([Model.openai("gpt-5.6-terra", max_retries=0), "anthropic:claude-sonnet-5-5"])
    >>> model.identifier
    'fallback(openai:gpt-5.6-terra, anthropic:claude-sonnet-5-5)'
    """

    models: Sequence[AnyModel]
    on: Sequence[type[Exception]] = (ProviderError,)

    def __post_init__(self) -> None:
        models, kinds = _listed(self.models), _listed(self.on)
        if not models:
            raise ConfigError("FallbackModel needs a list of models: FallbackModel([Model.openai(...), ...])")
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise ConfigError(f"FallbackModel on must be a tuple of classes of errors, not {self.on!r}")
        object.__setattr__(self, "models", tuple(_checked("FallbackModel", model) for model in models))
        object.__setattr__(self, "on", tuple(kinds))

    @property
    def identifier(self) -> str:
        """The models by name, in order."""
        return f"fallback({', '.join(map(_identifier, self.models))})"

    def __repr__(self) -> str:
        return f"<FallbackModel {', '.join(map(_identifier, self.models))}>"


@dataclass(frozen=True, slots=True, repr=False)
class RoutedModel:
    """Models by name, of which one is chosen for every reply.

    ``choose(messages)`` returns a name, or None for ``default``; it may be async. Without it the last user
    message decides (``loom.routing``): what it asks for, and which model is strongest there by ``strengths``;
    then ``default`` wins among equals, else the first.

    It is chosen anew for every model call. A run stays with its model as long as the choice looks at nothing that
    changes within a run, and the last user message mostly does not: only the critique of an answer that does
    not fit ``output_type`` is one as well. Raises ConfigError for values that cannot work, and a run fails with
    it when ``choose`` raises or returns a name that is not there.

    >>> from loom.routing import ModelStrengths
    >>> model = RoutedModel(
    ...     models={"quick": Model.groq("openai/gpt-oss-20b"), "deep": "anthropic:claude-opus-4-8"},
    ...     strengths={"quick": ModelStrengths(speed=9, cost=1), "deep": ModelStrengths(reasoning=9, coding=9)},
    ...     default="quick",
    ... )
    >>> model.identifier
    'routed(quick: groq:openai/gpt-oss-20b, deep: anthropic:claude-opus-4-8)'
    """

    choose: Callable[[list[ChatMessage]], str | Awaitable[str | None] | None] | None = None
    models: Mapping[str, AnyModel] = field(default_factory=dict[str, "AnyModel"])
    default: str | None = None
    strengths: Mapping[str, ModelStrengths] = field(default_factory=dict[str, ModelStrengths])

    def __post_init__(self) -> None:
        if self.choose is not None and not callable(self.choose):
            raise ConfigError(f"RoutedModel choose must be a function of messages, not {self.choose!r}")
        models, strengths = _named(self.models, "models"), _named(self.strengths, "strengths")
        if not models:
            raise ConfigError(
                "RoutedModel needs models by name: RoutedModel(models={'quick': Model.openai(...)})"
            )
        known = ", ".join(models)
        if self.default is not None and self.default not in models:
            raise ConfigError(f"RoutedModel default is {self.default!r}; the models are {known}")
        for name, strength in strengths.items():
            if name not in models:
                raise ConfigError(f"RoutedModel strengths name {name!r}; the models are {known}")
            if not isinstance(strength, ModelStrengths):
                raise ConfigError(
                    f"RoutedModel strengths of {name!r} must be ModelStrengths, not {strength!r}"
                )
        if self.choose is not None and strengths:
            raise ConfigError("RoutedModel takes choose or strengths: without choose, strengths decide")
        checked = {name: _checked("RoutedModel", model) for name, model in models.items()}
        object.__setattr__(self, "models", checked)
        object.__setattr__(self, "strengths", strengths)

    @property
    def identifier(self) -> str:
        """The models by name."""
        named = (f"{name}: {_identifier(model)}" for name, model in self.models.items())
        return f"routed({', '.join(named)})"

    def __repr__(self) -> str:
        return f"<RoutedModel {self.identifier.removeprefix('routed(').removesuffix(')')}>"


def _listed(given: Any) -> list[Any]:
    """The items of a list; nothing for what is none, such as text or a mapping."""
    if isinstance(given, str | bytes | Mapping):
        return []
    try:
        return list(given)
    except TypeError:
        return []


def _named(given: Any, what: str) -> dict[str, Any]:
    try:
        named: dict[Any, Any] = dict(given)
    except (TypeError, ValueError):
        raise ConfigError(f"RoutedModel {what} must be a mapping by name, not {given!r}") from None
    if not all(isinstance(name, str) and name for name in named):
        raise ConfigError(f"RoutedModel {what} must have names that are text")
    return named


def _checked(owner: str, model: Any) -> AnyModel:
    if isinstance(model, str):
        return Model.parse(model)
    if isinstance(model, Model | FallbackModel | RoutedModel):
        return model
    if callable(getattr(model, "chat", None)) and not isinstance(model, type):
        from ..llm.base import as_provider  # most declarations name no live provider

        as_provider(model)
        provider: SupportsChat = model
        return provider
    raise ConfigError(
        f"{owner} cannot ask {model!r}: give Model.anthropic(...), 'provider:name' or a provider object"
    )


def _identifier(model: AnyModel) -> str:
    if isinstance(model, Model | FallbackModel | RoutedModel):
        return model.identifier
    return type(model).__name__
