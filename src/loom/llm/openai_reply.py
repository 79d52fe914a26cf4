"""Reading replies of the OpenAI chat completions wire, whole or streamed, from any vendor that speaks it.

Only the wanted fields are decoded. Lenient where servers differ (nulls, missing indexes and ids, arguments
as objects, two names for reasoning), strict where a mistake would look like a reply: no choices, a stream
that was cut, half a tool call.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ..folds.stops import CUT
from ..safety.sources import each_once
from ..types import AudioPart, ChatMessage, ChatResponse, ImagePart, Source, StopReason
from .base import ContentDeltaEvent, ProviderEvent, ReplyBuilder, ThinkingDeltaEvent
from .encoding import encode, is_object
from .failures import FailureReader
from .halves import reader
from .openai_calls import Call, Calls, Slot
from .openai_reasoning import ORIGIN, ReasoningDetails
from .reply_calls import once
from .sources import of_chat as sources_of_chat
from .sources import sources_in
from .stops import later, stop_of
from .untyped import as_dict, as_list, as_text, is_dict, is_list
from .usage import of_chat

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
    "model_length": StopReason.CONTEXT_FULL,
    "model_context_window_exceeded": StopReason.CONTEXT_FULL,
    "content_filter": StopReason.CONTENT_FILTER,
    "sensitive": StopReason.CONTENT_FILTER,
    "refusal": StopReason.REFUSAL,
}
# What DeepSeek, Z.ai and vLLM say when they could not go on; asking again may help.
_GAVE_UP = frozenset({"insufficient_system_resource", "network_error", "abort"})


# Fields are Any where servers differ: a wrong type there is judged below instead of failing the decode.
class _Delta(Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: list[Call] | None = None
    images: Any = None
    audio: Any = None
    annotations: Any = None
    executed_tools: Any = None
    citations: Any = None


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
    x_groq: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    citations: Any = None
    search_results: Any = None
    web_search: Any = None
    search_info: Any = None


_decode = reader(msgspec.json.Decoder(_Chunk).decode)


class OpenAIReply:
    """Decoder of one reply.

    ``history`` is the conversation asked about, for ids that do not repeat in it; ``audio_type`` the media type
    of sound, if any was asked for.
    """

    __slots__ = (
        "_audio", "_audio_type", "_builder", "_calls", "_details", "_failures", "_finish", "_refused",
        "_seen", "_sources", "_streamed", "_usage", "done",
    )  # fmt: skip

    def __init__(
        self,
        failures: FailureReader,
        model: str,
        history: Sequence[ChatMessage] = (),
        audio_type: str = "",
    ) -> None:
        self.done = False
        self._failures = failures
        self._builder = ReplyBuilder(model)
        self._calls = Calls(history)
        self._details: ReasoningDetails | None = None
        self._audio: list[bytes] = []
        self._audio_type = audio_type
        self._finish: str | None = None
        self._usage: Any = None
        self._sources: list[Source] = []
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
        stop = StopReason.REFUSAL if self._refused else stop_of(self._finish, _STOPS)
        if self._audio:
            source = f"data:{self._audio_type};base64,{base64.b64encode(b''.join(self._audio)).decode()}"
            self._builder.part(AudioPart(source, self._audio_type))
        if self._details is not None:
            if not self._details.sound:
                raise self._failures.malformed("sent reasoning details that are none", retryable=True)
            if (part := self._details.part()) is not None:
                self._builder.part(part)
        calls = self._whole_calls(stop)
        for position, slot in enumerate(calls):
            self._builder.call(position, slot.id, slot.name, slot.text(), slot.signature)
        self._builder.usage = of_chat(self._usage, self._builder.model)
        self._builder.sources = each_once(self._sources)
        self._builder.stop_reason = self._stop(stop, bool(calls))
        return once(self._builder.build())

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
        elif chunk.x_groq:
            self._usage = as_dict(chunk.x_groq).get("usage") or self._usage
        if chunk.model and isinstance(chunk.model, str):
            self._builder.model = chunk.model
        if chunk.citations or chunk.search_results or chunk.web_search or chunk.search_info:
            self._sources += sources_of_chat(
                {
                    "citations": chunk.citations,
                    "search_results": chunk.search_results,
                    "web_search": chunk.web_search,
                    "search_info": chunk.search_info,
                }
            )
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
            self._end(choice.finish_reason)
        return choice

    def _end(self, reason: str) -> None:
        self._finish = later(self._finish, reason, _STOPS)
        if reason == "error":
            raise self._failures.malformed("gave up on its reply (finish_reason error)", retryable=True)
        if reason in _GAVE_UP:
            said = {"type": "server_error", "code": reason, "message": "it broke off its reply"}
            raise self._failures.from_error(said)

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
        if delta.refusal:
            if not isinstance(delta.refusal, str):
                raise self._failures.malformed("sent a refusal that is no text", retryable=True)
            self._refused = True
            self._text(delta.refusal, events)
        if delta.tool_calls:
            events += [self._calls.add(call, whole=whole) for call in delta.tool_calls]
        if delta.reasoning_details:
            self._details = self._details or ReasoningDetails()
            self._details.add(delta.reasoning_details)
        if delta.annotations or delta.executed_tools or delta.citations:
            told = {"annotations": delta.annotations, "executed_tools": delta.executed_tools}
            self._sources += sources_of_chat({**told, "citations": delta.citations})
        if delta.images or delta.audio:
            self._media(delta, events)
        return events

    def _text(self, text: str, events: list[ProviderEvent]) -> None:
        self._builder.text(text)
        events.append(ContentDeltaEvent(text))

    def _thinking(self, text: str, events: list[ProviderEvent]) -> None:
        self._builder.thinking(text, origin=ORIGIN)
        events.append(ThinkingDeltaEvent(text, origin=ORIGIN))

    def _parts(self, content: Any, events: list[ProviderEvent]) -> None:
        """Content as a list of parts (Mistral): text, and thinking that holds text parts of its own."""
        if not is_list(content):
            raise self._failures.malformed(f"sent content of type {type(content).__name__}")
        for part in content:
            if not (isinstance(part, str) or (is_dict(part) and _is_sound(part))):
                raise self._failures.malformed(
                    "sent a part that cannot be read", encode(part), retryable=True
                )
            if as_text(as_dict(part).get("type")) in ("tool_reference", "reference"):
                self._sources += sources_in([part])
                continue
            thought = as_dict(part).get("thinking")
            for inner in as_list(thought) or [thought]:
                if said := as_text(as_dict(inner).get("text")) or as_text(inner):
                    self._thinking(said, events)
            if text := as_text(as_dict(part).get("text")) or as_text(part):
                self._text(text, events)

    def _media(self, delta: _Delta, events: list[ProviderEvent]) -> None:
        """Pictures (OpenRouter) as they come; sound (OpenAI) in pieces, with what it says as text."""
        for image in as_list(delta.images) or ([delta.images] if delta.images else ()):
            url = as_text(as_dict(as_dict(image).get("image_url")).get("url"))
            if not url:
                raise self._failures.malformed("sent a picture without address", retryable=True)
            self._builder.part(ImagePart(url, _type_of(url)))
        audio = as_dict(delta.audio)
        if not all(isinstance(audio.get(name), str | None) for name in ("transcript", "data")):
            raise self._failures.malformed("sent sound that is none", retryable=True)
        if said := as_text(audio.get("transcript")):
            self._text(said, events)
        if sound := as_text(audio.get("data")):
            try:
                self._audio.append(base64.b64decode(sound, validate=True))
            except ValueError:
                raise self._failures.malformed("sent sound that is not base64", retryable=True) from None

    # --- the end ----------------------------------------------------------------------------------

    def _whole_calls(self, stop: StopReason) -> list[Slot]:
        """The calls that came whole: a reply that was cut may end in half a call."""
        cut = stop in CUT
        calls = [slot for slot in self._calls.slots if not cut or (slot.name and is_object(slot.text()))]
        unsure = self._streamed and self._finish is None
        for slot in calls:
            if not slot.name or (unsure and slot.arguments and not is_object(slot.text())):
                raise self._failures.malformed("sent half a tool call", slot.text().encode(), retryable=True)
        return calls

    def _stop(self, stop: StopReason, called: bool) -> StopReason:
        if called:
            return stop if stop in CUT else StopReason.TOOL_USE
        if stop is not StopReason.TOOL_USE:
            return stop
        if not self._builder.build().message.text_content:
            raise self._failures.malformed("announced tool calls and sent none", retryable=True)
        return StopReason.UNKNOWN


def _is_sound(part: dict[str, Any]) -> bool:
    """Whether a part of a kind we know holds its text."""
    if part.get("type") == "text":
        return isinstance(part.get("text"), str)
    if part.get("type") != "thinking":
        return True
    thought = part.get("thinking")
    inner = thought if is_list(thought) else [thought]
    return all(isinstance(as_dict(item).get("text") if is_dict(item) else item, str) for item in inner)


def _type_of(url: str) -> str:
    return url.removeprefix("data:").partition(";")[0] if url.startswith("data:") else ""
