"""The JSON of Anthropic replies, as far as we read it.

Only the wanted fields are decoded. They are Any where a wrong type is judged by the reader instead of failing
the decode.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from .halves import reader


class Block(Struct, gc=False):
    """A block as it begins, or whole."""

    type: str = ""
    text: Any = UNSET
    citations: Any = None
    thinking: Any = UNSET
    signature: Any = None
    data: Any = None
    id: Any = None
    name: Any = None
    input: Raw = Raw(b"")
    caller: Any = None
    toolset_name: Any = None


class Message(Struct, gc=False):
    """A reply, whole or as its stream begins. Blocks stay as they are: some are kept byte for byte."""

    type: str = ""
    model: Any = None
    content: list[Raw] | None = None
    stop_reason: Any = None
    container: Any = None
    usage: dict[str, Any] | None = None
    error: Any = None


class Delta(Struct, gc=False):
    """What a block grows by, or how the reply ends."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    citation: Any = None
    stop_reason: Any = None
    container: Any = None


class StreamEvent(Struct, gc=False):
    """One event of a stream."""

    type: str
    index: int = 0
    delta: Delta | None = None
    content_block: Raw = Raw(b"{}")
    message: Message | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


decode_event = reader(msgspec.json.Decoder(StreamEvent).decode)
decode_message = reader(msgspec.json.Decoder(Message).decode)
decode_block = reader(msgspec.json.Decoder(Block).decode)
decode_any = reader(msgspec.json.Decoder(Any).decode)
