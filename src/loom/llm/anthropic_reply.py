"""Reading replies of the Anthropic Messages wire, whole or streamed.

A whole reply is a list of blocks; a stream is the same blocks begun, grown and stopped. Both go through the
same three steps here, so both give the same message. Thinking keeps its signature, redacted thinking its
data, byte for byte: they must go back untouched.
Source: https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ..types import ChatResponse, StopReason, Usage
from .base import ContentDeltaEvent, ProviderEvent, ReplyBuilder, ThinkingDeltaEvent, ToolCallDeltaEvent
from .encoding import is_object
from .failures import FailureReader
from .untyped import as_count, as_text

_STOPS = {
    "end_turn": StopReason.STOP,
    "stop_sequence": StopReason.STOP,
    "tool_use": StopReason.TOOL_USE,
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.LENGTH,
    "refusal": StopReason.REFUSAL,
}


class _Block(Struct, gc=False):
    type: str = ""
    text: Any = None
    thinking: Any = None
    signature: Any = None
    data: Any = None
    id: Any = None
    name: Any = None
    input: Raw = Raw(b"")


class _Message(Struct, gc=False):
    type: str = ""
    model: Any = None
    content: list[_Block] | None = None
    stop_reason: Any = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _Delta(Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: Any = None


class _Event(Struct, gc=False):
    type: str
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode


class _Call:
    """A tool call as it grows. ``offered`` is the input its block began with."""

    __slots__ = ("id", "name", "offered", "pieces", "slot")

    def __init__(self, slot: int, id: str, name: str, offered: str) -> None:  # noqa: A002 - the wire's word
        self.slot = slot
        self.id = id
        self.name = name
        self.offered = offered
        self.pieces: list[str] = []

    def text(self) -> str:
        return "".join(self.pieces)


class AnthropicReply:
    """Decoder of one reply. A call of the tool ``answer_tool`` is the answer itself, as JSON text."""

    __slots__ = (
        "_answer_tool", "_answered", "_begun", "_builder", "_calls", "_failures", "_open", "_stop_reason",
        "_streamed", "_thoughts", "_usage", "done",
    )  # fmt: skip

    def __init__(self, failures: FailureReader, model: str, answer_tool: str | None = None) -> None:
        self.done = False
        self._failures = failures
        self._builder = ReplyBuilder(model)
        self._answer_tool = answer_tool
        self._answered: list[str] | None = None
        self._open: dict[int, _Call | list[str] | None] = {}
        self._calls: list[_Call] = []
        self._thoughts: list[ThinkingDeltaEvent] = []
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._streamed = True
        self._begun = False

    def feed(self, name: bytes, data: bytes) -> Sequence[ProviderEvent]:
        """One event of the stream."""
        if not data or data.isspace():
            return ()
        event = self._event(name, data)
        kind = event.type
        if kind == "content_block_delta":
            return self._grow(event)
        if kind == "content_block_start":
            return self._start(event.index, event.content_block or _Block())
        if kind == "content_block_stop":
            return self._stop(event.index)
        if kind == "message_start":
            self._note(event.message or _Message())
        elif kind == "message_delta":
            self._end(event.delta, event.usage)
        elif kind == "message_stop":
            self.done = True
        elif kind == "error":
            raise self._failures.from_error(event.error)
        return ()  # pings, and kinds that did not exist when this was written

    def whole(self, body: bytes) -> Sequence[ProviderEvent]:
        """The reply in one piece."""
        self._streamed = False
        try:
            message = _decode_message(body)
        except (ValueError, RecursionError):
            message = None
        if message is None:
            raise self._failures.malformed("sent something that is not a message", body)
        if message.type == "error" or message.error:
            raise self._failures.from_error(message.error)
        if message.content is None:
            raise self._failures.malformed("sent a reply without content", body)
        self._note(message)
        if isinstance(message.stop_reason, str):
            self._stop_reason = message.stop_reason
        events: list[ProviderEvent] = []
        for index, block in enumerate(message.content):
            events += self._start(index, block)
            events += self._stop(index)
        return events

    def finish(self) -> ChatResponse:
        """The reply. Raises MalformedReplyError when it is not complete."""
        if self._streamed and not (self._begun and (self.done or self._stop_reason) and not self._open):
            raise self._failures.malformed("ended its stream before the reply was complete", retryable=True)
        stop = _STOPS.get(self._stop_reason or "", StopReason.UNKNOWN)
        calls = self._whole_calls(stop)
        self._builder.usage = _usage(self._usage)
        if self._answered is not None and not calls:
            self._answer_only()
            self._builder.stop_reason = StopReason.STOP if stop is StopReason.TOOL_USE else stop
        else:
            self._builder.stop_reason = self._stop_with(stop, bool(calls))
        for call in self._calls:
            if call in calls:
                self._builder.call(call.slot, arguments=call.text())
            else:
                self._builder.drop_call(call.slot)
        return self._builder.build()

    # --- events -----------------------------------------------------------------------------------

    def _event(self, name: bytes, data: bytes) -> _Event:
        try:
            return _decode_event(data)
        except (ValueError, RecursionError):
            pass
        if name == b"error":
            raise self._failures.from_error({"message": data[:2000].decode("utf-8", "replace")})
        raise self._failures.malformed("sent something that is not a message event", data, retryable=True)

    def _note(self, message: _Message) -> None:
        self._begun = True
        if isinstance(message.model, str) and message.model:
            self._builder.model = message.model
        self._usage.update(message.usage or {})

    def _end(self, delta: _Delta | None, usage: dict[str, Any] | None) -> None:
        if delta is not None and isinstance(delta.stop_reason, str):
            self._stop_reason = delta.stop_reason
        self._usage.update({name: value for name, value in (usage or {}).items() if value is not None})

    def _start(self, index: int, block: _Block) -> Sequence[ProviderEvent]:
        self._open[index] = None
        if block.type == "tool_use":
            return self._start_call(index, block)
        if block.type == "text":
            return self._say(as_text(block.text))
        if block.type == "thinking":
            return self._think(ThinkingDeltaEvent(as_text(block.thinking), as_text(block.signature) or None))
        if block.type == "redacted_thinking":
            return self._think(ThinkingDeltaEvent(data=as_text(block.data)))
        return ()

    def _start_call(self, index: int, block: _Block) -> Sequence[ProviderEvent]:
        if not (isinstance(block.id, str) and block.id and isinstance(block.name, str) and block.name):
            raise self._failures.malformed("sent a tool call without id or name", retryable=True)
        offered = bytes(block.input).decode("utf-8", "replace").strip()
        if block.name == self._answer_tool:
            answer = self._open[index] = self._answered = []
            return self._answer(answer, offered) if not self._streamed or offered not in ("", "{}") else ()
        taken = {call.id for call in self._calls}
        unique, number = block.id, 2
        while unique in taken:
            unique, number = f"{block.id}_{number}", number + 1
        call = _Call(len(self._calls), unique, block.name, offered)
        self._calls.append(call)
        self._open[index] = call
        self._builder.call(call.slot, unique, block.name)
        return (ToolCallDeltaEvent(call.slot, unique, block.name),)

    def _grow(self, event: _Event) -> Sequence[ProviderEvent]:
        delta = event.delta
        if delta is None:
            return ()
        kind = delta.type
        if kind == "text_delta":
            return self._say(delta.text)
        if kind == "thinking_delta":
            return self._think(ThinkingDeltaEvent(delta.thinking))
        if kind == "signature_delta":
            return self._think(ThinkingDeltaEvent(signature=delta.signature or None))
        if kind == "input_json_delta" and delta.partial_json:
            grown = self._open.get(event.index)
            if isinstance(grown, _Call):
                grown.pieces.append(delta.partial_json)
                return (ToolCallDeltaEvent(grown.slot, None, None, delta.partial_json),)
            if grown is not None:
                return self._answer(grown, delta.partial_json)
        return ()

    def _stop(self, index: int) -> Sequence[ProviderEvent]:
        call = self._open.pop(index, None)
        if not isinstance(call, _Call) or call.pieces or call.offered in ("", "{}", "null"):
            return ()
        call.pieces.append(call.offered)
        return (ToolCallDeltaEvent(call.slot, None, None, call.offered),)

    def _say(self, text: str) -> Sequence[ProviderEvent]:
        if not text:
            return ()
        self._builder.text(text)
        return (ContentDeltaEvent(text),)

    def _think(self, thought: ThinkingDeltaEvent) -> Sequence[ProviderEvent]:
        if not (thought.delta or thought.signature or thought.data):
            return ()
        self._builder.thinking(thought.delta, signature=thought.signature, data=thought.data)
        if self._answer_tool is not None:
            self._thoughts.append(thought)
        return (thought,)

    def _answer(self, answer: list[str], piece: str) -> Sequence[ProviderEvent]:
        answer.append(piece)
        return self._say(piece)

    # --- the end ----------------------------------------------------------------------------------

    def _answer_only(self) -> None:
        """Drop what was said around the answer: a reply of a wanted shape is that JSON and nothing else."""
        answer = "".join(self._answered or ())
        if not is_object(answer):
            return
        kept = ReplyBuilder(self._builder.model)
        kept.usage = self._builder.usage
        for thought in self._thoughts:
            kept.add(thought)
        kept.text(answer)
        self._builder = kept

    def _whole_calls(self, stop: StopReason) -> list[_Call]:
        """The calls that came whole: a reply cut at its token limit may end in half a call."""
        if stop is not StopReason.LENGTH:
            return self._calls
        return [call for call in self._calls if is_object(call.text() or call.offered)]

    def _stop_with(self, stop: StopReason, called: bool) -> StopReason:
        if called:
            return stop if stop is StopReason.LENGTH else StopReason.TOOL_USE
        if stop is StopReason.TOOL_USE and self._answered is None:
            if not self._builder.build().message.text_content:
                raise self._failures.malformed("announced tool calls and sent none", retryable=True)
            return StopReason.UNKNOWN
        return stop


def _usage(usage: dict[str, Any]) -> Usage:
    read, written = (
        as_count(usage.get("cache_read_input_tokens")),
        as_count(usage.get("cache_creation_input_tokens")),
    )
    return Usage(
        as_count(usage.get("input_tokens")) + read + written,
        as_count(usage.get("output_tokens")),
        read,
        written,
    )
