"""What every embedding service on HTTP has in common, whatever its wire.

Batches, asked at once and told in order, and a reply that is checked before anybody stores it, because a wrong
vector is noticed by nobody later.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, Unpack

import msgspec

from ..errors import AuthenticationError
from ..safety.declared import count
from .embedding_base import EmbeddingProvider
from .encoding import encode
from .limits import Allowance
from .service import HTTPService, ServiceOptions

BATCH_TEXTS = 64
# OpenAI takes 300,000 tokens a request; in the densest scripts a character is between one and two.
BATCH_CHARS = 100_000
AT_ONCE = 4


class Vectors(NamedTuple):
    """What a reply holds: the vectors in the order of the texts, and the tokens that were read (0: not said)."""

    vectors: list[list[float]]
    tokens: int = 0


class HTTPEmbeddings(HTTPService, EmbeddingProvider):
    """An embedding service on HTTP. ``tokens_used`` counts what it says to have read so far; None once it did
    not say, for that is not zero.

    At most 64 texts and 100,000 characters go into one request, and 4 requests are under way at once unless
    ``allowance`` says otherwise. ``timeout`` is seconds for one request. Raises ConfigError for a ``dim`` below 1.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        dim: int,
        timeout: float | None,
        api_key: str | None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        count("dim, the length of the vectors,", dim)
        allowance = service.get("allowance") or Allowance(max_concurrent=AT_ONCE)
        service["allowance"] = allowance
        super().__init__(base_url, api_key, timeout, **service)
        self.model = model
        self.dim = dim
        self.tokens_used: int | None = 0
        self._at_once = allowance.max_concurrent
        self._key_wanted = ""

    @abstractmethod
    def _request(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """The address to post to, and the body."""

    @abstractmethod
    def _reply(self, content: bytes) -> Vectors:
        """Decode a reply. Raises what msgspec raises, ``NoEmbeddings`` or the error that the service reports."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in their order; none for none.

        Raises TypeError or ValueError for what is no text or blank, AuthenticationError without a key,
        MalformedReplyError when the reply is not one vector of ``dim`` numbers for each text, and ProviderError
        or ContextOverflowError like every provider. When one request fails, the others are given up.
        """
        check_texts(texts)
        if texts and self._key_wanted:
            raise AuthenticationError(
                f"there is no API key for {self.model}: set {self._key_wanted}, or pass api_key=..."
            )
        batches = list(in_batches(texts))
        found: list[list[list[float]]] = [[] for _ in batches]
        left = iter(enumerate(batches))

        async def work() -> None:
            for place, batch in left:
                found[place] = await self._ask(batch)

        await _together([work] * min(len(batches), self._at_once or len(batches)))
        return [vector for vectors in found for vector in vectors]

    async def _ask(self, texts: Sequence[str]) -> list[list[float]]:
        url, body = self._request(texts)
        reply = await self.exchange(url, encode(body), lambda content: self._read(content, len(texts)))
        if self.tokens_used is not None:  # a text is never nothing
            self.tokens_used = self.tokens_used + reply.tokens if reply.tokens else None
        return reply.vectors

    def _read(self, content: bytes, count: int) -> Vectors:
        # That each vector holds finite numbers is the decoder's doing: NaN is not JSON, 1e999 no float.
        try:
            reply = self._reply(content)
        except (msgspec.ValidationError, NoEmbeddings) as error:
            raise self._failures.malformed(f"sent no embeddings: {error}") from None
        except (ValueError, RecursionError):
            raise self._failures.malformed("sent no JSON", content) from None
        if len(reply.vectors) != count:
            raise self._failures.malformed(f"sent {len(reply.vectors)} embeddings for {count} texts")
        for vector in reply.vectors:
            if len(vector) != self.dim:
                raise self._failures.malformed(
                    f"sent vectors of {len(vector)} numbers for {self.model}, declared with dim={self.dim}"
                )
        return reply

    def _refused(self, error: Any) -> None:
        """Raise the error that the service reports in a reply that began as a success."""
        if error is not None:
            raise self._failures.from_error(error)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r}, dim={self.dim})"


class NoEmbeddings(Exception):
    """A reply that decodes and holds no embeddings; its text says why."""


# --- what goes in -------------------------------------------------------------------------------------


def check_texts(texts: Sequence[str]) -> None:
    """Raises TypeError for what is no text, ValueError for a blank one, which services refuse or embed as noise."""
    given: Any = texts  # from callers without a type checker
    if isinstance(given, str | bytes):
        raise TypeError("embed takes a list of texts; put the one text into a list")
    for place, text in enumerate(given):
        if not isinstance(text, str):
            raise TypeError(f"text {place} is of type {type(text).__name__}, not str")
        if not text.strip():
            raise ValueError(f"text {place} is blank; there is nothing to embed, so leave it out")


def in_batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """``texts`` in order, at most ``BATCH_TEXTS`` and ``BATCH_CHARS`` together; a longer text is alone."""
    batch: list[str] = []
    chars = 0
    for text in texts:
        if batch and (len(batch) == BATCH_TEXTS or chars + len(text) > BATCH_CHARS):
            yield batch
            batch, chars = [], 0
        batch.append(text)
        chars += len(text)
    if batch:
        yield batch


async def _together(work: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do all of ``work`` at once. The first error ends the others, which are over before it goes up."""
    tasks = [asyncio.ensure_future(one()) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
