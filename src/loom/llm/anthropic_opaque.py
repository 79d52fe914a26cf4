"""Blocks of the Anthropic Messages wire that only the service understands, kept as they came.

Searches and code it ran itself, what those returned, compactions, texts with citations, and kinds that did not
exist when this was written become an ``OpaquePart``: one block as an object, or, for texts that cite, the blocks
of the whole run of text as an array behind the ``TextPart`` that shows it. ``anthropic_blocks`` is the way back.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ..errors import ConfigError
from ..safety.display import encodable, whole_escapes
from ..types import OpaquePart, ToolCall
from .anthropic_events import decode_any
from .encoding import encode, is_object
from .untyped import as_dict, as_list, as_text, is_dict, wrong_field

ORIGIN = "anthropic"
_CONTAINER = '{"type":"container","id":'


_CALLED = {"id": str, "name": str, "input": dict}
_RESULT: dict[str, type | tuple[type, ...]] = {"tool_use_id": str, "content": (str, list, dict)}
_KINDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "server_tool_use": {**_CALLED},
    "mcp_tool_use": {**_CALLED},
    "container_upload": {"file_id": str},
}


def fault_of_block(block: dict[str, Any]) -> str | None:
    """What is wrong with a block of a kind that this wire knows; None when the service would take it back."""
    kind = as_text(block.get("type"))
    wanted = _RESULT if kind.endswith("_tool_result") else _KINDS.get(kind, {})
    field = wrong_field(block, wanted)
    return f"a block of type {kind} without {field}" if field is not None else None


class OpaqueBlock:
    """A block as it grows. ``raw`` is the JSON it began with."""

    __slots__ = ("_fields", "_input", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._fields: dict[str, Any] | None = None
        self._input: list[str] = []

    def grow(self, delta: dict[str, Any]) -> None:
        """Take a delta of any kind: texts go on, lists of citations grow, everything else replaces."""
        if self._fields is None:
            self._fields = as_dict(decode_any(self._raw))
        if delta.get("type") == "input_json_delta":
            self._input.append(as_text(delta.get("partial_json")))
            return
        for name, value in delta.items():
            before = self._fields.get(name)
            if name == "type" or value is None:
                continue
            if name == "citation":
                self._fields["citations"] = [*as_list(self._fields.get("citations")), value]
            elif isinstance(before, str) and isinstance(value, str):
                self._fields[name] = before + value
            else:
                self._fields[name] = value

    def part(self) -> OpaquePart | None:
        """The block as a part; None when the reply was cut in the middle of its input."""
        if self._fields is None:
            return OpaquePart(ORIGIN, whole_escapes(self._raw.decode("utf-8", "replace")))
        if written := whole_escapes(encodable("".join(self._input))):
            if not is_object(written):
                return None
            self._fields["input"] = Raw(written.encode())
        return OpaquePart(ORIGIN, encode(self._fields).decode())


class TextRun:
    """The text blocks that follow each other in a reply. Their blocks matter only when one of them cites."""

    __slots__ = ("_blocks", "_cites", "pieces")

    def __init__(self) -> None:
        self._blocks: list[tuple[list[str], list[Any]]] = []
        self._cites = False
        self.pieces: list[str] = []
        """Of the block that is open; whoever reads a reply appends to it."""

    def begin(self, citations: Any = None) -> None:
        """A block begins, perhaps with its citations."""
        self.pieces = []
        self._blocks.append((self.pieces, list(as_list(citations))))
        self._cites = self._cites or bool(citations)

    def cite(self, citation: Any) -> None:
        """The open block cites something."""
        if self._blocks:
            self._blocks[-1][1].append(citation)
            self._cites = True

    def end(self) -> OpaquePart | None:
        """The run is over; what of it goes back besides its text."""
        blocks, self._blocks = self._blocks, []
        if not self._cites:
            return None
        self._cites = False
        told = [_text_block("".join(pieces), citations) for pieces, citations in blocks if any(pieces)]
        return OpaquePart(ORIGIN, encode(told).decode())


def _text_block(text: str, citations: list[Any]) -> dict[str, Any]:
    block = {"type": "text", "text": text}
    return block | ({"citations": citations} if citations else {})


class _Text(Struct, gc=False):
    text: str = ""


def text_blocks(part: OpaquePart, shown: str) -> list[Raw] | None:
    """The blocks of a run of text, when ``part`` holds one and it is still the text that is ``shown``.

    Somebody may have changed the text since, to take a secret out of it; the text they left is what goes back.
    """
    if not part.data.startswith("["):
        return None
    blocks = msgspec.json.decode(part.data, type=list[Raw])
    texts = [msgspec.json.decode(block, type=_Text).text for block in blocks]
    if "".join(texts) != shown:
        return None
    return [block for block, text in zip(blocks, texts, strict=True) if text.strip()]


def opaque_block(part: OpaquePart) -> Raw | None:
    """The block to send back for ``part``; None when it is none: another wire's, a run of text, a container, broken.

    Raises ConfigError for data that is not JSON, which would make the whole request unreadable.
    """
    if part.origin != ORIGIN or part.data.startswith(("[", _CONTAINER)):
        return None
    if not is_object(part.data):
        raise ConfigError("an opaque part of this wire must be one block: a JSON object")
    if fault_of_block(msgspec.json.decode(part.data)) is not None:
        return None  # kept by an older version, which did not look; the service refuses it
    return Raw(part.data.encode())


def container_part(container: Any) -> OpaquePart | None:
    """What keeps the id of the container that the service ran code in; the unfinished work goes on there."""
    named = as_text(as_dict(container).get("id"))
    return OpaquePart(ORIGIN, f"{_CONTAINER}{encode(named).decode()}}}") if named else None


def container_id(part: object) -> str | None:
    """The id that ``container_part`` kept."""
    if isinstance(part, OpaquePart) and part.origin == ORIGIN and part.data.startswith(_CONTAINER):
        return as_text(as_dict(msgspec.json.decode(part.data)).get("id")) or None
    return None


def call_extras(caller: Any, toolset: Any) -> str | None:
    """What a tool call must carry back besides its input, as a ``ToolCall.signature``: who made it."""
    extras: dict[str, Any] = {}
    if is_dict(caller) and caller.get("type") != "direct":
        extras["caller"] = caller
    if isinstance(toolset, str) and toolset:
        extras["toolset_name"] = toolset
    return encode({ORIGIN: extras}).decode() if extras else None


def extras_of(call: ToolCall) -> dict[str, Any]:
    """What ``call_extras`` kept; nothing for signatures of other wires."""
    if call.signature is None or not call.signature.startswith('{"anthropic":'):
        return {}
    try:
        return as_dict(as_dict(msgspec.json.decode(call.signature)).get(ORIGIN))
    except ValueError:
        return {}
