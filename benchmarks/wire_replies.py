"""The scripted model in the words of every wire but the first, which ``replies`` renders.

Rendered by the server's half of our own wires; no peer is measured on them.
"""

from __future__ import annotations

from functools import lru_cache

from loom.testing.scripted import say
from loom.testing.wires import WIRES
from loom.types import ChatResponse, ToolCall

from .replies import Script, chunked, sized

_BY_NAME = {wire.name: wire for wire in WIRES}
RESULTS = {
    "anthropic": b'"tool_result"',
    "gemini": b'"functionResponse"',
    "openai_responses": b'"function_call_output"',
}
"""What marks one tool result in a request."""


@lru_cache(maxsize=8192)
def whole_reply(wire: str, script: Script, results: int) -> bytes:
    """The HTTP response to a request that holds ``results`` tool results."""
    return sized(_BY_NAME[wire].whole(_reply(script, results), 1))


@lru_cache(maxsize=1024)
def streamed_reply(wire: str, script: Script, results: int) -> tuple[bytes, ...]:
    """The same as a stream, one event a token."""
    size = len(script.text) // script.tokens
    return chunked(_BY_NAME[wire].stream(_reply(script, results), 1, size))


def _reply(script: Script, results: int) -> ChatResponse:
    if results >= script.executed:
        return say(script.text)
    calls = [
        ToolCall(f"call_{results}_{position}", script.tool, f'{{"a":{results},"b":{position}}}')
        for position in range(script.calls)
    ]
    return say("", *calls)
