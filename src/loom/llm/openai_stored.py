"""Going on from a reply that OpenAI's Responses API stored, as long as it is the conversation we hold.

The log is the truth, not what the service stored: messages may have been edited, dropped or summed up since. So
a stored reply carries a mark with its id and a digest of the conversation up to and including it; only when the
conversation still has that digest is the rest left to the service.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from ..types import ChatMessage, OpaquePart, TextPart
from .encoding import encode
from .openai_input import fragment_of, joined
from .openai_items import MARK, ORIGIN
from .openai_replay import Form
from .untyped import as_dict, as_text


class StoredBefore(NamedTuple):
    """The stored reply to go on from, and how many messages it stands for."""

    id: str
    length: int


def stored_before(messages: Sequence[ChatMessage], fragments: Sequence[bytes]) -> StoredBefore | None:
    """The latest stored reply in the conversation, if nothing up to it has changed and something follows."""
    for index in range(len(messages) - 2, -1, -1):
        if mark := _mark(messages[index]):
            known = mark.get("digest") == _digest(fragments[: index + 1])
            return StoredBefore(as_text(mark.get("id")), index + 1) if known and mark.get("id") else None
    return None


def mark_reply(fragments: Sequence[bytes], form: Form) -> Callable[[ChatMessage, str], ChatMessage]:
    """What marks the reply to a conversation with the id under which the service stored it."""

    def signed(message: ChatMessage, response_id: str) -> ChatMessage:
        if not response_id:
            return message
        digest = _digest([*fragments, fragment_of(message, {}, form)])
        mark = encode({"type": MARK, "id": response_id, "digest": digest}).decode()
        content = message.content
        parts = (TextPart(content),) if isinstance(content, str) else content or ()
        return replace(message, content=(OpaquePart(ORIGIN, mark), *parts))

    return signed


def _mark(message: ChatMessage) -> dict[str, Any]:
    content = message.content
    for part in () if content is None or isinstance(content, str) else content:
        if isinstance(part, OpaquePart) and part.origin == ORIGIN:
            try:
                item = as_dict(msgspec.json.decode(part.data))
            except (ValueError, RecursionError):
                continue
            if item.get("type") == MARK:
                return item
    return {}


def _digest(fragments: Sequence[bytes]) -> str:
    return hashlib.blake2b(joined(fragments), digest_size=16).hexdigest()
