"""Reading replies of the Anthropic Messages wire, whole or streamed.

A whole reply is a list of blocks; a stream is the same blocks begun, grown and stopped. Both go through the
same three steps here, so both give the same message. Thinking keeps its signature, redacted thinking its
data, byte for byte: they must go back untouched. What only the service understands is ``anthropic_opaque``.
Source: https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from ..folds.stops import CUT
from ..safety.display import encodable, whole_escapes
from ..safety.sources import each_once
from ..types import ChatResponse, OpaquePart, Source, StopReason, ThinkingPart
from .anthropic_events import (
    Block,
    Delta,
    Message,
    StreamEvent,
    decode_any,
    decode_block,
    decode_event,
    decode_message,
)
from .anthropic_opaque import ORIGIN, OpaqueBlock, TextRun, call_extras, container_part, fault_of_block
from .base import ContentDeltaEvent, ProviderEvent, ReplyBuilder, ThinkingDeltaEvent, ToolCallDeltaEvent
from .encoding import is_object
from .failures import FailureReader
from .reply_calls import once
from .sources import of_block, sources_in
from .stops import later, stop_of
from .untyped import as_dict, as_text, is_dict, is_list
from .usage import of_anthropic

_STOPS = {
    "end_turn": StopReason.STOP,
    "stop_sequence": StopReason.STOP,
    "tool_use": StopReason.TOOL_USE,
    "max_tokens": StopReason.LENGTH,
    "model_context_window_exceeded": StopReason.CONTEXT_FULL,
    "refusal": StopReason.REFUSAL,
    "pause_turn": StopReason.PAUSED,
    "compaction": StopReason.PAUSED,
}


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
        "_answer_tool", "_answered", "_begun", "_builder", "_calls", "_container", "_failures", "_open",
        "_run", "_sources", "_stop_reason", "_streamed", "_usage", "done",
    )  # fmt: skip

    def __init__(self, failures: FailureReader, model: str, answer_tool: str | None = None) -> None:
        self.done = False
        self._failures = failures
        self._builder = ReplyBuilder(model)
        self._answer_tool = answer_tool
        self._answered: list[str] | None = None
        self._open: dict[int, _Call | OpaqueBlock | list[str] | None] = {}
        self._calls: list[_Call] = []
        self._run = TextRun()
        self._usage: dict[str, Any] = {}
        self._sources: list[Source] = []
        self._container: Any = None
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
            return self._grow(event, data)
        if kind == "content_block_start":
            return self._start(event.index, event.content_block)
        if kind == "content_block_stop":
            return self._stop(event.index)
        if kind == "message_start":
            self._note(event.message or Message())
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
            message = decode_message(body)
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
        self._end_text()
        stop = stop_of(self._stop_reason, _STOPS)
        calls = self._calls if stop not in CUT else [call for call in self._calls if _is_whole(call)]
        for call in self._calls:
            if call in calls:
                self._builder.call(call.slot, arguments=call.text())
            else:
                self._builder.drop_call(call.slot)
        if self._answered is not None and not calls:
            self._answer_only()
            self._builder.stop_reason = StopReason.STOP if stop is StopReason.TOOL_USE else stop
        else:
            self._builder.stop_reason = self._stop_with(stop, bool(calls))
        self._builder.usage = of_anthropic(self._usage)
        self._builder.sources = each_once(self._sources)
        unfinished = self._builder.stop_reason in (StopReason.TOOL_USE, StopReason.PAUSED)
        if unfinished and (container := container_part(self._container)) is not None:
            self._builder.part(container)
        return once(self._builder.build())

    # --- events -----------------------------------------------------------------------------------

    def _event(self, name: bytes, data: bytes) -> StreamEvent:
        try:
            return decode_event(data)
        except (ValueError, RecursionError):
            pass
        if name == b"error":
            raise self._failures.from_reply(0, {}, data)
        raise self._failures.malformed("sent something that is not a message event", data, retryable=True)

    def _note(self, message: Message) -> None:
        self._begun = True
        if isinstance(message.model, str) and message.model:
            self._builder.model = message.model
        self._container = message.container
        self._usage.update(message.usage or {})

    def _end(self, delta: Delta | None, usage: dict[str, Any] | None) -> None:
        if delta is not None and isinstance(delta.stop_reason, str):
            self._stop_reason = later(self._stop_reason, delta.stop_reason, _STOPS)
        if delta is not None and delta.container:
            self._container = delta.container
        self._usage.update({name: value for name, value in (usage or {}).items() if value is not None})

    def _start(self, index: int, raw: Raw) -> Sequence[ProviderEvent]:
        try:
            block = decode_block(raw)
        except (ValueError, RecursionError):
            block = None
        if block is None:
            raise self._failures.malformed(
                "sent something that is not a block", bytes(raw), retryable=self._streamed
            )
        self._open[index] = None
        if (fault := self._fault(block)) is not None:
            raise self._failures.malformed(f"sent {fault}", bytes(raw), retryable=True)
        if block.type == "text":
            self._run.begin(block.citations)
            self._sources += sources_in(block.citations)
            return self._say(as_text(block.text))
        self._end_text()
        if block.type == "tool_use":
            return self._start_call(index, block)
        if block.type == "thinking":
            return self._think(as_text(block.thinking), as_text(block.signature) or None)
        if block.type == "redacted_thinking":
            return self._think(data=as_text(block.data) or None)
        if block.type:
            self._open[index] = OpaqueBlock(bytes(raw))
        return ()

    def _fault(self, block: Block) -> str | None:
        """What is wrong with a block that this wire reads itself. A stream may begin one without its text."""
        blank = (UNSET,) if self._streamed else ()
        if block.type == "text":
            cited = block.citations is None or (
                is_list(block.citations) and all(map(is_dict, block.citations))
            )
            sound = cited and (isinstance(block.text, str) or block.text in blank)
        elif block.type == "thinking":
            sound = isinstance(block.thinking, str) or block.thinking in blank
            sound = sound and isinstance(block.signature, str | None)
        else:
            sound = block.type != "redacted_thinking" or bool(as_text(block.data))
        return None if sound else f"a block of type {block.type} with content that cannot be"

    def _start_call(self, index: int, block: Block) -> Sequence[ProviderEvent]:
        if not (isinstance(block.id, str) and block.id and isinstance(block.name, str) and block.name):
            raise self._failures.malformed("sent a tool call without id or name", retryable=True)
        offered = bytes(block.input).decode("utf-8", "replace").strip()
        if block.name == self._answer_tool:
            answer = self._open[index] = self._answered = []
            return self._answer(answer, offered) if not self._streamed or offered not in ("", "{}") else ()
        call = _Call(len(self._calls), block.id, block.name, offered)
        self._calls.append(call)
        self._open[index] = call
        extras = call_extras(block.caller, block.toolset_name)
        self._builder.call(call.slot, call.id, call.name, signature=extras)
        return (ToolCallDeltaEvent(call.slot, call.id, call.name),)

    def _grow(self, event: StreamEvent, data: bytes) -> Sequence[ProviderEvent]:
        delta = event.delta
        if delta is None:
            return ()
        kind = delta.type
        if kind == "text_delta":
            return self._say(delta.text)
        if kind == "thinking_delta":
            return self._think(delta.thinking)
        if kind == "signature_delta":
            return self._think(signature=delta.signature or None)
        grown = self._open.get(event.index)
        if isinstance(grown, OpaqueBlock):
            grown.grow(as_dict(as_dict(decode_any(data)).get("delta")))
        elif kind == "citations_delta":
            if not is_dict(delta.citation):
                raise self._failures.malformed("sent a citation that is none", data, retryable=True)
            self._run.cite(delta.citation)
            self._sources += sources_in([delta.citation])
        elif kind == "input_json_delta" and delta.partial_json and grown is not None:
            if not isinstance(grown, _Call):
                return self._answer(grown, delta.partial_json)
            grown.pieces.append(delta.partial_json)
            return (ToolCallDeltaEvent(grown.slot, None, None, delta.partial_json),)
        return ()

    def _stop(self, index: int) -> Sequence[ProviderEvent]:
        block = self._open.pop(index, None)
        if isinstance(block, OpaqueBlock) and (part := block.part()) is not None:
            told = as_dict(msgspec.json.decode(part.data))
            if (fault := fault_of_block(told)) is not None:
                raise self._failures.malformed(f"sent {fault}", part.data.encode(), retryable=True)
            self._sources += of_block(told)
            self._builder.part(part)
        if not isinstance(block, _Call) or block.pieces or block.offered in ("", "{}", "null"):
            return ()
        block.pieces.append(block.offered)
        return (ToolCallDeltaEvent(block.slot, None, None, block.offered),)

    def _say(self, text: str) -> Sequence[ProviderEvent]:
        if not text:
            return ()
        self._run.pieces.append(text)
        self._builder.text(text)
        return (ContentDeltaEvent(text),)

    def _think(
        self, text: str = "", signature: str | None = None, data: str | None = None
    ) -> Sequence[ProviderEvent]:
        if not (text or signature or data):
            return ()
        self._builder.thinking(text, signature=signature, data=data, origin=ORIGIN)
        return (ThinkingDeltaEvent(text, signature, data, ORIGIN),)

    def _answer(self, answer: list[str], piece: str) -> Sequence[ProviderEvent]:
        answer.append(piece)
        return self._say(piece)

    def _end_text(self) -> None:
        if (part := self._run.end()) is not None:
            self._builder.part(part)

    # --- the end ----------------------------------------------------------------------------------

    def _answer_only(self) -> None:
        """Drop what was said around the answer: a reply of a wanted shape is that JSON and nothing else."""
        answer = whole_escapes(encodable("".join(self._answered or ())))
        if not is_object(answer):
            return
        said = self._builder.build().message.content
        kept = ReplyBuilder(self._builder.model)
        for part in () if said is None or isinstance(said, str) else said:
            if isinstance(part, ThinkingPart) or (isinstance(part, OpaquePart) and part.data[0] == "{"):
                kept.part(part)
        kept.text(answer)
        self._builder = kept

    def _stop_with(self, stop: StopReason, called: bool) -> StopReason:
        if called:
            return stop if stop in CUT else StopReason.TOOL_USE
        if stop is StopReason.TOOL_USE and self._answered is None:
            if not self._builder.build().message.text_content:
                raise self._failures.malformed("announced tool calls and sent none", retryable=True)
            return StopReason.UNKNOWN
        return stop


def _is_whole(call: _Call) -> bool:
    return is_object(call.text() or call.offered)
