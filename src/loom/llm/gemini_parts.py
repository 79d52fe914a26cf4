"""Parts of the Gemini wire that only the service understands, and which of them can be told apart from broken ones.

A part of a kind that this wire knows must hold what the service takes back: one that does not would be refused in
every further request of the conversation. A kind that did not exist when this was written goes back as it came.
Source: https://ai.google.dev/api/caching#Part
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .untyped import is_dict, wrong_field

_BESIDE = frozenset({"thought", "thoughtSignature", "partMetadata", "mediaResolution", "videoMetadata"})
# What each kind of a part must hold. Texts are their own content; ``text`` and calls are read elsewhere.
_KINDS: dict[str, Mapping[str, type | tuple[type, ...]]] = {
    "text": {},
    "functionCall": {"name": str},
    "inlineData": {"mimeType": str, "data": str},
    "fileData": {"fileUri": str},
    "functionResponse": {"name": str, "response": dict},
    "executableCode": {"code": str},
    "codeExecutionResult": {"outcome": str},
    "toolCall": {},
    "toolResponse": {},
}


def fault_of_part(part: Mapping[str, Any]) -> str | None:
    """What is wrong with a part that would be kept as it is; None when the service would take it back."""
    said = {name: value for name, value in part.items() if name not in _BESIDE}
    for name, value in said.items():
        if name not in _KINDS or (value is None and _says_more(said)):
            continue
        if name == "text":
            if not isinstance(value, str):
                return "text that is none"
        elif not is_dict(value):
            return f"{name} that is no object"
        elif (field := wrong_field(value, _KINDS[name])) is not None:
            return f"{name} without {field}"
    return None


def says_nothing(part: Mapping[str, Any]) -> bool:
    """Whether there is nothing in a part but what may stand beside its content."""
    return all(value is None for name, value in part.items() if name not in _BESIDE)


def _says_more(said: Mapping[str, Any]) -> bool:
    """Whether one kind is told: some writers add the others as nulls."""
    return any(value is not None for value in said.values())


def can_go_back(data: str) -> bool:
    """Whether the JSON of an opaque part, which may come from an old log, is a part the service takes."""
    part: Any = msgspec.json.decode(data)
    return is_dict(part) and not says_nothing(part) and fault_of_part(part) is None
