"""Reading replies of OpenAI's Responses API, whole or streamed, from any service that speaks it.

A stream shows the reply as it grows and then tells it whole in its last event. What was shown is passed on; the
reply itself is made of that last event, as it is of a reply in one piece, so both give the same message.
Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..folds.stops import CUT
from ..safety.sources import each_once
from ..types import ChatMessage, ChatResponse, StopReason
from .base import ContentDeltaEvent, ProviderEvent, ReplyBuilder, ThinkingDeltaEvent, ToolCallDeltaEvent
from .encoding import encode, is_object
from .failures import FailureReader
from .halves import reader
from .openai_items import ORIGIN, add_items, fault_of_item, refuses, texts_of
from .reply_calls import CallIds, argument_text, once
from .sources import of_response as sources_of_response
from .sources import sources_in
from .stops import stop_of
from .untyped import as_dict, as_text, is_dict, is_list
from .usage import of_response

_ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_SHOWN = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_part.added",
        "response.function_call_arguments.delta",
    }
)
_CUTS = {"max_output_tokens": StopReason.LENGTH, "content_filter": StopReason.CONTENT_FILTER}
_UNFINISHED = frozenset({"queued", "in_progress"})


class _Response(Struct, gc=False):
    id: Any = None
    status: Any = None
    output: Any = None
    usage: Any = None
    model: Any = None
    error: Any = None
    incomplete_details: Any = None
    citations: Any = None


class _Event(Struct, gc=False):
    type: Any = None
    delta: Any = None
    output_index: Any = None
    item: Any = None
    arguments: Any = None
    response: _Response | None = None
    error: Any = None
    message: Any = None
    code: Any = None


_decode_event = reader(msgspec.json.Decoder(_Event).decode)
_decode_response = reader(msgspec.json.Decoder(_Response).decode)


def _as_it_came(message: ChatMessage, response_id: str) -> ChatMessage:
    return message


class ResponsesReply:
    """Decoder of one reply.

    ``history`` is the conversation asked about, for ids that do not repeat in it. ``signed`` may add to the
    message what its sender wants to find there again; it is given the id under which the service keeps it.
    """

    __slots__ = (
        "_calls", "_done_items", "_end", "_failures", "_grown", "_history", "_model", "_open", "_shown_ids",
        "_signed", "done",
    )  # fmt: skip

    def __init__(
        self,
        failures: FailureReader,
        model: str,
        history: Sequence[ChatMessage] = (),
        signed: Callable[[ChatMessage, str], ChatMessage] = _as_it_came,
    ) -> None:
        self.done = False
        self._failures = failures
        self._model = model
        self._history = history
        self._signed = signed
        self._end: _Response | None = None
        # What was shown so far, by the place of its item in the output.
        self._shown_ids = CallIds(history)
        self._calls: dict[int, int] = {}
        self._grown: set[int] = set()
        self._open: set[int] = set()
        self._done_items: dict[int, Any] = {}

    def feed(self, name: bytes, data: bytes) -> Sequence[ProviderEvent]:
        """One event of the stream."""
        if not data or data.isspace():
            return ()
        if data.startswith(b"[DONE]"):  # not OpenAI's way to end a stream, but that of others
            self.done = True
            return ()
        event = self._event(name, data)
        kind = event.type if isinstance(event.type, str) else name.decode("utf-8", "replace")
        place = event.output_index if isinstance(event.output_index, int) else len(self._done_items)
        if kind in _SHOWN:
            return self._grow(place, kind, as_text(event.delta))
        if kind == "response.output_item.added":
            self._open.add(place)
            return self._begin_call(place, as_dict(event.item))
        if kind == "response.output_item.done":
            self._open.discard(place)
            self._done_items[place] = event.item
            return self._show(place, as_dict(event.item))
        if kind == "response.function_call_arguments.done":
            return self._show_arguments(place, argument_text(event.arguments))
        if kind in _ENDS:
            self._take(event.response or _Response(), _ENDS[kind])
        elif kind == "error" or event.error:
            raise self._failures.from_error(event.error or {"code": event.code, "message": event.message})
        return ()  # progress of the service's own tools, and kinds that did not exist when this was written

    def whole(self, body: bytes) -> Sequence[ProviderEvent]:
        """The reply in one piece."""
        try:
            response = _decode_response(body)
        except (ValueError, RecursionError):
            response = None
        if response is None:
            raise self._failures.malformed("sent something that is not a response", body)
        self._take(response, "")
        if not is_list(response.output):
            raise self._failures.malformed("sent a reply without output", body)
        events: list[ProviderEvent] = []
        for place, item in enumerate(response.output):
            events += self._show(place, as_dict(item))
        return events

    def finish(self) -> ChatResponse:
        """The reply. Raises MalformedReplyError when it is not complete."""
        end = self._end
        if end is None:
            raise self._failures.malformed("ended its stream before the reply was complete", retryable=True)
        items = self._whole_items(self._items(end), end.status == "incomplete")
        builder = ReplyBuilder(as_text(end.model) or self._model)
        add_items(items, builder, CallIds(self._history))
        builder.usage = of_response(end.usage, items)
        cited = [source for item in items for source in sources_of_response(item)]
        builder.sources = each_once([*cited, *sources_in(end.citations)])
        builder.stop_reason = _stop(end, items)
        response = once(builder.build())
        return replace(response, message=self._signed(response.message, as_text(end.id)))

    # --- what is shown ----------------------------------------------------------------------------

    def _event(self, name: bytes, data: bytes) -> _Event:
        try:
            return _decode_event(data)
        except (ValueError, RecursionError):
            pass
        if name == b"error":
            raise self._failures.from_error({"message": data[:2000].decode("utf-8", "replace")})
        raise self._failures.malformed("sent something that is not a response event", data, retryable=True)

    def _grow(self, place: int, kind: str, delta: str) -> Sequence[ProviderEvent]:
        if kind == "response.reasoning_summary_part.added":
            # Summaries are paragraphs; only between two of them is there something to show.
            return (ThinkingDeltaEvent("\n\n", origin=ORIGIN),) if place in self._grown else ()
        if not delta:
            return ()
        self._grown.add(place)
        if kind.startswith("response.reasoning"):
            return (ThinkingDeltaEvent(delta, origin=ORIGIN),)
        if kind == "response.function_call_arguments.delta":
            number = self._calls.get(place)
            return () if number is None else (ToolCallDeltaEvent(number, None, None, delta),)
        return (ContentDeltaEvent(delta),)

    def _begin_call(self, place: int, item: dict[str, Any]) -> list[ProviderEvent]:
        if item.get("type") != "function_call" or place in self._calls:
            return []
        number = self._calls[place] = len(self._calls)
        unique = self._shown_ids.take(as_text(item.get("call_id")) or None)
        return [ToolCallDeltaEvent(number, unique, as_text(item.get("name")) or None)]

    def _show_arguments(self, place: int, arguments: str) -> list[ProviderEvent]:
        number = self._calls.get(place)
        if number is None or not arguments or place in self._grown:
            return []
        self._grown.add(place)
        return [ToolCallDeltaEvent(number, None, None, arguments)]

    def _show(self, place: int, item: dict[str, Any]) -> list[ProviderEvent]:
        """What of a whole item was not shown yet: all of it, or its end."""
        kind = item.get("type")
        if kind == "function_call":
            begun = self._begin_call(place, item)
            return begun + self._show_arguments(place, argument_text(item.get("arguments")))
        texts = [] if place in self._grown else texts_of(item)
        if kind == "message":
            return [ContentDeltaEvent(text) for text in texts if text]
        if kind == "reasoning":
            signature, data = as_text(item.get("id")), as_text(item.get("encrypted_content"))
            return [ThinkingDeltaEvent("\n\n".join(texts), signature or None, data or None, ORIGIN)]
        return []

    # --- the end ----------------------------------------------------------------------------------

    def _take(self, response: _Response, status: str) -> None:
        """Take the whole response, unless it says that there is none."""
        self.done = True
        if not isinstance(response.status, str):
            response.status = status
        if response.error:
            raise self._failures.from_error(response.error)
        if response.status in ("failed", "cancelled"):
            raise self._failures.malformed(f"ended its reply as {response.status}", retryable=True)
        if response.status in _UNFINISHED:
            raise self._failures.malformed(
                f"has not finished its reply (status {response.status}); background mode is not read here"
            )
        self._end = response

    def _items(self, end: _Response) -> list[dict[str, Any]]:
        output: Any = end.output
        if not output:  # some services tell the items one by one only
            if self._open:
                raise self._failures.malformed("ended its stream in the middle of an item", retryable=True)
            output = [item for _, item in sorted(self._done_items.items())] or output
        if not is_list(output):
            raise self._failures.malformed("sent a reply without output", retryable=True)
        items = [item for item in output if is_dict(item)]
        if len(items) < len(output):
            raise self._failures.malformed("sent output that is not made of items", encode(output))
        for item in items:
            if (fault := fault_of_item(item)) is not None:
                raise self._failures.malformed(f"sent {fault}", encode(item), retryable=True)
        return items

    def _whole_items(self, items: list[dict[str, Any]], cut: bool) -> list[dict[str, Any]]:
        """The items without the half calls in which a reply ends that was cut."""
        whole: list[dict[str, Any]] = []
        for item in items:
            if item.get("type") == "function_call":
                arguments = argument_text(item.get("arguments"))
                half = not as_text(item.get("name")) or item.get("status") == "incomplete"
                if cut and (half or not is_object(arguments)):
                    continue
                if half:
                    raise self._failures.malformed(
                        "sent half a tool call", arguments.encode(), retryable=True
                    )
            whole.append(item)
        return whole


def _stop(end: _Response, items: list[dict[str, Any]]) -> StopReason:
    stop = StopReason.STOP if end.status == "completed" else StopReason.UNKNOWN
    if end.status == "incomplete":
        # Cut for a reason that is new is cut all the same: half an answer is no answer.
        stop = stop_of(as_text(as_dict(end.incomplete_details).get("reason")), _CUTS)
        stop = StopReason.LENGTH if stop is StopReason.UNKNOWN else stop
    if any(map(refuses, items)):
        return StopReason.REFUSAL
    called = any(item.get("type") == "function_call" for item in items)
    return StopReason.TOOL_USE if called and stop not in CUT else stop
