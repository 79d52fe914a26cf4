"""The services' own clients as judges: asked for the same, they send the same and read the same vectors."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from embedding_server import DIM, embedding_service, vector
from wires import KEY

from loom.llm.embeddings import GeminiEmbeddingProvider, OpenAIEmbeddingProvider

TEXTS = ["one", "two 日本", "three"]

# What these clients import and warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


async def test_openais_client_sends_and_reads_the_same() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import openai
    async with (
        embedding_service() as service,
        openai.AsyncOpenAI(api_key=KEY, base_url=service.url + "/v1") as judge,
        OpenAIEmbeddingProvider(base_url=service.url + "/v1", dim=DIM, api_key=KEY) as provider,
    ):
        theirs = await judge.embeddings.create(
            model=provider.model, input=TEXTS, dimensions=DIM, encoding_format="float"
        )
        ours = await provider.embed(TEXTS)
    assert ours == [item.embedding for item in theirs.data] == [vector(text) for text in TEXTS]
    assert provider.tokens_used == theirs.usage.total_tokens
    assert service.asked[0].path == service.asked[1].path
    # It asks for base64 unless told; numbers are what the service sends by itself, so we say nothing.
    assert service.asked[0].body == {**service.asked[1].body, "encoding_format": "float"}
    assert service.asked[0].headers["Authorization"] == service.asked[1].headers["Authorization"]


async def test_googles_client_sends_and_reads_the_same() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from google import genai
        from google.genai import types
    config = types.EmbedContentConfig(output_dimensionality=DIM, task_type="CLUSTERING")
    async with embedding_service() as service:
        options = types.HttpOptions(base_url=service.url, api_version="v1beta")
        judge = genai.Client(api_key=KEY, http_options=options)
        contents: Any = TEXTS
        theirs = await judge.aio.models.embed_content(
            model="gemini-embedding-001", contents=contents, config=config
        )
        await judge.aio.aclose()
        async with GeminiEmbeddingProvider(
            base_url=service.url + "/v1beta", dim=DIM, api_key=KEY, task_type="CLUSTERING"
        ) as provider:
            ours = await provider.embed(TEXTS)
    assert ours == [item.values for item in theirs.embeddings or ()] == [vector(text) for text in TEXTS]
    assert service.asked[0].path == service.asked[1].path
    judged = [
        {**item, "content": {"parts": item["content"]["parts"]}} for item in service.asked[0].body["requests"]
    ]
    assert judged == service.asked[1].body["requests"]
    assert service.asked[0].headers["x-goog-api-key"] == service.asked[1].headers["x-goog-api-key"]
