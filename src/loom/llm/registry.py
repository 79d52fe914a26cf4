"""Which provider answers for which model id. A table, nothing else: no routing, no fallback."""

from __future__ import annotations

from .base import LLMProvider, SupportsChat, as_provider


class ProviderRegistry:
    """Model ids of the application, each with its provider and the service's own name for it."""

    def __init__(self) -> None:
        self._models: dict[str, tuple[LLMProvider, str]] = {}
        self._default: str | None = None

    def register(self, model_id: str, provider: SupportsChat, upstream_model: str) -> None:
        """Add or replace ``model_id``. The first id registered becomes the default."""
        self._models[model_id] = (as_provider(provider), upstream_model)
        if self._default is None:
            self._default = model_id

    def resolve(self, model_id: str) -> tuple[LLMProvider, str]:
        """The provider and upstream model of ``model_id``. Raises KeyError when it was never registered."""
        try:
            return self._models[model_id]
        except KeyError:
            raise KeyError(self._unknown(model_id)) from None

    def list_models(self) -> list[str]:
        """The registered ids, in order of registration."""
        return list(self._models)

    @property
    def default_model(self) -> str | None:
        """The id used when none is named; None when empty. Setting an unknown id raises KeyError."""
        return self._default

    @default_model.setter
    def default_model(self, model_id: str) -> None:
        if model_id not in self._models:
            raise KeyError(self._unknown(model_id))
        self._default = model_id

    def _unknown(self, model_id: str) -> str:
        return f"no model {model_id!r} is registered; registered: {', '.join(self._models) or 'none'}"
