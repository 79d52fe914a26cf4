"""Writing messages for a wire: JSON fragments that are joined, never encoded twice.

What every wire needs and no vendor owns: safe text, tool arguments that are surely an object, the cache of
encoded tools, and schemas in the strict dialect.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec

from ..errors import ConfigError
from ..safety.display import encodable, whole_escapes
from ..types import ToolSpec, jsonable
from .untyped import as_dict, is_dict, is_list

_json = msgspec.json.Encoder(enc_hook=jsonable)
# Reading into Raw checks the grammar and builds nothing: a million keys cost milliseconds.
_skim = msgspec.json.Decoder(msgspec.Raw).decode
_KEPT_TOOL_SETS = 256


def encode(value: Any) -> bytes:
    """``value`` as JSON. Lone surrogates, which have no UTF-8 form, become replacement characters."""
    try:
        return _json.encode(value)
    except UnicodeEncodeError:
        return _json.encode(_encodable(value))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if is_dict(value):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if is_list(value):
        return [_encodable(item) for item in value]
    return value


def is_object(text: str) -> bool:
    """Whether ``text`` is a JSON object; halves of characters in it are no fault."""
    try:
        _skim(whole_escapes(encodable(text)))
    except (ValueError, RecursionError):
        return False
    return text.lstrip(" \t\r\n").startswith("{")


def arguments_object(text: str) -> str:
    """Tool arguments as the text of a JSON object.

    What a model wrote badly is sent back to it inside an object: services parse the arguments of earlier
    calls and refuse a conversation in which one is not an object.
    """
    text = whole_escapes(encodable(text))
    if is_object(text):
        return text
    return encode({"_raw": text}).decode() if text.strip() else "{}"


def wire_name(name: str) -> str:
    """``name`` in the alphabet all services take for names and ids."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "_"


def wire_id(given: str) -> str:
    """An id in that alphabet: ``given`` itself, or what of it fits with a digest, so that no two become one."""
    named = wire_name(given)
    if named == given:
        return given
    return f"{named[:51]}_{_digest(given)}"


def short_id(given: str, longest: int) -> str:
    """``given`` when it is no longer than ``longest``, else what of it fits with a digest."""
    if len(given) <= longest:
        return given
    return f"{wire_name(given)[: longest - 13]}_{_digest(given)}"


def nine_letter_id(given: str) -> str:
    """An id of nine letters and digits, the only form Mistral takes: ``given`` itself, or a digest of it."""
    return given if re.fullmatch(r"[a-zA-Z0-9]{9}", given) else _digest(given)[:9]


def _digest(given: str) -> str:
    return hashlib.blake2b(encode(given), digest_size=6).hexdigest()


class ToolFragments:
    """The encoded tools of a wire, once per tuple of specs (told apart by identity).

    ``tool_fragments`` gives all providers of a wire the same one: agents around the same tools come by the thousand.
    """

    __slots__ = ("_encode", "_kept")

    def __init__(self, encode_tool: Callable[[ToolSpec], dict[str, Any]]) -> None:
        self._encode = encode_tool
        self._kept: dict[tuple[int, ...], tuple[Sequence[ToolSpec], bytes]] = {}

    def __call__(self, tools: Sequence[ToolSpec]) -> bytes:
        """The JSON array of ``tools``."""
        # The kept specs keep their ids from being reused, so an id stands for one spec.
        key = tuple(map(id, tools))
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= _KEPT_TOOL_SETS:
                self._kept.clear()
            # In one order, so that caches of the service hit.
            ordered = sorted(tools, key=lambda tool: tool.name)
            kept = self._kept[key] = (tuple(tools), encode([self._encode(tool) for tool in ordered]))
        return kept[1]


@cache
def tool_fragments(encode_tool: Callable[[ToolSpec], dict[str, Any]]) -> ToolFragments:
    """The encoded tools of the wire that ``encode_tool`` writes."""
    return ToolFragments(encode_tool)


def service_tools(extensions: dict[str, Any]) -> list[dict[str, Any]]:
    """Take the tools out of ``extensions``: those that a service runs itself, in its own words.

    Raises ConfigError when they are no list of objects.
    """
    tools: Any = extensions.pop("tools", ())
    if not (is_list(tools) and all(map(is_dict, tools))):
        raise ConfigError("'tools' among the extensions must be a list of objects, as the service takes them")
    return list(tools)


def joined_arrays(*arrays: bytes) -> bytes:
    """One JSON array of what is in all of them."""
    return b"[" + b",".join(array[1:-1] for array in arrays if len(array) > 2) + b"]"


def parameters(tool: ToolSpec) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments; one without parameters takes an empty object."""
    return tool.parameters or {"type": "object", "properties": {}}


def strict_schema(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """``schema`` in the dialect of strict structured output, and whether it can be expressed there.

    Strict wants every object closed and every property required. Open dictionaries cannot say that; for
    them the schema comes back as it was. Source: OpenAI, "Structured Outputs: supported schemas".
    """
    try:
        return as_dict(_strict(schema)), True
    except _NotStrict:
        return schema, False


def fits_strict(schema: dict[str, Any]) -> bool:
    """Whether ``schema`` means in strict function calls just what it means without.

    So a service may hold the model to it. One with optional properties does not fit: strict would require them.
    """
    return strict_schema(schema) == (schema, True) and _says_only(_STRICT_WORDS, schema)


def describes_object(schema: dict[str, Any]) -> bool:
    """Whether the values of ``schema`` are objects; services shape nothing else."""
    return schema.get("type") == "object" or "properties" in schema or "$ref" in schema


def shape_instruction(schema: dict[str, Any]) -> str:
    """What to tell a model that the service cannot hold to ``schema``."""
    return (
        "Your final answer must be JSON of exactly this JSON Schema, with nothing before or after it:\n"
        + encode(schema).decode()
    )


class _NotStrict(Exception):
    pass


def _strict(node: Any) -> Any:
    if is_list(node):
        return [_strict(item) for item in node]
    if not is_dict(node):
        return node
    closed = {
        key: _named(value) if key in _NAMED else _strict(value)
        for key, value in node.items()
        if key != "default"
    }
    kind = node.get("type")
    if kind == "object" or "properties" in node:
        if node.get("additionalProperties") not in (None, False) or "properties" not in node:
            raise _NotStrict
        closed["additionalProperties"] = False
        closed["required"] = list(node["properties"])
    return closed


# What every service that knows strict schemas takes; more words are known to some.
_STRICT_WORDS = frozenset(
    {"$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "items"}
    | {"properties", "required", "title", "type"}
)


def _says_only(words: frozenset[str], node: Any) -> bool:
    if is_list(node):
        return all(_says_only(words, item) for item in node)
    if not is_dict(node):
        return True
    return all(
        key in words
        and (
            key in ("const", "enum")
            or _says_only(words, list(as_dict(value).values()) if key in _NAMED else value)
        )
        for key, value in node.items()
    )


# Below these keys are names of the user's, not words of the schema language.
_NAMED = frozenset({"properties", "$defs", "definitions"})


def _named(value: Any) -> dict[str, Any]:
    return {name: _strict(item) for name, item in as_dict(value).items()}
