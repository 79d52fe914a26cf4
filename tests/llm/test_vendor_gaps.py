"""What single vendors want otherwise than the rest of their wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from wires import ADD, HELLO, gemini, openai, responses

from loom.assembly.providers import make_provider
from loom.config.model import Model
from loom.errors import ConfigError
from loom.llm.base import ModelSettings
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.types import ChatMessage, FilePart, ImagePart, Role, TextPart

PDF = "data:application/pdf;base64,JVBERi0xLjQK"
SHAPE = {"type": "object", "properties": {"a": {"type": "integer"}}}
SEARCH: dict[str, Any] = {"type": "web_search"}
CODE: dict[str, Any] = {"type": "code_interpreter", "container": {"type": "auto"}}


async def body(provider: Any, model: str = "m", messages: Any = HELLO, **options: Any) -> dict[str, Any]:
    outgoing = await provider._request(messages, options.get("tools"), model, options.get("settings"), False)
    read: dict[str, Any] = json.loads(outgoing.body)
    return read


# --- tools that the service runs itself, over the Responses API -----------------------------------------


async def test_review_k_the_services_own_tools_go_along_over_responses() -> None:
    provider = responses("http://h/v1", extensions={"tools": [SEARCH]})
    assert (await body(provider))["tools"] == [SEARCH]
    settings = ModelSettings(extensions={"tools": [CODE]})
    both = await body(provider, tools=[ADD], settings=settings)
    assert both["tools"][:2] == [SEARCH, CODE]
    assert both["tools"][2]["name"] == "add"
    assert "tools" not in await body(responses("http://h/v1"))
    for wrong in ("web_search", [7]):
        with pytest.raises(ConfigError, match="list of objects"):
            responses("http://h/v1", extensions={"tools": wrong})


@pytest.mark.parametrize("kind", ["function", "custom", "computer_use_preview", "local_shell", "apply_patch"])
async def test_review_k_tools_that_we_would_have_to_run_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=kind):
        responses("http://h/v1", extensions={"tools": [{"type": kind}]})
    with pytest.raises(ConfigError, match=kind):
        await body(responses("http://h"), settings=ModelSettings(extensions={"tools": [{"type": kind}]}))


# --- Azure and Groq -------------------------------------------------------------------------------------


async def test_review_k_azure_speaks_responses() -> None:
    at = "https://me.openai.azure.com"
    for endpoint in (at, f"{at}/openai/v1", f"{at}/openai/v1/"):
        made = make_provider(
            Model.azure("gpt/4", wire="responses"),
            environ={"AZURE_OPENAI_ENDPOINT": endpoint, "AZURE_OPENAI_API_KEY": "k"},
        )
        assert isinstance(made, OpenAIResponsesProvider)
        assert made._endpoint == f"{at}/openai/v1/responses"
        assert made._auth_headers("k") == {"api-key": "k"}
        assert (await body(made))["include"] == ["reasoning.encrypted_content"]


async def test_review_k_groq_speaks_responses() -> None:
    made = make_provider(Model.groq("openai/gpt-oss-120b", wire="responses"), environ={"GROQ_API_KEY": "k"})
    assert isinstance(made, OpenAIResponsesProvider)
    assert made._endpoint == "https://api.groq.com/openai/v1/responses"
    assert made._auth_headers("k") == {"Authorization": "Bearer k"}
    assert "include" not in await body(made)


# --- Mistral --------------------------------------------------------------------------------------------


async def test_review_k_documents_go_to_mistral_as_addresses() -> None:
    made = make_provider(Model.mistral("m"), environ={"MISTRAL_API_KEY": "k"})
    assert isinstance(made, OpenAICompatibleProvider)
    parts = (
        TextPart("Read"),
        FilePart(PDF),
        FilePart("https://a.example/b.pdf"),
        ImagePart("https://a.example/c"),
    )
    sent = await body(made, messages=[ChatMessage(Role.USER, parts)])
    assert sent["messages"][0]["content"] == [
        {"type": "text", "text": "Read"},
        {"type": "document_url", "document_url": PDF},
        {"type": "document_url", "document_url": "https://a.example/b.pdf"},
        {"type": "image_url", "image_url": {"url": "https://a.example/c"}},
    ]
    assert made._dialect.short_call_ids


async def test_documents_of_a_tool_go_to_mistral_too() -> None:
    result = ChatMessage(Role.TOOL, (TextPart("t"), FilePart(PDF)), tool_call_id="abcdefghi", name="add")
    provider = openai("http://h", documents_as="document_url")
    sent = await body(provider, messages=[ChatMessage(Role.USER, "u"), result])
    assert {"type": "document_url", "document_url": PDF} in sent["messages"][-1]["content"]


async def test_an_address_of_a_document_is_still_refused_elsewhere() -> None:
    parts = (FilePart("https://a.example/b.pdf"),)
    with pytest.raises(ConfigError, match="from an address"):
        await body(openai("http://h"), messages=[ChatMessage(Role.USER, parts)])


# --- Gemini ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "both"),
    [
        ("gemini-3-pro-preview", True),
        ("gemini-3.5-flash-lite", True),
        ("models/gemini-3.7-flash", True),
        ("gemini-4-pro", True),
        ("gemini-2.5-flash", False),
        ("gemini-flash-latest", False),
        ("gemini-30x", True),
        ("my-gemini-3", False),
    ],
)
async def test_review_k_gemini_3_gets_schema_and_tools_together(model: str, both: bool) -> None:
    settings = ModelSettings(output_schema=SHAPE)
    sent = await body(gemini("http://h/v1beta"), model, tools=[ADD], settings=settings)
    assert ("responseJsonSchema" in sent.get("generationConfig", {})) == both
    assert ("JSON Schema" in json.dumps(sent["systemInstruction"])) != both
    old = await body(
        gemini("http://h/v1beta", schema_with_tools=False), model, tools=[ADD], settings=settings
    )
    assert "generationConfig" not in old
