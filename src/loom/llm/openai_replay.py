"""An assistant's message as input items of OpenAI's Responses API: what ``openai_items`` read, put together again.

What the service would refuse is left out here: reasoning without what came after it, ids whose reasoning is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Any

import msgspec

from ..types import CallPart, ChatMessage, ImagePart, OpaquePart, Part, TextPart, ThinkingPart, ToolCall
from .encoding import arguments_object, wire_name
from .openai_items import HEADED, MARK, ORIGIN, TEXT_KEYS, call_id_of, fault_of_item, pieces_of, texts_of
from .untyped import as_dict, as_list, as_text

_THOUGHTS = "thoughts"


class Form(IntEnum):
    """How much of earlier replies is sent back. Each is plainer than the one before it."""

    FULL = 0
    NAMELESS = 1
    """Without ids, for services that look them up among what they stored."""
    PLAIN = 2
    """Texts and calls alone, for models that do not reason and for reasoning nobody can decrypt any more."""


def items_of(message: ChatMessage, form: Form = Form.FULL) -> list[dict[str, Any]]:
    """The items of an assistant's message. Reasoning and opaque parts of other wires are left out."""
    writer = _Writer(message.tool_calls or ())
    content = message.content
    parts = (TextPart(content),) if isinstance(content, str) else content or ()
    for part in parts:
        writer.add(part)
    return _accepted(writer.finish(), form)


class _Writer:
    """Puts items together: one is open at a time, and its texts arrive after its head."""

    def __init__(self, calls: Sequence[ToolCall]) -> None:
        self.items: list[dict[str, Any]] = []
        self._calls = dict(enumerate(calls))
        self._open: dict[str, Any] | None = None
        self._texts: list[str] = []

    def add(self, part: Part) -> None:
        if isinstance(part, TextPart):
            if not self._is_open("message"):
                self._begin({"type": "message"})
            self._texts.append(part.text)
        elif isinstance(part, ThinkingPart):
            if part.origin == ORIGIN:
                self._think(part)
        elif isinstance(part, CallPart):
            self._call(part.index)
        elif isinstance(part, OpaquePart):
            if part.origin == ORIGIN:
                self._opaque(part.data)
        elif isinstance(part, ImagePart) and self._is_open("image_generation_call"):
            self._texts.append(part.source.partition(",")[2])
            self._close()

    def finish(self) -> list[dict[str, Any]]:
        for index in sorted(self._calls):
            self._call(index)
        self._close()
        return self.items

    def _is_open(self, kind: str) -> bool:
        return self._open is not None and self._open["type"] == kind

    def _begin(self, item: dict[str, Any]) -> None:
        self._close()
        self._open = item

    def _opaque(self, data: str) -> None:
        try:
            item = as_dict(msgspec.json.decode(data))
        except (ValueError, RecursionError):
            return  # not ours, whatever its origin says
        kind = as_text(item.get("type"))
        if kind in HEADED and "result" not in item:
            self._begin(item)
        elif kind and kind != MARK and fault_of_item(item) is None:
            self._close()
            self.items.append(item)

    def _think(self, part: ThinkingPart) -> None:
        if self._is_open("reasoning") and len(self._texts) < _slots(self._open):
            self._texts.append(part.text)
            return
        if not self._is_open(_THOUGHTS):
            self._begin({"type": _THOUGHTS})
        self._texts.append(part.text)
        if part.signature or part.data:
            summary = [{"type": "summary_text", "text": text} for text in self._texts if text]
            item: dict[str, Any] = {"type": "reasoning", "id": part.signature, "summary": summary}
            item["encrypted_content"] = part.data
            self._drop()
            self.items.append({key: value for key, value in item.items() if value is not None})

    def _call(self, index: int) -> None:
        call = self._calls.pop(index, None)
        if call is None:
            return
        head = self._open if self._is_open("function_call") else None
        if head is None:
            self._close()
        self._drop()
        named = {"call_id": call_id_of(call.id), "name": wire_name(call.name)}
        said = {**named, "arguments": arguments_object(call.arguments)}
        self.items.append({"type": "function_call", **(head or {}), **said})

    def _drop(self) -> None:
        self._open = None
        self._texts = []

    def _close(self) -> None:
        item, texts = self._open, self._texts
        self._drop()
        if item is None:
            return
        if item["type"] == "message":
            self.items += _message(item, texts)
        elif item["type"] == "reasoning" and len(texts) == _slots(item):
            self.items.append(_filled(item, texts))
        elif item["type"] == "image_generation_call" and texts:
            self.items.append({**item, "result": texts[0]})
        # A head whose text, call or image was taken out of the message goes with it.


def _slots(item: dict[str, Any] | None) -> int:
    return sum(as_text(piece.get("type")) in TEXT_KEYS for piece in pieces_of(item or {}))


def _message(head: dict[str, Any], texts: list[str]) -> list[dict[str, Any]]:
    if head.get("content") and not _slots(head) and not texts:
        return [head]  # it holds other things than text
    if not any(texts):
        return []
    if "content" not in head:
        return [{"role": "assistant", "content": "".join(texts)}]
    if _slots(head) != len(texts):  # edited since
        head = {**head, "content": [{"type": "output_text", "annotations": []}]}
        texts = ["".join(texts)]
    return [_filled(head, texts)]


def _filled(head: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    left = iter(texts)
    item = dict(head)
    for name in ("summary", "content"):
        if name in head:
            item[name] = [_piece(as_dict(piece), left) for piece in as_list(head[name])]
    return item


def _piece(piece: dict[str, Any], texts: Iterator[str]) -> dict[str, Any]:
    key = TEXT_KEYS.get(as_text(piece.get("type")))
    return {**piece, key: next(texts)} if key else piece


# --- what the service accepts -----------------------------------------------------------------------


def _accepted(items: list[dict[str, Any]], form: Form) -> list[dict[str, Any]]:
    while items and items[-1].get("type") == "reasoning":
        items.pop()  # the end of a reply that was cut: refused without the item that came after it
    if not _paired(items):
        form = Form.PLAIN
    if form is Form.PLAIN:
        items = [
            item for item in items if item.get("type") in (None, "message", "function_call", "compaction")
        ]
    if form is Form.FULL and any(item.get("type") == "reasoning" for item in items):
        return items
    return [_nameless(item) for item in items]


def _paired(items: list[dict[str, Any]]) -> bool:
    """Whether every item of reasoning that has an id is followed by one that has; else it was edited."""
    return all("id" in after for item, after in pairwise(items) if _is_named_reasoning(item))


def _is_named_reasoning(item: dict[str, Any]) -> bool:
    return item.get("type") == "reasoning" and "id" in item


def _nameless(item: dict[str, Any]) -> dict[str, Any]:
    """``item`` without its id. A call or text with an id asks for the reasoning that came before it."""
    kind = item.get("type")
    if kind not in ("message", "function_call", "reasoning"):
        return item
    bare = {key: value for key, value in item.items() if key not in ("id", "status")}
    pieces = pieces_of(item)
    if kind == "message" and all(p.get("type") == "output_text" and not p.get("annotations") for p in pieces):
        # The short form is the one that every server takes without an id.
        del bare["type"]
        bare["content"] = "".join(texts_of(item))
    return bare
