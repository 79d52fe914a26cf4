"""Embeddings over HTTP: OpenAI and those who speak as it does, Ollama, Gemini. Their wires, nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

import msgspec
from msgspec import Struct

from .embedding_service import HTTPEmbeddings, NoEmbeddings, Vectors
from .service import ServiceOptions
from .untyped import as_count, as_dict

_OPENAI_URL = "https://api.openai.com/v1"
_GEMINI_URL = "https://generativelanguage.googleapis.com/v1beta"


class OpenAIEmbeddingProvider(HTTPEmbeddings):
    """OpenAI, and every service and local server that has its ``/embeddings``.

    The key is ``api_key`` or what the variable ``key_env`` holds; another address than OpenAI's may want none.
    ``dim`` is asked for where the model can shorten its vectors (text-embedding-3).
    """

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        base_url: str = _OPENAI_URL,
        key_env: str = "OPENAI_API_KEY",
        dim: int = 1536,
        timeout: float | None = 60.0,
        *,
        api_key: str | None = None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(model, base_url, dim, timeout, api_key or _from_environment(key_env), **service)
        named = key_env != "OPENAI_API_KEY"
        if self.api_key is None and key_env and (named or self.base_url == _OPENAI_URL):
            self._key_wanted = key_env
        self._url = self.endpoint("/embeddings")

    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def _request(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": self.model, "input": texts}
        if "text-embedding-3" in self.model:
            body["dimensions"] = self.dim
        return self._url, body

    def _reply(self, content: bytes) -> Vectors:
        body = _decode_openai(content)
        self._refused(body.error)
        items = body.data or []
        places = [item.index for item in items]
        if any(place is not None for place in places):
            if sorted(place if place is not None else -1 for place in places) != list(range(len(items))):
                raise NoEmbeddings("their indexes do not count from 0 to the last")
            items.sort(key=lambda item: item.index or 0)
        tokens = as_count(as_dict(body.usage).get("total_tokens"))
        return Vectors([item.embedding for item in items], tokens)


class OllamaEmbeddingProvider(HTTPEmbeddings):
    """A local Ollama. ``truncate`` True lets it embed the beginning of a text that is too long for the model.

    ``base_url`` may end in ``/v1``, as it does for chatting.
    """

    def __init__(
        self,
        model: str = "nomic-embed-text",
        base_url: str = "http://localhost:11434",
        dim: int = 768,
        timeout: float | None = 60.0,
        *,
        truncate: bool = False,
        api_key: str | None = None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        super().__init__(model, base_url.rstrip("/").removesuffix("/v1"), dim, timeout, api_key, **service)
        self._truncate = truncate
        self._url = self.endpoint("/api/embed")

    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def _request(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        return self._url, {"model": self.model, "input": texts, "truncate": self._truncate}

    def _reply(self, content: bytes) -> Vectors:
        body = _decode_ollama(content)
        self._refused(body.error)
        return Vectors(body.embeddings or [], as_count(body.prompt_eval_count))


class GeminiEmbeddingProvider(HTTPEmbeddings):
    """Google's Gemini API. ``task_type`` says what the vectors are for, such as ``"RETRIEVAL_DOCUMENT"``.

    The key is ``api_key`` or what ``key_env`` holds, else GOOGLE_API_KEY. Vectors of gemini-embedding-001 have
    length 1 at 3072 dimensions only; shorter ones are compared by angle, or scaled first.
    """

    def __init__(
        self,
        model: str = "gemini-embedding-001",
        base_url: str = _GEMINI_URL,
        key_env: str = "GEMINI_API_KEY",
        dim: int = 3072,
        timeout: float | None = 60.0,
        *,
        task_type: str | None = None,
        api_key: str | None = None,
        **service: Unpack[ServiceOptions],
    ) -> None:
        key = api_key or _from_environment(key_env) or _from_environment("GOOGLE_API_KEY")
        super().__init__(model.removeprefix("models/"), base_url, dim, timeout, key, **service)
        if self.api_key is None and self.base_url == _GEMINI_URL:
            self._key_wanted = f"{key_env} or GOOGLE_API_KEY"
        self._task_type = task_type
        self._url = self.endpoint(f"/models/{self.model}:batchEmbedContents")

    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        return {"x-goog-api-key": api_key} if api_key else {}

    def _request(self, texts: Sequence[str]) -> tuple[str, dict[str, Any]]:
        about: dict[str, Any] = {"model": f"models/{self.model}"}
        if self._task_type is not None:
            about["taskType"] = self._task_type
        if self.model != "embedding-001":  # the one that cannot shorten its vectors
            about["outputDimensionality"] = self.dim
        return self._url, {"requests": [{**about, "content": {"parts": [{"text": text}]}} for text in texts]}

    def _reply(self, content: bytes) -> Vectors:
        body = _decode_gemini(content)
        self._refused(body.error)
        tokens = as_count(as_dict(body.usageMetadata).get("promptTokenCount"))
        return Vectors([item.values for item in body.embeddings or ()], tokens)


def _from_environment(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None if name else None


# --- what comes back ----------------------------------------------------------------------------------


class _OpenAIItem(Struct, gc=False):
    embedding: list[float]
    index: int | None = None


class _OpenAIBody(Struct):
    data: list[_OpenAIItem] | None = None
    usage: Any = None
    error: Any = None


class _OllamaBody(Struct):
    embeddings: list[list[float]] | None = None
    prompt_eval_count: Any = None
    error: Any = None


class _GeminiItem(Struct, gc=False):
    values: list[float] = []


class _GeminiBody(Struct):
    embeddings: list[_GeminiItem] | None = None
    usageMetadata: Any = None  # noqa: N815 - the wire's word
    error: Any = None


_decode_openai = msgspec.json.Decoder(_OpenAIBody).decode
_decode_ollama = msgspec.json.Decoder(_OllamaBody).decode
_decode_gemini = msgspec.json.Decoder(_GeminiBody).decode
