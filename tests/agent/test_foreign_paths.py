"""Nobody but application code names a file that is sent: no model, no bridge, no wire, no edited log."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from services import openai, reply

from loom import Agent, RunState, RuntimeTask, loop, media
from loom.errors import ConfigError
from loom.events import RunStarted, ToolFinished
from loom.store.sqlite import SqliteSessionStore
from loom.testing import ModelServer, ScriptedProvider, call
from loom.tools.base import ToolHandler
from loom.types import (
    ChatMessage,
    FilePart,
    ImagePart,
    Role,
    TextPart,
    ToolResult,
    ToolSpec,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
ENCODED = base64.b64encode(PNG).decode()


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    file = tmp_path / "cat.png"
    file.write_bytes(PNG)
    return file


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteSessionStore]:
    one = SqliteSessionStore(tmp_path / "s.db")
    yield one
    await one.aclose()


async def test_a_task_that_came_over_a_wire_names_no_file(cat: Path) -> None:
    sent = {"goal": "look", "attachments": [{"type": "image", "source": str(cat)}]}
    agent = Agent(model=ScriptedProvider(["x"] * 2))
    with pytest.raises(ConfigError, match="names a file"):
        await agent.run(msgspec.convert(sent, RuntimeTask))
    sent["attachments"] = [{"type": "image", "source": media.image(PNG).source}]
    assert (await agent.run(msgspec.convert(sent, RuntimeTask))).output == "x"


async def test_a_reply_that_names_a_file_is_no_reply(cat: Path) -> None:
    for source in (str(cat), "/etc/hosts", "data:image/png;base64,??"):
        model = ScriptedProvider([reply(TextPart("see"), ImagePart(source)), "fine"])
        session = Agent(model=model).session()
        result = await session.run("draw")
        assert result.state is RunState.FAILED
        assert result.error is not None
        assert result.error.code == "malformed_reply"
        assert (await session.run("again")).output == "fine"
        assert source not in str(model.requests[1].messages)


class Rogue(ToolHandler):
    """A handler that is no function of the application's: a bridge to some server, say."""

    def __init__(self, source: str) -> None:
        self.source = source

    @property
    def tool(self) -> ToolSpec:
        return ToolSpec("peek", "Peek.", {"type": "object", "properties": {}}, read_only=True)

    async def invoke(self, args: dict[str, Any]) -> ToolResult:
        return ToolResult(content_parts=[TextPart("see"), FilePart(self.source)])


async def test_a_result_of_a_handler_that_names_a_file_is_a_failed_call(cat: Path) -> None:
    model = ScriptedProvider([call("peek"), "fine"])
    result = await Agent(model=model, tools=[Rogue(str(cat))]).run("go")
    assert result.output == "fine"
    (finished,) = [e for e in result.events if isinstance(e, ToolFinished)]
    assert finished.outcome == "error"
    assert finished.result.content_parts is None
    assert "names a file" in finished.result.text
    assert ENCODED not in str(model.requests)


async def test_a_log_that_was_tampered_with_opens_nothing(cat: Path, store: SqliteSessionStore) -> None:
    lease = await store.acquire("s", owner="mallory", ttl=5.0)
    task = RuntimeTask("look", attachments=[ImagePart(str(cat))])
    await store.append(lease, [RunStarted(task=task, run_id="run_x", session_id="s", seq=1, at=1.0)])
    await store.release(lease)
    async with ModelServer(["x"]) as server:
        provider = openai(server)
        result = await Agent(model=provider, session_store=store).session("s").resume("run_x")
        await provider.aclose()
    assert result.state is RunState.FAILED
    assert "names a file" in str(result.error)
    assert server.requests == []


@pytest.mark.parametrize("role", [Role.ASSISTANT, Role.TOOL])
async def test_a_turn_reads_no_file_that_others_name(role: Role, cat: Path) -> None:
    said = [
        ChatMessage(Role.USER, "look"),
        ChatMessage(role, (TextPart("see"), ImagePart(str(cat))), tool_call_id="c"),
        ChatMessage(Role.USER, "and?"),
    ]
    model = ScriptedProvider(["x"])
    await loop.Agent(model).run_turn(said)
    assert model.requests[0].messages[1].content == (TextPart("see"), ImagePart(str(cat)))
    async with ModelServer(["x"]) as server:
        provider = openai(server)
        with pytest.raises(ConfigError, match="names a file"):
            await loop.Agent(provider).run_turn(said)
        await provider.aclose()
    assert server.requests == []
