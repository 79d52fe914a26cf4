"""A small loop that runs the offline model over the real file tools, and a check of what it quotes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loom.errors import OfflineError, ToolError
from loom.llm.offline import OfflineProvider
from loom.tools.base import ToolHandler
from loom.tools.files import file_tools as real_tools
from loom.types import ChatMessage, ChatResponse, Role, StopReason, ToolResult


def schema(required: Sequence[str], *optional: str) -> dict[str, Any]:
    names = [*required, *optional]
    return {"type": "object", "properties": {name: {} for name in names}, "required": list(required)}


def file_tools(root: Path, *names: str) -> list[ToolHandler]:
    """The real file tools over ``root``; with ``names`` only those."""
    return [h for h in real_tools(root=root) if not names or h.tool.name in names]


async def result_of(handler: ToolHandler, arguments: str) -> ToolResult:
    """The result, or the error as the kernel would tell it. Arguments must fit the schema."""
    args: dict[str, Any] = json.loads(arguments)
    parameters = handler.tool.parameters
    assert set(args) <= set(parameters["properties"]), f"{handler.tool.name} has no such parameters: {args}"
    assert set(args) >= set(parameters["required"])
    try:
        return await handler.invoke(args)
    except ToolError as error:
        return ToolResult(str(error), is_error=True)


async def step(messages: list[ChatMessage], handlers: Sequence[ToolHandler]) -> ChatResponse:
    """Ask once more and append the reply and, in order, the results of its calls."""
    by_name = {handler.tool.name: handler for handler in handlers}
    tools = tuple(handler.tool for handler in handlers)
    response = await OfflineProvider().chat(messages, tools=tools)
    calls = response.message.tool_calls or ()
    assert response.stop_reason is (StopReason.TOOL_USE if calls else StopReason.STOP)
    taken = {call.id for message in messages for call in message.tool_calls or ()}
    messages.append(response.message)
    for call in calls:
        assert call.id not in taken, f"{call.id} is used twice"
        taken.add(call.id)
        assert call.name in by_name, f"{call.name} is not offered"
        result = await result_of(by_name[call.name], call.arguments)
        messages.append(
            ChatMessage(
                Role.TOOL, result.text, tool_call_id=call.id, name=call.name, is_error=result.is_error
            )
        )
    return response


async def finish(messages: list[ChatMessage], handlers: Sequence[ToolHandler]) -> str:
    """Go on until the model calls nothing more; its last words."""
    for _ in range(8):
        response = await step(messages, handlers)
        if not response.message.tool_calls:
            return response.message.text_content or ""
    raise AssertionError("it did not come to an end in 8 replies")


async def ask(task: str, handlers: Sequence[ToolHandler]) -> tuple[str, list[ChatMessage]]:
    messages = [ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, task)]
    return await finish(messages, handlers), messages


async def declined(task: str, handlers: Sequence[ToolHandler]) -> tuple[str, list[ChatMessage]]:
    """Why it says that it cannot do the task, and what was said until then."""
    messages = [ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, task)]
    with pytest.raises(OfflineError) as caught:
        await finish(messages, handlers)
    assert caught.value.code == "offline"
    return str(caught.value), messages


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


CITED = re.compile(r"(?<!`)(`+)(?!`) ?((?:(?!\1).)+?) ?\1(?!`) \((`+) ?([^\n]+?):(\d+)(?:-(\d+))? ?\3\)")


def citations(text: str) -> list[tuple[str, str, int, int]]:
    """(words, path, first line, last line) of every quotation in an answer."""
    return [(m[2], m[4], int(m[5]), int(m[6] or m[5])) for m in CITED.finditer(text)]


def check_citations(text: str, root: Path) -> int:
    """Fail unless each quotation stands where it says. Returns how many there are."""
    found = citations(text)
    for words, path, first, last in found:
        lines = (root / path).read_bytes().decode("utf-8", errors="replace").split("\n")
        there = " ".join(" ".join(line.strip().removeprefix(">") for line in lines[first - 1 : last]).split())
        assert " ".join(words.removesuffix("…").split()) in there, f"{words!r} is not at {path}:{first}"
    return len(found)
