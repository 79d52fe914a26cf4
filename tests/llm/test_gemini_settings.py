"""What stands beside a conversation with Gemini: settings merged, tools, addresses, counted tokens."""

import json
from typing import Any

import pytest
from test_requests import SHAPE, TALK, body
from wires import ADD, HELLO, KEY, gemini

from loom.errors import ConfigError, InvalidRequestError, MalformedReplyError
from loom.llm.base import ModelSettings
from loom.llm.gemini import GeminiProvider
from loom.testing.model_server import ModelServer, served
from loom.types import ChatMessage, ToolSpec

# --- settings -----------------------------------------------------------------------------------------


async def test_settings_and_a_schema() -> None:
    settings = ModelSettings(0.5, 99, SHAPE, "ignored here", {"stream": True, "labels": {"a": "b"}})
    sent = await body(gemini("http://h/v1beta"), settings=settings)
    assert sent["generationConfig"] == {
        "temperature": 0.5,
        "maxOutputTokens": 99,
        "responseMimeType": "application/json",
        "responseJsonSchema": SHAPE,
    }
    assert sent["labels"] == {"a": "b"}
    assert sent.keys() == {"systemInstruction", "generationConfig", "labels", "contents"}
    assert "generationConfig" not in await body(gemini("http://h/v1beta"), settings=ModelSettings())


async def test_a_schema_beside_tools_is_told_in_words_unless_the_model_can() -> None:
    settings = ModelSettings(output_schema=SHAPE)
    sent = await body(gemini("http://h/v1beta"), tools=[ADD], settings=settings)
    assert "generationConfig" not in sent
    told = sent["systemInstruction"]["parts"][0]["text"]
    assert told.startswith("Be brief.\n\nYour final answer must be JSON")
    assert json.dumps(SHAPE, separators=(",", ":")) in told
    able = gemini("http://h/v1beta", schema_with_tools=True)
    sent = await body(able, tools=[ADD], settings=settings)
    assert sent["generationConfig"]["responseJsonSchema"] == SHAPE
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


async def test_extensions_are_merged_object_by_object() -> None:
    low, high = ({"category": "HATE", "threshold": threshold} for threshold in ("LOW", "HIGH"))
    other = {"category": "DANGER", "threshold": "NONE"}
    mine = {
        "generationConfig": {"topP": 0.5, "temperature": 0.9, "thinkingConfig": {"includeThoughts": True}},
        "safetySettings": [low, other],
        "cachedContent": "cachedContents/a",
    }
    provider = gemini("http://h/v1beta", extensions=mine)
    settings = ModelSettings(
        temperature=0.1,
        extensions={
            "thinkingConfig": {"thinkingBudget": 7},
            "safetySettings": [high],
            "cachedContent": "cachedContents/b",
            "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        },
    )
    sent = await body(provider, settings=settings)
    assert sent["generationConfig"] == {
        "topP": 0.5,
        "temperature": 0.1,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 7},
    }
    assert sent["safetySettings"] == [high, other]
    assert sent["cachedContent"] == "cachedContents/b"
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    again = await body(provider)
    assert again["generationConfig"] == mine["generationConfig"]
    assert again["safetySettings"] == [low, other]


