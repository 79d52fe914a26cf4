"""Embeddings over a real socket: right, in order and checked, whatever the service does."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from embedding_server import DIM, Asked, Service, embedded, embedding_service, refuse, vector
from wires import KEY, Waits

from loom.errors import (
    AuthenticationError,
    ConfigError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    ProviderUnavailableError,
    RateLimitError,
)
from loom.llm.embedding_base import EmbeddingProvider
from loom.llm.embedding_service import HTTPEmbeddings, in_batches
from loom.llm.embeddings import GeminiEmbeddingProvider, OllamaEmbeddingProvider, OpenAIEmbeddingProvider
from loom.llm.limits import Allowance

Make = Callable[..., HTTPEmbeddings]


def openai(url: str, **options: Any) -> HTTPEmbeddings:
    return OpenAIEmbeddingProvider(
        "m", url + "/v1", **{"dim": DIM, "api_key": KEY, "sleep": Waits(), **options}
    )


def ollama(url: str, **options: Any) -> HTTPEmbeddings:
    return OllamaEmbeddingProvider("m", url, **{"dim": DIM, "api_key": KEY, "sleep": Waits(), **options})


def gemini(url: str, **options: Any) -> HTTPEmbeddings:
    return GeminiEmbeddingProvider(
        "m", url + "/v1beta", **{"dim": DIM, "api_key": KEY, "sleep": Waits(), **options}
    )


WIRES = [openai, ollama, gemini]
every = pytest.mark.parametrize("make", WIRES)


def texts(count: int) -> list[str]:
    return [f"text number {number}" for number in range(count)]


@every
@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
async def test_each_text_gets_its_vector(make: Make, count: int) -> None:
    async with embedding_service() as service, make(service.url) as provider:
        found = await provider.embed(texts(count))
        assert found == [vector(text) for text in texts(count)]
        assert len(service.asked) == math.ceil(count / 64)
        assert provider.tokens_used == 3 * len(service.asked)


@every
async def test_review_h1_tokens_that_are_not_reported_are_unknown(make: Make) -> None:
    bodies = {
        "m": {"object": "list", "data": [{"index": 0, "embedding": vector("a")}]},
        "ollama": {"embeddings": [vector("a")]},
        "gemini": {"embeddings": [{"values": vector("a")}]},
    }

    def silent(service: Service, asked: Asked) -> Any:
        return bodies["gemini" if "v1beta" in asked.path else "ollama" if "/api/" in asked.path else "m"]

    async with embedding_service(None, silent, None) as service, make(service.url) as provider:
        await provider.embed(["a"])
        assert provider.tokens_used == 3
        await provider.embed(["a"])
        assert provider.tokens_used is None
        await provider.embed(["a"])
        assert provider.tokens_used is None, "what was once unknown stays so"


@every
async def test_batches_that_end_in_another_order_are_told_in_order(make: Make) -> None:
    async def last_first(service: Service, asked: Asked) -> None:
        while len(service.asked) < 4 or service.busy > 4 - int(asked.texts[0].split()[-1]) // 64:
            await asyncio.sleep(0)

    async with embedding_service(*[last_first] * 4) as service, make(service.url) as provider:
        assert await provider.embed(texts(256)) == [vector(text) for text in texts(256)]
        assert service.most_busy == 4


@every
@pytest.mark.parametrize("at_once", [1, 3])
async def test_no_more_is_asked_at_once_than_allowed(make: Make, at_once: int) -> None:
    async with (
        embedding_service() as service,
        make(service.url, allowance=Allowance(max_concurrent=at_once)) as provider,
    ):
        assert len(await provider.embed(texts(64 * 12))) == 64 * 12
        assert service.most_busy <= at_once


async def test_without_a_limit_all_is_asked_at_once() -> None:
    async def together(service: Service, asked: Asked) -> None:
        while len(service.asked) < 12:
            await asyncio.sleep(0)

    async with (
        embedding_service(*[together] * 12) as service,
        openai(service.url, allowance=Allowance()) as provider,
    ):
        assert len(await provider.embed(texts(64 * 12))) == 64 * 12


def test_batches_are_bounded_in_texts_and_characters() -> None:
    long, short = "x" * 60_000, "y"
    batches = list(in_batches([long, long, short, "z" * 300_000, short]))
    assert [[len(text) for text in batch] for batch in batches] == [[60_000], [60_000, 1], [300_000], [1]]


@pytest.mark.parametrize("order", [[2, 0, 1], [1, 2, 0], [0, 1, 2]])
async def test_a_service_may_answer_in_any_order(order: list[int]) -> None:
    def shuffled(service: Service, asked: Asked) -> Any:
        body = embedded(asked)
        return {**body, "data": [body["data"][index] for index in order]}

    async with embedding_service(shuffled) as service, openai(service.url) as provider:
        assert await provider.embed(texts(3)) == [vector(text) for text in texts(3)]


async def test_a_server_without_indexes_answers_in_order() -> None:
    def bare(service: Service, asked: Asked) -> Any:
        return {"data": [{"embedding": vector(text)} for text in asked.texts]}

    async with embedding_service(bare) as service, openai(service.url) as provider:
        assert await provider.embed(texts(3)) == [vector(text) for text in texts(3)]


# --- what is sent -----------------------------------------------------------------------------------------


async def test_openai_is_asked_for_a_length_only_where_it_can_be_shortened() -> None:
    async with embedding_service() as service:
        for model in ("text-embedding-3-large", "text-embedding-ada-002"):
            async with OpenAIEmbeddingProvider(model, service.url + "/v1/", dim=DIM, api_key=KEY) as provider:
                await provider.embed(["a", "b"])
    first, second = service.asked
    assert first.path == "/v1/embeddings"
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert first.body == {
        "model": "text-embedding-3-large",
        "input": ["a", "b"],
        "dimensions": DIM,
    }
    assert "dimensions" not in second.body


async def test_ollama_is_asked_not_to_cut_texts_unless_told() -> None:
    async with embedding_service() as service:
        async with OllamaEmbeddingProvider(base_url=service.url + "/v1/", dim=DIM) as provider:
            await provider.embed(["a"])
        async with OllamaEmbeddingProvider(base_url=service.url, dim=DIM, truncate=True) as provider:
            await provider.embed(["a"])
    assert [asked.path for asked in service.asked] == ["/api/embed"] * 2
    assert "Authorization" not in service.asked[0].headers
    assert service.asked[0].body == {"model": "nomic-embed-text", "input": ["a"], "truncate": False}
    assert service.asked[1].body["truncate"] is True


async def test_gemini_is_sent_its_key_in_a_header_and_a_task() -> None:
    async with embedding_service() as service:
        async with GeminiEmbeddingProvider(
            "models/gemini-embedding-001",
            service.url + "/v1beta",
            dim=DIM,
            api_key=KEY,
            task_type="RETRIEVAL_QUERY",
        ) as provider:
            await provider.embed(["a"])
        async with GeminiEmbeddingProvider("embedding-001", service.url, dim=DIM, api_key=KEY) as provider:
            await provider.embed(["a"])
    asked = service.asked[0]
    assert asked.path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert asked.headers["x-goog-api-key"] == KEY
    assert asked.body == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": "a"}]},
                "taskType": "RETRIEVAL_QUERY",
                "outputDimensionality": DIM,
            }
        ]
    }
    assert set(service.asked[1].body["requests"][0]) == {"model", "content"}


@every
async def test_odd_text_arrives(make: Make) -> None:
    odd = ["日本語 🌍", "a\x00b\n\t", '"quoted" \\', "lone \ud800 surrogate", "x" * 200_000]
    async with embedding_service() as service, make(service.url) as provider:
        found = await provider.embed(tuple(odd))
    sent = [text for asked in service.asked for text in asked.texts]
    assert sorted(sent) == sorted([*odd[:3], "lone � surrogate", odd[4]])
    assert [found[0], found[4]] == [vector(odd[0]), vector(odd[4])]


@every
@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (["a", ""], ValueError, "text 1 is blank"),
        (["  \n", "b"], ValueError, "text 0 is blank"),
        ("one text", TypeError, "a list of texts"),
        (["a", None], TypeError, "text 1 is of type NoneType"),
        ([b"a"], TypeError, "text 0 is of type bytes"),
    ],
)
async def test_what_cannot_be_embedded_is_not_sent(
    make: Make, given: Any, kind: type[Exception], said: str
) -> None:
    async with embedding_service() as service, make(service.url) as provider:
        with pytest.raises(kind, match=said):
            await provider.embed(given)
        assert service.asked == []


# --- what comes back wrong ----------------------------------------------------------------------------------


def spoiled(make: Make, spoil: Callable[[list[Any]], Any]) -> Any:
    """An answer whose vectors ``spoil`` has changed, on any wire."""

    def answer(service: Service, asked: Asked) -> Any:
        body = embedded(asked)
        if make is openai:
            vectors = spoil([item["embedding"] for item in body["data"]])
            if isinstance(vectors, list):
                vectors = [{"index": index, "embedding": one} for index, one in enumerate(vectors)]
            return {**body, "data": vectors}
        if make is gemini:
            vectors = spoil([item["values"] for item in body["embeddings"]])
            return {
                **body,
                "embeddings": [{"values": one} for one in vectors] if isinstance(vectors, list) else vectors,
            }
        return {**body, "embeddings": spoil(body["embeddings"])}

    return answer


SPOILED: list[tuple[Callable[[list[Any]], Any], str]] = [
    (lambda vectors: vectors[:-1], "sent 2 embeddings for 3 texts"),
    (lambda vectors: [*vectors, vectors[0]], "sent 4 embeddings for 3 texts"),
    (lambda vectors: [], "sent 0 embeddings for 3 texts"),
    (lambda vectors: None, "sent 0 embeddings for 3 texts"),
    (lambda vectors: {}, "sent no embeddings"),
    (lambda vectors: "vectors", "sent no embeddings"),
    (lambda vectors: [*vectors[:2], [0.5]], f"vectors of 1 numbers for m, declared with dim={DIM}"),
    (lambda vectors: [*vectors[:2], []], f"vectors of 0 numbers for m, declared with dim={DIM}"),
    (
        lambda vectors: [*vectors[:2], [*vectors[2], 0.5]],
        f"vectors of 9 numbers for m, declared with dim={DIM}",
    ),
    (lambda vectors: [*vectors[:2], ["0.5"] * DIM], "sent no embeddings"),
    (lambda vectors: [*vectors[:2], [None] * DIM], "sent no embeddings"),
    (lambda vectors: [*vectors[:2], [True] * DIM], "sent no embeddings"),
    (lambda vectors: [*vectors[:2], None], "sent no embeddings"),
    (lambda vectors: [*vectors[:2], base64.b64encode(bytes(4 * DIM)).decode()], "sent no embeddings"),
    (lambda vectors: [*vectors[:2], [math.nan] * DIM], "sent no JSON"),
    (lambda vectors: [*vectors[:2], [math.inf] * DIM], "sent no JSON"),
]


@every
@pytest.mark.parametrize(("spoil", "said"), SPOILED)
async def test_a_wrong_reply_is_never_taken_for_vectors(make: Make, spoil: Any, said: str) -> None:
    async with embedding_service(spoiled(make, spoil)) as service, make(service.url) as provider:
        with pytest.raises(MalformedReplyError, match=said):
            await provider.embed(texts(3))
        assert len(service.asked) == 1


@every
async def test_numbers_too_large_for_a_float_are_no_vectors(make: Make) -> None:
    def answer(service: Service, asked: Asked) -> str:
        return json.dumps(embedded(asked)).replace(str(vector("a")[0]), "1e999", 1)

    async with embedding_service(answer) as service, make(service.url) as provider:
        with pytest.raises(MalformedReplyError, match="Number out of range"):
            await provider.embed(["a"])


@every
async def test_huge_finite_numbers_and_whole_ones_are_vectors(make: Make) -> None:
    huge = [1.7e308] * DIM
    async with (
        embedding_service(spoiled(make, lambda vectors: [huge, [0] * DIM])) as service,
        make(service.url) as one,
    ):
        assert await one.embed(["a", "b"]) == [huge, [0.0] * DIM]


@pytest.mark.parametrize("places", [[0, 0, 1], [1, 2, 3], [0, 1, None], [-1, 0, 1], [0, 2, 5]])
async def test_indexes_that_do_not_count_are_refused(places: list[int | None]) -> None:
    def answer(service: Service, asked: Asked) -> Any:
        return {"data": [{"index": place, "embedding": vector("a")} for place in places]}

    async with embedding_service(answer) as service, openai(service.url) as provider:
        with pytest.raises(MalformedReplyError, match="indexes"):
            await provider.embed(texts(3))


@every
@pytest.mark.parametrize(
    "body", ["", "null", "[]", "<html>hello</html>", '{"data":', "[" * 100_000, '"text"', "7"]
)
async def test_what_is_no_reply_is_told_so(make: Make, body: str) -> None:
    answer: Any = lambda service, asked: web.Response(text=body, content_type="application/json")  # noqa: E731
    async with embedding_service(answer) as service, make(service.url) as provider:
        with pytest.raises(MalformedReplyError) as caught:
            await provider.embed(["a"])
    assert len(str(caught.value)) <= 500


# --- failures -----------------------------------------------------------------------------------------------


FAILURES: list[tuple[int, str, type[LoomError]]] = [
    (401, '{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}', AuthenticationError),
    (404, '{"error":"model \\"m\\" not found, try pulling it first"}', InvalidRequestError),
    (400, '{"error":"the input length exceeds the context length"}', ContextOverflowError),
    (
        400,
        '{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}',
        AuthenticationError,
    ),
    (200, '{"error":{"message":"no such model","code":404}}', InvalidRequestError),
    (200, '{"error":{"message":"bad key","type":"authentication_error"}}', AuthenticationError),
]


@every
@pytest.mark.parametrize(("status", "body", "kind"), FAILURES)
async def test_refusals_are_typed_and_not_repeated(
    make: Make, status: int, body: str, kind: type[LoomError]
) -> None:
    async with embedding_service(refuse(status, body)) as service, make(service.url) as provider:
        with pytest.raises(LoomError) as caught:
            await provider.embed(["a"])
        assert type(caught.value) is kind
        assert len(service.asked) == 1


@every
async def test_what_may_pass_is_asked_again(make: Make) -> None:
    waits = Waits()
    script = [refuse(429, **{"Retry-After": "7"}), refuse(503), None]
    async with (
        embedding_service(*script) as service,
        make(service.url, sleep=waits, rand=lambda: 0.0) as provider,
    ):
        assert await provider.embed(["a"]) == [vector("a")]
        assert len(service.asked) == 3
        assert provider.tokens_used == 3
    assert waits == [7.0, 0.0]


@every
async def test_a_long_limit_goes_up(make: Make) -> None:
    async with (
        embedding_service(refuse(429, **{"Retry-After": "3600"})) as service,
        make(service.url) as provider,
    ):
        with pytest.raises(RateLimitError) as caught:
            await provider.embed(["a"])
    assert caught.value.retry_after == 3600.0


@every
async def test_one_failed_batch_gives_up_the_others(make: Make) -> None:
    async def stall(service: Service, asked: Asked) -> None:
        await service.closing.wait()

    async def refuse_when_all_are_here(service: Service, asked: Asked) -> Any:
        while len(service.asked) < 4:
            await asyncio.sleep(0)
        return web.Response(status=400, text='{"error":{"message":"not this one"}}')

    script: list[Any] = [stall, stall, refuse_when_all_are_here, stall]
    async with embedding_service(*script) as service, make(service.url) as provider:
        before = asyncio.all_tasks()
        with pytest.raises(InvalidRequestError, match="not this one"):
            await provider.embed(texts(64 * 20))
        assert {task for task in asyncio.all_tasks() - before if "embed" in repr(task.get_coro())} == set()
        await asyncio.wait_for(service.gone.wait(), 5)
        assert len(service.asked) == 4  # the other sixteen were never sent


@every
async def test_silence_ends_in_an_error(make: Make) -> None:
    async def stall(service: Service, asked: Asked) -> None:
        await service.closing.wait()

    async with (
        embedding_service(stall) as service,
        make(service.url, timeout=0.05, max_retries=0) as provider,
    ):
        with pytest.raises(ProviderUnavailableError, match="did not answer in time"):
            await provider.embed(["a"])
        await asyncio.wait_for(service.gone.wait(), 5)


@every
async def test_cancelling_leaves_nothing_behind(make: Make) -> None:
    async def stall(service: Service, asked: Asked) -> None:
        await service.closing.wait()

    async with embedding_service(*[stall] * 4) as service, make(service.url) as provider:
        before = asyncio.all_tasks()
        task = asyncio.create_task(provider.embed(texts(64 * 10)))
        while service.busy < 4:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {left for left in asyncio.all_tasks() - before if "embed" in repr(left.get_coro())} == set()
        while service.busy:
            await asyncio.sleep(0)
        assert await provider.embed(["a"]) == [vector("a")]


@every
async def test_a_service_that_stays_down_is_left_alone(make: Make) -> None:
    async with (
        embedding_service(*[refuse(503)] * 2) as service,
        make(service.url, max_retries=0, allowance=Allowance(open_after=2)) as provider,
    ):
        for _ in range(3):
            with pytest.raises(ProviderUnavailableError):
                await provider.embed(["a"])
        assert len(service.asked) == 2


# --- keys -----------------------------------------------------------------------------------------------------


@every
async def test_the_key_is_in_no_error_and_no_repr(make: Make) -> None:
    def echo(service: Service, asked: Asked) -> Any:
        seen = f"you sent {asked.headers} and {base64.b64encode(KEY.encode()).decode()}"
        return web.json_response({"error": {"message": seen}}, status=400)

    async with embedding_service(echo) as service, make(service.url) as provider:
        with pytest.raises(InvalidRequestError) as caught:
            await provider.embed(["a"])
        told = "".join(traceback.format_exception(caught.value)) + repr(provider) + repr(vars(provider))
    assert "you sent" in told
    assert KEY not in told
    assert base64.b64encode(KEY.encode()).decode() not in told


@pytest.mark.parametrize("make", [OpenAIEmbeddingProvider, GeminiEmbeddingProvider])
async def test_without_a_key_nothing_is_asked_and_the_variable_is_named(make: Any) -> None:
    provider = make()
    assert await provider.embed([]) == []
    with pytest.raises(AuthenticationError, match=r"set \w+_API_KEY.*api_key"):
        await provider.embed(["a"])


async def test_the_key_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    async with embedding_service() as service:
        async with OpenAIEmbeddingProvider("m", service.url, "MY_KEY", DIM) as provider:
            await provider.embed(["a"])
        async with GeminiEmbeddingProvider("m", service.url, dim=DIM) as provider:
            await provider.embed(["a"])
    assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert service.asked[1].headers["x-goog-api-key"] == KEY


async def test_a_server_of_ones_own_may_want_no_key_unless_a_variable_is_named() -> None:
    async with embedding_service() as service:
        async with OpenAIEmbeddingProvider("m", service.url, dim=DIM) as provider:
            assert await provider.embed(["a"]) == [vector("a")]
        with pytest.raises(AuthenticationError, match="set MY_KEY"):
            await OpenAIEmbeddingProvider("m", service.url, "MY_KEY", DIM).embed(["a"])
    assert "Authorization" not in service.asked[0].headers
    assert len(service.asked) == 1


@pytest.mark.parametrize("dim", [0, -1])
def test_a_length_below_one_is_refused(dim: int) -> None:
    with pytest.raises(ConfigError, match="dim"):
        OllamaEmbeddingProvider(dim=dim)


def test_the_defaults_are_those_that_are_documented() -> None:
    made: list[EmbeddingProvider] = [
        OpenAIEmbeddingProvider(),
        OllamaEmbeddingProvider(),
        GeminiEmbeddingProvider(),
    ]
    assert [(one.model, one.dim) for one in made] == [
        ("text-embedding-3-small", 1536),
        ("nomic-embed-text", 768),
        ("gemini-embedding-001", 3072),
    ]
