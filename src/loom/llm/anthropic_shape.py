"""Answers of a wanted shape on the Anthropic Messages wire: which way, and in which words.

Newer models hold their text to a schema themselves (``native``). All can be made to answer through the arguments
of a tool (``tool``). What neither can express is asked for in words (``prompt``).
Source: https://docs.claude.com/en/docs/build-with-claude/structured-outputs
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from ..types import ToolSpec
from .catalog import find_model
from .encoding import describes_object, encode, shape_instruction, wire_name
from .untyped import as_dict, as_list, is_dict, is_list

Structured = Literal["native", "tool", "prompt"]


def way_of(model: str) -> Structured:
    """The way to ask ``model``, where nobody has chosen one: what the catalogue knows, else the way all can go."""
    info = find_model("anthropic", model)
    return "native" if info is not None and info.structured == "native" else "tool"


def ask_for_shape(
    body: dict[str, Any], schema: dict[str, Any], name: str, tools: Iterable[str], way: Structured
) -> ToolSpec | None:
    """Ask for JSON of ``schema`` in ``body``; return the tool whose call is the answer, if that is the way.

    ``tools`` are the names of the tools in the request. A native schema that the service could not take
    becomes a tool; one whose values are not objects is asked for in words.
    """
    if way == "prompt" or not describes_object(schema):
        tell(body, shape_instruction(schema))
        return None
    if way == "native" and (closed := native_schema(schema)) is not None:
        form = {"type": "json_schema", "schema": closed}
        body["output_config"] = {**as_dict(body.get("output_config")), "format": form}
        return None
    taken = set(tools)
    answer = wire_name(name)
    while answer in taken:
        answer = f"{answer}_answer"
    thinking = body.get("thinking")
    if is_dict(thinking) and thinking != {"type": "disabled"}:
        # A model that thinks may not be forced to a tool, so it has to be told.
        tell(body, f"Give your final answer only by calling the tool {answer}.")
    elif taken:
        body["tool_choice"] = {"type": "any"}
    else:
        body["tool_choice"] = {"type": "tool", "name": answer}
    description = "Give the final answer to the user. Call it alone, when the work is done."
    return ToolSpec(answer, description, schema)


def tell(body: dict[str, Any], told: str) -> None:
    """Add ``told`` to the end of the system text."""
    system: str | list[dict[str, Any]] = body.get("system", "")
    if isinstance(system, str):
        body["system"] = f"{system}\n\n{told}" if system else told
    else:
        body["system"] = [*system, {"type": "text", "text": told}]


# --- the dialect --------------------------------------------------------------------------------------

_KEPT = frozenset({"type", "enum", "const", "default", "description", "title", "required", "$ref"})
_SCHEMAS = frozenset({"items", "additionalProperties"})
_LISTS = frozenset({"anyOf", "allOf"})
_NAMED = frozenset({"properties", "$defs", "definitions"})
_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


def native_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """``schema`` in the dialect of native output, or None when it cannot be said there.

    Every object is closed. Bounds the service does not enforce move into the description, for the model to
    read; whoever asked checks the answer against the whole schema anyway. Open dictionaries and schemas that
    contain themselves have no form there.
    """
    defs = {**as_dict(schema.get("$defs")), **as_dict(schema.get("definitions"))}
    if any(_contains_itself(name, defs, ()) for name in defs):
        return None
    try:
        return _closed(schema)
    except _NotNative:
        return None


class _NotNative(Exception):
    pass


def _closed(node: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    unsaid: dict[str, Any] = {}
    for key, value in node.items():
        if key in _NAMED:
            said[key] = {name: _closed(as_dict(item)) for name, item in as_dict(value).items()}
        elif key in _LISTS or key == "oneOf":
            said["anyOf" if key == "oneOf" else key] = [_closed(as_dict(item)) for item in as_list(value)]
        elif key in _SCHEMAS:
            said[key] = _closed(value) if is_dict(value) else value
        elif key in _KEPT or _is_enforced(key, value):
            said[key] = value
        else:
            unsaid[key] = value
    if node.get("type") == "object" or "properties" in node:
        if node.get("additionalProperties") not in (None, False) or "properties" not in node:
            raise _NotNative
        said["additionalProperties"] = False
    if unsaid:
        rule = f"Must fit the JSON Schema {encode(unsaid).decode()}."
        said["description"] = f"{node['description']}\n\n{rule}" if node.get("description") else rule
    return said


def _is_enforced(key: str, value: Any) -> bool:
    return (key == "format" and value in _FORMATS) or (key == "minItems" and value in (0, 1))


def _contains_itself(name: str, defs: dict[str, Any], within: tuple[str, ...]) -> bool:
    if name in within:
        return True
    return any(_contains_itself(used, defs, (*within, name)) for used in _used(defs.get(name)))


def _used(node: Any) -> set[str]:
    """The names of the definitions that ``node`` refers to."""
    found: set[str] = set()
    for inner in node.values() if is_dict(node) else node if is_list(node) else ():
        found |= _used(inner)
    ref = as_dict(node).get("$ref")
    return found | ({ref.rpartition("/")[2]} if isinstance(ref, str) else set())
