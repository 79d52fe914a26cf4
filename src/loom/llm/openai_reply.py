"""Reading replies of the OpenAI chat completions wire, whole or streamed, from any vendor that speaks it.

Only the wanted fields are decoded. Lenient where servers differ (nulls, missing indexes and ids, arguments
as objects, two names for reasoning), strict where a mistake would look like a reply: no choices, a stream
that was cut, half a tool call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ..types import ChatMessage, ChatResponse, StopReason, Usage
from .base import ContentDeltaEvent, ProviderEvent, ReplyBuilder, ThinkingDeltaEvent, ToolCallDeltaEvent
from .encoding import is_object
from .failures import FailureReader
from .reply_calls import CallIds, argument_text
from .untyped import as_count, as_dict, as_list, as_text, is_list

_STOPS = {
    "stop": StopReason.STOP,
    "stop_sequence": StopReason.STOP,
    "end_turn": StopReason.STOP,
    "eos": StopReason.STOP,
    "tool_calls": StopReason.TOOL_USE,
    "function_call": StopReason.TOOL_USE,
    "tool_use": StopReason.TOOL_USE,
    "length": StopReason.LENGTH,
    "max_tokens": StopReason.LENGTH,
    "model_length": StopReason.LENGTH,
    "content_filter": StopReason.CONTENT_FILTER,
    "refusal": StopReason.REFUSAL,
}


# Fields are Any where servers differ: a wrong type there is judged below instead of failing the decode.
class _Function(Struct, gc=False):
    name: Any = None
    arguments: Any = None


class _Call(Struct, gc=False):
    index: Any = None
    id: Any = None
    function: _Function | None = None


class _Delta(Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct, gc=False):
    index: Any = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: Any = None
    error: Any = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    model: Any = None
    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class _Slot:
    """A tool call as it grows. ``said_id`` is the id the service gave, ``id`` the one that is unique."""

    __slots__ = ("arguments", "id", "name", "said_id")

    def __init__(self, said_id: str | None, unique: str) -> None:
        self.said_id = said_id
        self.id = unique
        self.name = ""
        self.arguments: list[str] = []

    def text(self) -> str:
        return "".join(self.arguments)


class OpenAIReply:
    """Decoder of one reply. ``history`` is the conversation asked about, for ids that do not repeat in it."""

    __slots__ = (
        "_builder", "_by_index", "_failures", "_finish", "_ids", "_refused", "_seen", "_slots", "_streamed",
        "_usage", "done",
    )  # fmt: skip

    def __init__(self, failures: FailureReader, model: str, history: Sequence[ChatMessage] = ()) -> None:
        self.done = False
        self._failures = failures
        self._builder = ReplyBuilder(model)
        self._ids = CallIds(history)
        self._slots: list[_Slot] = []
        self._by_index: dict[int, _Slot] = {}
        self._finish: str | None = None
        self._usage: Any = None
        self._streamed = True
        self._seen = self._refused = False

    def feed(self, name: bytes, data: bytes) -> Sequence[ProviderEvent]:
        """One event of the stream."""
        if data.startswith(b"[DONE]"):
            self.done = True
            return ()
        if not data or data.isspace():
            return ()
        chunk = self._chunk(data, retryable=True)
        if chunk.error or chunk.object == "error" or name == b"error":
            raise self._reported(chunk, data)
        choice = self._take(chunk)
        delta = choice and (choice.delta or choice.message)
        return self._delta(delta, whole=False) if delta else ()

    def whole(self, body: bytes) -> Sequence[ProviderEvent]:
        """The reply in one piece."""
        self._streamed = False
        chunk = self._chunk(body, retryable=False)
        if chunk.error or chunk.object == "error":
            raise self._reported(chunk, body)
        choice = self._take(chunk)
        message = choice and (choice.message or choice.delta)
        return self._delta(message, whole=True) if message else ()

    def finish(self) -> ChatResponse:
        """The reply. Raises MalformedReplyError when it is not complete."""
        truncated = self._streamed and not self.done and self._finish is None
        if truncated or (self._streamed and not self._seen):
            raise self._failures.malformed("ended its stream before the reply was complete", retryable=True)
        if not self._seen:
            raise self._failures.malformed("sent a reply without choices")
        stop = _STOPS.get(self._finish or "", StopReason.UNKNOWN)
        calls = self._whole_calls(stop)
        for position, slot in enumerate(calls):
            self._builder.call(position, slot.id, slot.name, slot.text())
        self._builder.usage = _usage(self._usage)
        self._builder.stop_reason = self._stop(stop, bool(calls))
        return self._builder.build()

    # --- chunks -----------------------------------------------------------------------------------

    def _chunk(self, data: bytes, *, retryable: bool) -> _Chunk:
        try:
            return _decode(data)
        except (ValueError, RecursionError):
            pass
        raise self._failures.malformed(
            "sent something that is not a chat completion", data, retryable=retryable
        )

    def _reported(self, chunk: _Chunk, data: bytes) -> Exception:
        if chunk.error and chunk.error is not True:
            return self._failures.from_error(chunk.error)
        try:
            return self._failures.from_error(msgspec.json.decode(data))
        except (ValueError, RecursionError):
            return self._failures.malformed("reported an error", data)

    def _take(self, chunk: _Chunk) -> _Choice | None:
        """Note what stands beside the text, and return the first choice."""
        if chunk.usage:
            self._usage = chunk.usage
        if chunk.model and isinstance(chunk.model, str):
            self._builder.model = chunk.model
        if not chunk.choices:
            return None
        for choice in chunk.choices:
            if choice.index in (0, None):
                break
        else:
            return None
        self._seen = True
        if choice.error:
            raise self._failures.from_error(choice.error)
        if choice.finish_reason and isinstance(choice.finish_reason, str):
            self._finish = choice.finish_reason
            if self._finish == "error":
                raise self._failures.malformed("gave up on its reply (finish_reason error)", retryable=True)
        return choice

    def _delta(self, delta: _Delta, *, whole: bool) -> Sequence[ProviderEvent]:
        content = delta.content
        events: list[ProviderEvent] = []
        thought = delta.reasoning_content or delta.reasoning
        if thought and isinstance(thought, str):
            self._thinking(thought, events)
        if content:
            if isinstance(content, str):
                self._builder.text(content)
                events.append(ContentDeltaEvent(content))
            else:
                self._parts(content, events)
        if delta.refusal and isinstance(delta.refusal, str):
            self._refused = True
            self._text(delta.refusal, events)
        if delta.tool_calls:
            events += [self._call(call, whole) for call in delta.tool_calls]
        return events

    def _text(self, text: str, events: list[ProviderEvent]) -> None:
        self._builder.text(text)
        events.append(ContentDeltaEvent(text))

    def _thinking(self, text: str, events: list[ProviderEvent]) -> None:
        self._builder.thinking(text)
        events.append(ThinkingDeltaEvent(text))

    def _parts(self, content: Any, events: list[ProviderEvent]) -> None:
        """Content as a list of parts (Mistral): text, and thinking that holds text parts of its own."""
        if not is_list(content):
            raise self._failures.malformed(f"sent content of type {type(content).__name__}")
        for part in content:
            thought = as_dict(part).get("thinking")
            for inner in as_list(thought) or [thought]:
                if said := as_text(as_dict(inner).get("text")) or as_text(inner):
                    self._thinking(said, events)
            if text := as_text(as_dict(part).get("text")) or as_text(part):
                self._text(text, events)

    # --- tool calls -------------------------------------------------------------------------------

    def _call(self, call: _Call, whole: bool) -> ToolCallDeltaEvent:
        name = call.function.name if call.function and isinstance(call.function.name, str) else ""
        arguments = argument_text(call.function.arguments if call.function else None)
        slot = None if whole else self._growing(call, name, arguments)
        if slot is None:
            slot = self._open(call)
        if name:
            slot.name = name
        if arguments:
            slot.arguments.append(arguments)
        return ToolCallDeltaEvent(self._slots.index(slot), slot.id, name or None, arguments or None)

    def _growing(self, call: _Call, name: str, arguments: str) -> _Slot | None:
        """The call this piece belongs to, or None when it begins a new one."""
        slot: _Slot | None = None
        if isinstance(call.index, int):
            slot = self._by_index.get(call.index)
        elif call.id and isinstance(call.id, str):
            slot = next((slot for slot in reversed(self._slots) if slot.said_id == call.id), None)
            if slot is None and not name and self._slots:
                slot = self._slots[-1]
        elif not name and self._slots:
            slot = self._slots[-1]
        if slot is None or not name:
            return slot
        # Some servers number every parallel call 0, or none: a name with another id, or arguments that
        # begin again after a complete object, are the next call.
        other = bool(call.id) and slot.said_id is not None and call.id != slot.said_id
        again = arguments.startswith("{") and bool(slot.arguments) and is_object(slot.text())
        return None if other or again else slot

    def _open(self, call: _Call) -> _Slot:
        said = call.id if call.id and isinstance(call.id, str) else None
        slot = _Slot(said, self._ids.take(said))
        self._slots.append(slot)
        if isinstance(call.index, int):
            self._by_index[call.index] = slot
        return slot

    def _whole_calls(self, stop: StopReason) -> list[_Slot]:
        """The calls that came whole: a reply cut at its token limit may end in half a call."""
        cut = stop in (StopReason.LENGTH, StopReason.CONTENT_FILTER)
        calls = [slot for slot in self._slots if not cut or (slot.name and is_object(slot.text()))]
        unsure = self._streamed and self._finish is None
        for slot in calls:
            if not slot.name or (unsure and slot.arguments and not is_object(slot.text())):
                raise self._failures.malformed("sent half a tool call", slot.text().encode(), retryable=True)
        return calls

    def _stop(self, stop: StopReason, called: bool) -> StopReason:
        if called:
            return stop if stop is StopReason.LENGTH else StopReason.TOOL_USE
        if self._refused:
            return StopReason.REFUSAL
        if stop is not StopReason.TOOL_USE:
            return stop
        if not self._builder.build().message.text_content:
            raise self._failures.malformed("announced tool calls and sent none", retryable=True)
        return StopReason.UNKNOWN


def _usage(usage: Any) -> Usage:
    counted = as_dict(usage)
    detail = as_dict(counted.get("prompt_tokens_details"))
    return Usage(
        as_count(counted.get("prompt_tokens")),
        as_count(counted.get("completion_tokens")),
        as_count(detail.get("cached_tokens") or counted.get("prompt_cache_hit_tokens")),
        as_count(detail.get("cache_write_tokens")),
    )
