"""Port: a service that turns text into vectors, so that texts of like meaning can be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class EmbeddingProvider(Protocol):
    """A model that embeds text. Subclassing is optional: anything with these names will do.

    ``dim`` is the length of its vectors; vectors of different models, or lengths, cannot be compared.
    """

    dim: int
    model: str

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in their order; none for none.

        Raises ValueError for a blank text, ProviderError or ContextOverflowError when the service fails.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections. Safe to call twice."""
        ...
