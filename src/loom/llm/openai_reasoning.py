"""Reasoning in replies of the chat completions wire that has to go back as it came: OpenRouter's details.

Streams tell a block of reasoning in fragments; here they become the blocks that a whole reply holds. The text
to show comes beside them and is no concern of this file.
Source: https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks
"""

from __future__ import annotations

from typing import Any

from ..types import OpaquePart
from .encoding import encode
from .untyped import as_list, as_text, is_dict

ORIGIN = "openai_chat"
DETAILS = "reasoning_details"
_GROWING = ("text", "summary")
_HOLDS = {
    "reasoning.text": ("text", "signature"),
    "reasoning.summary": ("summary",),
    "reasoning.encrypted": ("data",),
}


class ReasoningDetails:
    """The details of one reply, as they come."""

    __slots__ = ("_blocks", "_strange")

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []
        self._strange = False

    @property
    def sound(self) -> bool:
        """Whether every block of a kind we know holds what that kind is about."""
        return not self._strange and all(map(_is_sound, self._blocks))

    def add(self, details: Any) -> None:
        """Take the details of one chunk, or all of a whole reply."""
        for fragment in as_list(details):
            if not is_dict(fragment):
                self._strange = True
            elif self._blocks and _goes_on(self._blocks[-1], fragment):
                _grow(self._blocks[-1], fragment)
            else:
                self._blocks.append(dict(fragment))

    def part(self) -> OpaquePart | None:
        """What goes back with the message; None when there were none."""
        return OpaquePart(ORIGIN, encode({DETAILS: self._blocks}).decode()) if self._blocks else None


def _is_sound(block: dict[str, Any]) -> bool:
    wanted = _HOLDS.get(as_text(block.get("type")), ())
    return not wanted or any(isinstance(block.get(name), str) for name in wanted)


def _goes_on(block: dict[str, Any], fragment: dict[str, Any]) -> bool:
    """Whether ``fragment`` is more of ``block``: encrypted blocks come whole, a signature ends one of text."""
    alike = all(block.get(name) == fragment.get(name) for name in ("type", "index"))
    same_id = None in (block.get("id"), fragment.get("id")) or block["id"] == fragment["id"]
    said_more = any(fragment.get(name) for name in _GROWING)
    grows = any(name in block or name in fragment for name in (*_GROWING, "signature"))
    return alike and same_id and grows and not (block.get("signature") and said_more)


def _grow(block: dict[str, Any], fragment: dict[str, Any]) -> None:
    for name, value in fragment.items():
        before = block.get(name)
        if name in _GROWING and isinstance(before, str) and isinstance(value, str):
            block[name] = before + value
        elif value is not None:
            block[name] = value
