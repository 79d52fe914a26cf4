"""One valid exchange in the words of every wire, for the tests to spoil."""

from __future__ import annotations

from typing import Any

from loom.testing.scripted import say
from loom.testing.wires import WIRES as SERVER_WIRES
from loom.testing.wires import ServerWire
from loom.types import ChatMessage, ChatResponse, Role, StopReason, ToolCall, ToolSpec, Usage

HELLO = [ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, "Add 1 and 2 🌍")]
ADD = ToolSpec(
    "add",
    "Adds two numbers.",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
)
TEXT = say("Grüße, 世界 🌍!", usage=Usage(11, 7), stop_reason=StopReason.STOP)
CALLS = say(
    "Let me see.",
    ToolCall("call_1", "add", '{"a":1,"b":2}'),
    ToolCall("call_2", "add", '{"a":3,"b":4}'),
    usage=Usage(11, 7),
    stop_reason=StopReason.TOOL_USE,
)
BY_NAME: dict[str, ServerWire] = {wire.name: wire for wire in SERVER_WIRES}


def whole(wire: ServerWire, reply: ChatResponse = TEXT) -> bytes:
    return wire.whole(reply, 1)


def stream(wire: ServerWire, reply: ChatResponse = TEXT, size: int | None = 3) -> list[bytes]:
    """The events of ``reply``, each as its bytes."""
    return list(wire.stream(reply, 1, size))


def same(one: ChatResponse, other: ChatResponse) -> bool:
    """Whether two replies say the same, whatever their ids."""

    def told(response: ChatResponse) -> Any:
        calls = [(call.name, call.arguments) for call in response.message.tool_calls or ()]
        return response.message.text_content, calls, response.usage, response.stop_reason

    return bool(told(one) == told(other))
