"""A tool's text and its pictures both reach the model, over every wire, and both are in every record."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from loom import Agent, Runtime, RuntimeLimits
from loom.llm.anthropic import AnthropicProvider
from loom.llm.gemini import GeminiProvider
from loom.llm.openai_compat import OpenAICompatibleProvider
from loom.llm.openai_responses import OpenAIResponsesProvider
from loom.llm.wire import HTTPProvider
from loom.store.file import FileSessionStore
from loom.testing import ModelServer, ScriptedProvider, call
from loom.tools.function import FunctionTool, tool
from loom.types import ImagePart, Part, Role, TextPart, ToolResult

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = ImagePart(f"data:image/png;base64,{PIXEL}")
WIRES: list[Callable[[ModelServer], HTTPProvider]] = [
    lambda server: OpenAICompatibleProvider(server.base_url, "key", "m"),
    lambda server: OpenAIResponsesProvider(server.base_url, "key", "m"),
    lambda server: AnthropicProvider("key", "m", base_url=server.base_url),
    lambda server: GeminiProvider("key", "m", base_url=server.base_url),
]


def looking(result: ToolResult) -> FunctionTool[[], ToolResult]:
    @tool
    def look() -> ToolResult:
        return result

    return look


@pytest.mark.parametrize("wire", WIRES, ids=["chat", "responses", "anthropic", "gemini"])
async def test_review_g2_text_and_picture_go_out_over_every_wire(
    wire: Callable[[ModelServer], HTTPProvider],
) -> None:
    async with ModelServer([call("look"), "a pixel"]) as server:
        provider = wire(server)
        agent = Agent(model=provider, tools=[looking(ToolResult("one red pixel", content_parts=(IMAGE,)))])
        result = await agent.run("what is there?")
        await provider.aclose()
    assert result.ok
    body = str(server.requests[-1].body)
    assert body.count("one red pixel") == 1
    assert PIXEL in body


async def test_review_g2_conversation_and_transcript_agree(tmp_path: Path) -> None:
    store = FileSessionStore(tmp_path / "log")
    agent = Agent(
        model=ScriptedProvider([call("look"), "a pixel"]),
        tools=[looking(ToolResult("one red pixel", content_parts=(IMAGE,)))],
        session_store=store,
    )
    result = await agent.session("s").run("what is there?")
    said = next(m for m in result.messages if m.role is Role.TOOL)
    assert said.content == (TextPart("one red pixel"), IMAGE)
    record = store.load_transcript(result.run_id)
    assert record is not None
    kept = next(m for m in record.messages if m["role"] == "tool")
    assert [part["type"] for part in kept["content"]] == ["text", "image"]
    await store.aclose()


@pytest.mark.parametrize(
    ("result", "content"),
    [
        (ToolResult("a"), "a"),
        (ToolResult(content_parts=(IMAGE,)), (IMAGE,)),
        (ToolResult("a", content_parts=()), "a"),
        (ToolResult("a", content_parts=[TextPart("a"), IMAGE]), (TextPart("a"), IMAGE)),
        (ToolResult("a", content_parts=[IMAGE, TextPart("b")]), (TextPart("a"), IMAGE, TextPart("b"))),
        (ToolResult(), ""),
    ],
)
def test_review_g2_what_a_result_says(result: ToolResult, content: str | tuple[Part, ...]) -> None:
    assert result.content == content


async def test_review_g2_a_cut_result_keeps_its_picture_and_its_notice() -> None:
    text = "line\n" * 1000
    agent = Agent(
        model=ScriptedProvider([call("look"), "a pixel"]),
        tools=[looking(ToolResult(text, content_parts=(IMAGE,), data={"x": "y" * 3000}))],
        runtime=Runtime(limits=RuntimeLimits(max_result_chars=1000)),
    )
    result = await agent.run("what is there?")
    content = next(m.content for m in result.messages if m.role is Role.TOOL)
    assert isinstance(content, tuple)
    first, second = content
    assert isinstance(first, TextPart)
    assert "Read on with read_output" in first.text
    assert len(first.text) <= 1000
    assert second == IMAGE
    assert base64.b64decode(PIXEL).startswith(b"\x89PNG")