async def test_tools_of_the_service_stand_beside_ours() -> None:
    search, code = {"googleSearch": {}}, {"codeExecution": {}}
    provider = gemini("http://h", extensions={"tools": [search]})
    settings = ModelSettings(extensions={"tools": [code]}, output_schema=SHAPE)
    ours = {"functionDeclarations": [{"name": "add", "description": ADD.description}]}
    sent = await body(provider, tools=[ADD], settings=settings)
    del sent["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]
    assert sent["tools"] == [ours, search, code]
    assert (await body(provider))["tools"] == [search]
    # Older models take no schema beside any tool.
    sent = await body(gemini("http://h"), settings=settings)
    assert sent["tools"] == [code]
    assert "generationConfig" not in sent
    for wrong in (1, {"googleSearch": {}}, ["googleSearch"]):
        with pytest.raises(ConfigError, match="tools"):
            gemini("http://h", extensions={"tools": wrong})


@pytest.mark.parametrize("name", ["contents", "systemInstruction", "model"])
async def test_extensions_must_not_contradict_the_request(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        gemini("http://h", extensions={name: 1})
    with pytest.raises(ConfigError, match=name):
        await body(gemini("http://h"), settings=ModelSettings(extensions={name: 1}))


async def test_the_same_request_has_the_same_bytes() -> None:
    settings = ModelSettings(0.5, output_schema=SHAPE, extensions={"safetySettings": []})
    sent = [
        (await gemini("http://h")._request(TALK, [ADD], "m", settings, stream)).body
        for stream in (False, True, False)
    ]
    fresh = [ChatMessage(m.role, m.content, m.tool_calls, m.tool_call_id, m.name, m.is_error) for m in TALK]
    sent.append((await gemini("http://x")._request(fresh, [ADD], "other", settings, False)).body)
    assert len(set(sent)) == 1


async def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    (tools,) = (await body(gemini("http://h"), tools=[ToolSpec("now")]))["tools"]
    assert tools["functionDeclarations"] == [
        {"name": "now", "description": "", "parametersJsonSchema": {"type": "object", "properties": {}}}
    ]


# --- addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "model", "path"),
    [
        ("http://h/v1beta", "gemini-2.5-flash", "http://h/v1beta/models/gemini-2.5-flash:generateContent"),
        ("http://h", "m", "http://h/v1beta/models/m:generateContent"),
        ("http://h/", "m", "http://h/v1beta/models/m:generateContent"),
        ("http://h/v1/", "models/m", "http://h/v1/models/m:generateContent"),
        ("http://h/v1", "tunedModels/my-1", "http://h/v1/tunedModels/my-1:generateContent"),
        ("http://h/v1", "../x?key=1#y", "http://h/v1/models/..%2Fx%3Fkey%3D1%23y:generateContent"),
        ("http://h/v1", "models/../../x", "http://h/v1/models/..%2F..%2Fx:generateContent"),
        ("http://h/v1", "other/m", "http://h/v1/models/other%2Fm:generateContent"),
        ("https://h/p/x?v=1", "m", "https://h/p/x/models/m:generateContent?v=1"),
    ],
)
async def test_addresses(base_url: str, model: str, path: str) -> None:
    provider = gemini(base_url)
    assert (await provider._request(HELLO, None, model, None, False)).url == path
    streamed = (await provider._request(HELLO, None, model, None, True)).url
    whole, _, query = path.partition("?")
    whole = whole.replace(":generateContent", ":streamGenerateContent")
    assert streamed == f"{whole}?{query}&alt=sse".replace("?&", "?")


def test_the_address_of_the_other_wire_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"leave out /openai"):
        GeminiProvider(KEY, base_url="https://h/v1beta/openai/")


async def test_the_key_is_a_header_and_in_no_address() -> None:
    async with ModelServer(["a", "b"]) as server, gemini(server.base_url) as provider:
        await provider.chat(HELLO)
        _ = [event async for event in provider.chat_stream(HELLO)]
    assert [request.headers["x-goog-api-key"] for request in server.requests] == [KEY, KEY]
    assert [request.path for request in server.requests] == [
        "/v1/models/m:generateContent",
        "/v1/models/m:streamGenerateContent?alt=sse",
    ]
    assert gemini("http://h")._auth_headers(None) == {}


# --- counting -----------------------------------------------------------------------------------------


async def test_tokens_are_counted_for_the_whole_request() -> None:
    items = [served(status=500), served(body=b'{"totalTokens": 31, "cachedContentTokenCount": 2}')]
    async with ModelServer(items) as server, gemini(server.base_url) as provider:
        counted = await provider.count_tokens(
            TALK, tools=[ADD], model="tunedModels/t", settings=ModelSettings(0.1)
        )
    assert counted == 31
    assert server.requests[1].path == "/v1/tunedModels/t:countTokens"
    asked = server.requests[1].body["generateContentRequest"]
    assert asked.pop("model") == "tunedModels/t"
    assert asked == await body(provider, TALK, tools=[ADD], settings=ModelSettings(0.1))


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (served(body=b"{}"), MalformedReplyError),
        (served(body=b"[]"), MalformedReplyError),
        (served(body=b'{"totalTokens": "31"}'), MalformedReplyError),
        (served(body=b"<html>"), MalformedReplyError),
        (served(body=b'{"error": {"code": 404, "message": "no such model"}}'), InvalidRequestError),
        (served(status=404, body=b'{"error": {"code": 404, "message": "no"}}'), InvalidRequestError),
    ],
)
async def test_what_is_no_count_is_an_error(item: Any, kind: type[Exception]) -> None:
    async with ModelServer([item]) as server, gemini(server.base_url) as provider:
        with pytest.raises(kind):
            await provider.count_tokens(HELLO)
