"""The calls of one reply, each once."""

from __future__ import annotations

import pytest

from loom.errors import MalformedReplyError
from loom.safety.calls import one_each
from loom.types import ChatMessage, Role, ToolCall


def _reply(*calls: ToolCall) -> ChatMessage:
    return ChatMessage(Role.ASSISTANT, None, tool_calls=calls)


def test_a_call_that_is_told_twice_is_one() -> None:
    told = _reply(ToolCall("a", "t", '{"x": 1, "y": 2}'), ToolCall("a", "t", '{"y":2,"x":1}'))
    assert one_each(told) == _reply(ToolCall("a", "t", '{"x": 1, "y": 2}'))


@pytest.mark.parametrize("other", [ToolCall("a", "t", '{"x": 2}'), ToolCall("a", "u", '{"x": 1}')])
def test_one_id_for_two_different_calls_is_a_malformed_reply(other: ToolCall) -> None:
    with pytest.raises(MalformedReplyError, match="two different calls"):
        one_each(_reply(ToolCall("a", "t", '{"x": 1}'), other))
