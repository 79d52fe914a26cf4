"""A bare yes or no, with the question it answers put beside it, for models that lose the thread."""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

from .types import ChatMessage, Role

AFFIRMATIVES = frozenset(
    {"yes", "y", "ok", "okay", "sure", "correct", "right", "yeah", "yep", "go ahead", "proceed", "continue",
     "please", "do it"}
)  # fmt: skip
NEGATIVES = frozenset({"no", "n", "nope", "cancel", "stop", "don't", "dont", "negative"})


def spelled_out(
    messages: list[ChatMessage], *, yes: Collection[str] | None = None, no: Collection[str] | None = None
) -> list[ChatMessage]:
    """A bare yes or no, with the question it answers beside it. Only the conversation itself is looked at."""
    if len(messages) < 2 or messages[-1].role is not Role.USER or not isinstance(messages[-1].content, str):
        return messages
    asked = re.search(r"([^?]{1,200}\?)[^?]*$", messages[-2].text_content or "")
    word = messages[-1].content.strip().lower().rstrip(".!")
    yes = AFFIRMATIVES if yes is None else yes
    no = NEGATIVES if no is None else no
    if messages[-2].role is not Role.ASSISTANT or asked is None or word not in (*yes, *no):
        return messages
    kind = "affirmative" if word in yes else "negative"
    text = f'{messages[-1].content} ({kind} answer to: "{asked[1].strip()}")'
    return [*messages[:-1], msgspec.structs.replace(messages[-1], content=text)]
