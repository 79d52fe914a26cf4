"""Output items of OpenAI's Responses API as parts of a message; ``openai_replay`` is the way back.

The API wants its items back one by one: reasoning with its encrypted content, right before what came after it,
under the ids it gave. Texts, calls and images are ours to show and to edit, so they are parts of their own, and
what else an item holds stands before them as its *head*: an ``OpaquePart`` with the item minus its texts. Items
that only the service understands are an ``OpaquePart`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..types import ImagePart, OpaquePart, Part, TextPart, ThinkingPart
from .base import ReplyBuilder
from .encoding import encode, wire_id
from .reply_calls import CallIds, argument_text
from .untyped import as_dict, as_list, as_text, is_dict, is_list, wrong_field

ORIGIN = "openai_responses"
MARK = "response"
"""The type of an ``OpaquePart`` that is no item: it names the stored response that a message is."""

TEXT_KEYS = {"output_text": "text", "refusal": "refusal", "summary_text": "text", "reasoning_text": "text"}
"""Which kinds of pieces hold a text, and where; pieces of other kinds stay in the head as they are."""
HEADED = frozenset({"message", "reasoning", "function_call", "image_generation_call"})
_CALL_KEYS = frozenset({"type", "id", "status", "call_id", "name", "arguments"})
_LONGEST_CALL_ID = 64
_CALL_TEXTS = frozenset({"call_id", "name", "arguments"})


def add_items(items: Sequence[dict[str, Any]], builder: ReplyBuilder, ids: CallIds) -> None:
    """Add the items of a reply to ``builder``, in order. Every call among them must be whole."""
    # Mere text and calls go back by themselves. As soon as one item has more to it, the service looks for the
    # ids of its neighbours too, so then all of them keep their heads.
    headed = not all(map(_is_mere, items))
    calls = 0
    for item in items:
        kind = item.get("type")
        if kind == "function_call":
            if headed:
                builder.part(_opaque(item, without=_CALL_TEXTS))
            said = as_text(item.get("call_id")) or None
            arguments = argument_text(item.get("arguments"))
            builder.call(calls, ids.take(said), as_text(item.get("name")), arguments)
            calls += 1
        elif kind == "message" and not headed:
            builder.text("".join(texts_of(item)))
        elif kind == "message":
            _add_headed(item, builder, [TextPart(text) for text in texts_of(item)])
        elif kind == "reasoning":
            _add_reasoning(item, builder)
        elif kind == "image_generation_call":
            _add_image(item, builder)
        else:
            builder.part(_opaque(item))


# What the other items the service knows must hold for it to take them back.
_WANTED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "web_search_call": {"id": str},
    "file_search_call": {"id": str},
    "code_interpreter_call": {"id": str},
    "mcp_call": {"id": str},
    "mcp_list_tools": {"id": str},
    "mcp_approval_request": {"id": str},
    "compaction": {"encrypted_content": str},
}


def fault_of_item(item: dict[str, Any]) -> str | None:
    """What is wrong with an item of a kind that this wire knows; None when the service would take it back."""
    kind = as_text(item.get("type"))
    if not kind:
        return "an item without type"
    if (field := wrong_field(item, _WANTED.get(kind, {}))) is not None:
        return f"an item of type {kind} without {field}"
    if kind == "message" and not is_list(item.get("content")):
        return "a message without content"
    if kind == "image_generation_call" and not isinstance(item.get("result"), str | None):
        return "a picture that is none"
    if kind in ("message", "reasoning") and not all(map(_are_sound, _lists(item))):
        return f"an item of type {kind} with content that cannot be"
    if kind == "reasoning" and not isinstance(item.get("encrypted_content"), str | None):
        return "reasoning with content that cannot be"
    return None


def _lists(item: dict[str, Any]) -> list[Any]:
    return [item[name] for name in ("summary", "content") if item.get(name) is not None]


def _are_sound(pieces: Any) -> bool:
    return is_list(pieces) and all(
        is_dict(piece) and (piece.get("type") not in TEXT_KEYS or _has_text(piece)) for piece in pieces
    )


def call_id_of(given: str) -> str:
    """The id of a call, shortened when it is one of another service's that this API finds too long."""
    return given if len(given) <= _LONGEST_CALL_ID else wire_id(given)


def texts_of(item: dict[str, Any]) -> list[str]:
    """The texts of an item, in the order of its pieces."""
    return [as_text(piece[TEXT_KEYS[piece["type"]]]) for piece in pieces_of(item) if _has_text(piece)]


def refuses(item: dict[str, Any]) -> bool:
    """Whether the model declines in this item."""
    return any(piece.get("type") == "refusal" for piece in pieces_of(item))


def _is_mere(item: dict[str, Any]) -> bool:
    kind = item.get("type")
    if kind == "function_call":
        return all(value is None or key in _CALL_KEYS for key, value in item.items())
    pieces = pieces_of(item)
    return (
        kind == "message"
        and item.get("phase") is None
        and all(_has_text(piece) and not piece.get("annotations") for piece in pieces)
    )


def _add_reasoning(item: dict[str, Any], builder: ReplyBuilder) -> None:
    texts = texts_of(item)
    known = {"type", "id", "summary", "encrypted_content", "content", "status"}
    simple = (
        all(not value or key in known for key, value in item.items())
        and not item.get("content")
        and item.get("status") in (None, "completed")
        and len(texts) == len(as_list(item.get("summary")))
        and all(texts)
    )
    signature, data = as_text(item.get("id")) or None, as_text(item.get("encrypted_content")) or None
    if not simple or not (signature or data):
        _add_headed(item, builder, [ThinkingPart(text, origin=ORIGIN) for text in texts])
        return
    # Several summaries are several parts; the one that is signed ends the item.
    for text in texts[:-1]:
        builder.part(ThinkingPart(text, origin=ORIGIN))
    builder.part(ThinkingPart("".join(texts[-1:]), signature, data, ORIGIN))


def _add_image(item: dict[str, Any], builder: ReplyBuilder) -> None:
    image = as_text(item.get("result"))
    if not image:
        builder.part(OpaquePart(ORIGIN, encode({**item, "result": None}).decode()))
        return
    media_type = f"image/{as_text(item.get('output_format')) or 'png'}"
    builder.part(_opaque(item, without=frozenset({"result"})))
    builder.part(ImagePart(f"data:{media_type};base64,{image}", media_type))


def _add_headed(item: dict[str, Any], builder: ReplyBuilder, parts: Sequence[Part]) -> None:
    builder.part(_opaque(item))
    for part in parts:
        builder.part(part)


def _opaque(item: dict[str, Any], without: frozenset[str] = frozenset()) -> OpaquePart:
    head = {key: value for key, value in item.items() if value is not None and key not in without}
    if as_text(item.get("type")) in HEADED:
        for name in ("summary", "content"):
            if isinstance(item.get(name), list):
                head[name] = [_emptied(as_dict(piece)) for piece in item[name]]
    return OpaquePart(ORIGIN, encode(head).decode())


def _emptied(piece: dict[str, Any]) -> dict[str, Any]:
    if not _has_text(piece):
        return piece
    # The odds of every token are many times the text, and no service asks for them back.
    return {key: value for key, value in piece.items() if key not in (TEXT_KEYS[piece["type"]], "logprobs")}


def pieces_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """What an item consists of: its summaries, then its content."""
    return [as_dict(piece) for name in ("summary", "content") for piece in as_list(item.get(name))]


def _has_text(piece: dict[str, Any]) -> bool:
    key = TEXT_KEYS.get(as_text(piece.get("type")))
    return key is not None and isinstance(piece.get(key), str)
