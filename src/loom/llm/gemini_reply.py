"""Reading replies of the Gemini wire, whole or streamed.

A stream is a row of replies, each with the parts that are new: what a whole reply and a chunk hold is read by
the same steps, so both give the same message. Function calls come in one piece. A stream has no last event:
its end is the end of the body, for the service has told errors after the reason to finish.
Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ..folds.stops import CUT
from ..safety.sources import each_once
from ..types import (
    AudioPart,
    ChatMessage,
    ChatResponse,
    FilePart,
    ImagePart,
    OpaquePart,
    Source,
    StopReason,
    VideoPart,
)
from .base import ContentDeltaEvent, ProviderEvent, ReplyBuilder, ThinkingDeltaEvent, ToolCallDeltaEvent
from .failures import FailureReader
from .gemini_contents import ORIGIN
from .gemini_parts import fault_of_part, says_nothing
from .halves import compact, reader
from .reply_calls import CallIds, once
from .sources import of_gemini as sources_of_gemini
from .stops import later, stop_of
from .untyped import as_dict, as_text
from .usage import of_gemini

_STOPS = {
    "STOP": StopReason.STOP,
    "MAX_TOKENS": StopReason.LENGTH,
    "CONTINUATION": StopReason.LENGTH,
    "TOO_MANY_TOOL_CALLS": StopReason.LENGTH,
    "SAFETY": StopReason.CONTENT_FILTER,
    "RECITATION": StopReason.CONTENT_FILTER,
    "BLOCKLIST": StopReason.CONTENT_FILTER,
    "PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "SPII": StopReason.CONTENT_FILTER,
    "MODEL_ARMOR": StopReason.CONTENT_FILTER,
    "ESCALATION": StopReason.CONTENT_FILTER,
    "LANGUAGE": StopReason.CONTENT_FILTER,
    "IMAGE_SAFETY": StopReason.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": StopReason.CONTENT_FILTER,
    "IMAGE_RECITATION": StopReason.CONTENT_FILTER,
}
# The model wrote something the service itself could not read; asking again is what helps.
_BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})
# Ends that calls may have; any other means that the reply is not what the model meant to say.
_ORDERLY = (None, "STOP", "FINISH_REASON_UNSPECIFIED")
# Reasons that are refusals of the request, as the statuses the service has for those.
_REFUSED = {
    "MISSING_THOUGHT_SIGNATURE": (400, "INVALID_ARGUMENT"),
    "PUP_LIMITED_DISABLED": (403, "PERMISSION_DENIED"),
}
_MEDIA: dict[str, type[ImagePart | AudioPart | VideoPart]] = {
    "image": ImagePart,
    "audio": AudioPart,
    "video": VideoPart,
}


# Fields are Any where a wrong type is judged below instead of failing the decode.
class _Content(Struct, gc=False):
    parts: list[Raw] | None = None


class _Candidate(Struct, gc=False, rename="camel"):
    index: Any = 0
    content: _Content | None = None
    finish_reason: Any = None
    finish_message: Any = None
    grounding_metadata: Any = None
    citation_metadata: Any = None
    url_context_metadata: Any = None


class _Chunk(Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: Any = None
    usage_metadata: Any = None
    model_version: Any = None
    error: Any = None


class _Call(Struct, gc=False, rename="camel"):
    id: Any = None
    name: Any = None
    args: Raw = Raw(b"")
    partial_args: Any = None
    will_continue: Any = None


class _Blob(Struct, gc=False, rename="camel"):
    mime_type: Any = None
    data: Any = None


class _Part(Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: Any = None
    thought_signature: str | None = None
    function_call: _Call | None = None
    inline_data: _Blob | None = None


_decode_chunks = reader(msgspec.json.Decoder(_Chunk | list[_Chunk]).decode)
_decode_part = reader(msgspec.json.Decoder(_Part).decode)
_decode_fields = reader(msgspec.json.Decoder(dict[str, Any]).decode)


class GeminiReply:
    """Decoder of one reply. ``history`` is the conversation asked about, for ids that do not repeat in it."""

    __slots__ = (
        "_blocked", "_builder", "_called", "_failures", "_finish", "_ids", "_searched", "_seen", "_sources",
        "_streamed", "_usage",
        "done",
    )  # fmt: skip

    def __init__(self, failures: FailureReader, model: str, history: Sequence[ChatMessage] = ()) -> None:
        self.done = False
        self._failures = failures
        self._builder = ReplyBuilder(model)
        self._ids = CallIds(history)
        self._called = 0
        self._usage: dict[str, Any] = {}
        self._searched: Any = None
        self._sources: list[Source] = []
        self._finish: str | None = None
        self._streamed = True
        self._blocked = self._seen = False

    @property
    def ending(self) -> bool:
        """Whether the service gave its reason to finish. More may follow: other parts, or an error."""
        return self._finish is not None or self._blocked

    def feed(self, name: bytes, data: bytes) -> Sequence[ProviderEvent]:
        """One event of the stream."""
        if not data or data.isspace():
            return ()
        if data.startswith(b"[DONE]"):  # the service has no such word, but gateways before it do
            self.done = True
            return ()
        chunks = self._chunks(data, retryable=True)
        if len(chunks) == 1:
            return self._take(chunks[0])
        return [event for chunk in chunks for event in self._take(chunk)]

    def whole(self, body: bytes) -> Sequence[ProviderEvent]:
        """The reply in one piece, or all chunks of a stream in an array."""
        self._streamed = body.lstrip().startswith(b"[")
        return [event for chunk in self._chunks(body, retryable=False) for event in self._take(chunk)]

    def finish(self) -> ChatResponse:
        """The reply. Raises MalformedReplyError when it is not complete."""
        if self._streamed and not self.ending:
            raise self._failures.malformed("ended its stream before the reply was complete", retryable=True)
        if not (self._seen or self._blocked):
            raise self._failures.malformed("sent a reply without candidates")
        self._builder.usage = of_gemini(self._usage, self._searched, self._builder.model)
        self._builder.sources = each_once(self._sources)
        stop = StopReason.CONTENT_FILTER if self._blocked else stop_of(self._finish, _STOPS)
        if self._called and stop not in CUT:
            if self._finish not in _ORDERLY:
                raise self._failures.malformed(f"gave up on its reply ({self._finish})", retryable=True)
            stop = StopReason.TOOL_USE  # the wire has no reason of its own for it
        self._builder.stop_reason = stop
        response = once(self._builder.build())
        if not (self.ending or self._called or response.message.content):
            raise self._failures.malformed("sent a candidate with nothing in it")
        return response

    # --- chunks -----------------------------------------------------------------------------------

    def _chunks(self, data: bytes, *, retryable: bool) -> list[_Chunk]:
        try:
            chunks = _decode_chunks(data)
            return [chunks] if isinstance(chunks, _Chunk) else chunks
        except (ValueError, RecursionError):
            pass
        raise self._failures.malformed("sent something that is no Gemini reply", data, retryable=retryable)

    def _take(self, chunk: _Chunk) -> Sequence[ProviderEvent]:
        if chunk.error:
            raise self._failures.from_error(chunk.error)
        if chunk.usage_metadata:
            # Every count stands for the reply so far; a chunk may leave out those that did not change.
            self._usage.update(as_dict(chunk.usage_metadata))
        if chunk.model_version and isinstance(chunk.model_version, str):
            self._builder.model = chunk.model_version
        if as_dict(chunk.prompt_feedback).get("blockReason"):
            self._blocked = True
        candidate = next((item for item in chunk.candidates or () if item.index in (0, None)), None)
        if candidate is None:
            return ()
        self._seen = True
        self._searched = candidate.grounding_metadata or self._searched
        events: list[ProviderEvent] = []
        for raw in (candidate.content and candidate.content.parts) or ():
            self._part(raw, events)
        said = (candidate.grounding_metadata, candidate.citation_metadata, candidate.url_context_metadata)
        if any(said):
            self._sources += sources_of_gemini(*said)
        if candidate.finish_reason and isinstance(candidate.finish_reason, str):
            self._end(candidate.finish_reason, as_text(candidate.finish_message))
        return events

    def _end(self, reason: str, said: str) -> None:
        if reason in _BROKEN:
            more = f": {said}" if said else ""
            raise self._failures.malformed(f"gave up on its reply ({reason}){more}", retryable=True)
        if reason in _REFUSED:
            code, status = _REFUSED[reason]
            raise self._failures.from_error({"code": code, "status": status, "message": said or reason})
        self._finish = later(self._finish, reason, _STOPS)

    # --- parts ------------------------------------------------------------------------------------

    def _part(self, raw: Raw, events: list[ProviderEvent]) -> None:
        try:
            part = _decode_part(raw)
            if part.function_call is not None:
                events.append(self._call(part.function_call, part.thought_signature))
            elif part.inline_data is not None and not part.thought:
                self._media(part.inline_data)
                self._sign(part.thought_signature, events)
            elif part.text is not None and part.inline_data is None:
                self._text(part, part.text, events)
            else:
                self._other(raw, part.thought_signature, events)
            return
        except (ValueError, RecursionError):
            pass
        raise self._failures.malformed("sent a part that cannot be read", bytes(raw), retryable=True)

    def _other(self, raw: Raw, signature: str | None, events: list[ProviderEvent]) -> None:
        """A part that only the service understands, or nothing but a signature."""
        fields = _decode_fields(raw)
        if (fault := fault_of_part(fields)) is not None:
            raise self._failures.malformed(f"sent {fault}", bytes(raw), retryable=True)
        if says_nothing(fields):
            self._sign(signature, events)
        else:
            self._builder.part(OpaquePart(ORIGIN, compact(bytes(raw))))

    def _text(self, part: _Part, text: str, events: list[ProviderEvent]) -> None:
        if part.thought:
            if text or part.thought_signature:
                thought = ThinkingDeltaEvent(text, part.thought_signature, None, ORIGIN)
                self._builder.add(thought)
                events.append(thought)
            return
        if text:
            self._builder.text(text)
            events.append(ContentDeltaEvent(text))
        self._sign(part.thought_signature, events)

    def _sign(self, signature: str | None, events: list[ProviderEvent]) -> None:
        """Keep the signature of a part that is no thought itself: it follows that part."""
        if signature:
            signed = ThinkingDeltaEvent("", signature, None, ORIGIN)
            self._builder.add(signed)
            events.append(signed)

    def _media(self, blob: _Blob) -> None:
        kind, data = as_text(blob.mime_type).lower(), as_text(blob.data).translate(_FROM_URL_SAFE)
        if "/" not in kind or not data:
            raise self._failures.malformed("sent media without type or data", retryable=True)
        data += "=" * (-len(data) % 4)
        self._builder.part(_MEDIA.get(kind.partition("/")[0], FilePart)(f"data:{kind};base64,{data}", kind))

    def _call(self, call: _Call, signature: str | None) -> ToolCallDeltaEvent:
        name = as_text(call.name)
        if call.partial_args is not None or call.will_continue:
            raise self._failures.malformed("sent a tool call in pieces, which nobody asked for")
        if not name:
            raise self._failures.malformed("sent a tool call without a name", retryable=True)
        arguments = "{}" if bytes(call.args) in (b"", b"null") else compact(bytes(call.args))
        index, unique = self._called, self._ids.take(as_text(call.id))
        self._called += 1
        self._builder.call(index, unique, name, arguments, signature)
        return ToolCallDeltaEvent(index, unique, name, arguments)


_FROM_URL_SAFE = str.maketrans("-_", "+/")
