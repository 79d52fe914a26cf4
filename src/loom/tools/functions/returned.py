"""What a tool function returned, as a ``ToolResult``: text for the model, plain data beside it.

Also the cleaning of text that cannot be encoded, which file names and broken decoders produce.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Sequence
from datetime import date, datetime, time
from enum import Enum
from typing import Any, cast

import msgspec
from msgspec import Struct

from ...errors import ConfigError, ToolExecutionError
from ...safety.json_kinds import is_object
from ...safety.media import name_files
from ...types import ContentPart, TextPart, ToolResult, jsonable

__all__ = ["clean_text", "to_result", "with_files_read"]

_CONTAINERS = (dict, list, tuple, set, frozenset, Struct)


def clean_text(text: str) -> str:
    """``text`` with lone surrogates, which no encoding can carry, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def to_result(value: object, label: str) -> ToolResult:
    """The result for a returned value.

    str is the text, None no text, a ToolResult itself, media parts ``content_parts``. Numbers, booleans,
    mappings, sequences, dataclasses, Structs and pydantic models become ``data`` and compact JSON text; an
    Enum its value, dates ISO text, anything else ``str()``. Raises ToolExecutionError for bytes and
    generators.
    """
    if isinstance(value, Enum):
        return to_result(value.value, label)
    if isinstance(value, str):
        return ToolResult(clean_text(value))
    if value is None:
        return ToolResult()
    if isinstance(value, ToolResult):
        return value
    if isinstance(value, ContentPart):
        return _from_parts([value])
    if (parts := _as_parts(value)) is not None:
        return _from_parts(parts)
    if isinstance(value, int | float):
        finite = math.isfinite(value) if isinstance(value, float) else True
        return ToolResult(_to_text(value), data=value) if finite else ToolResult(str(value))
    if _is_structured(value):
        return _from_plain(value, label)
    if isinstance(value, datetime | date | time):
        return ToolResult(value.isoformat())
    _refuse_unreadable(value, label)
    return ToolResult(clean_text(str(value)))


async def with_files_read(result: ToolResult, label: str) -> ToolResult:
    """``result`` with the files that its parts name: the function is the application's, so it may name some.

    Raises ToolExecutionError for a file that cannot be read or is not what its part says.
    """
    parts = result.content_parts
    if not parts or not name_files(parts):
        return result
    import asyncio

    from ...media import attach

    try:
        return msgspec.structs.replace(result, content_parts=await asyncio.to_thread(attach, parts))
    except ConfigError as error:
        raise ToolExecutionError(f"{label} returned a file that cannot be shown: {error}") from error


def _is_structured(value: object) -> bool:
    if isinstance(value, type):
        return False
    return isinstance(value, _CONTAINERS) or hasattr(value, "model_dump") or dataclasses.is_dataclass(value)


def _refuse_unreadable(value: object, label: str) -> None:
    if isinstance(value, bytes | bytearray | memoryview):
        raise ToolExecutionError(
            f"{label} returned bytes; a model cannot read them: decode them to text, or return an ImagePart, "
            "AudioPart or FilePart"
        )
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise ToolExecutionError(f"{label} returned a generator; return a list")


def _as_parts(value: object) -> list[ContentPart] | None:
    """Parts when there is at least one and everything else is text; None for any other value."""
    if not isinstance(value, list | tuple):
        return None
    values = cast("Sequence[object]", value)
    if not any(isinstance(item, ContentPart) for item in values):
        return None
    parts = [TextPart(item) if isinstance(item, str) else item for item in values]
    readable = [part for part in parts if isinstance(part, ContentPart)]
    return readable if len(readable) == len(parts) else None


def _from_parts(parts: list[ContentPart]) -> ToolResult:
    cleaned = [TextPart(clean_text(part.text)) if isinstance(part, TextPart) else part for part in parts]
    if all(isinstance(part, TextPart) for part in cleaned):
        return ToolResult("\n".join(cast("TextPart", part).text for part in cleaned))
    return ToolResult(content_parts=cast("Any", cleaned))


def _plain_or_str(value: Any) -> Any:
    try:
        return jsonable(value)
    except TypeError:
        return str(value)


_encoder = msgspec.json.Encoder(enc_hook=_plain_or_str)


def _to_text(value: object) -> str:
    return _encoder.encode(value).decode()


def _from_plain(value: object, label: str) -> ToolResult:
    try:
        text = _to_text(value)
    except RecursionError as error:
        raise ToolExecutionError(
            f"{label} returned a structure that contains itself or is too deep"
        ) from error
    except UnicodeEncodeError:
        text = _to_text(_scrubbed(msgspec.to_builtins(value, enc_hook=_plain_or_str, str_keys=True)))
    except TypeError:  # keys that JSON cannot have, such as tuples
        return ToolResult(clean_text(str(value)))
    # decoded again, so that data is the same before and after it has been in a log
    return ToolResult(text, data=msgspec.json.decode(text))


def _scrubbed(plain: Any) -> Any:
    if isinstance(plain, str):
        return clean_text(plain)
    if is_object(plain):
        items = plain.items()
        return {_scrubbed(key): _scrubbed(item) for key, item in items}
    if isinstance(plain, list | tuple):
        return [_scrubbed(item) for item in cast("Sequence[Any]", plain)]
    return plain
