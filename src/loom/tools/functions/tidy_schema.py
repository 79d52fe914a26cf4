"""Makes a generated JSON Schema fit to send to a model: short, self-contained, always the same.

Only the form changes, never what the schema accepts. Generating and checking live elsewhere.
"""

from __future__ import annotations

from typing import Any, cast

from ...safety.json_kinds import is_array, is_object

__all__ = ["DEFS_PREFIX", "tidy_schema"]

DEFS_PREFIX = "#/$defs/"
_MAX_INLINE = 400
"""Definitions that grow beyond this many nodes stay references, so that a schema cannot explode."""

_ORDER = ("type", "description", "properties", "required", "additionalProperties")
_NOISE = ("title", "$defs", "$schema", "discriminator")  # a discriminator names definitions that are gone
_SCHEMA_KEYS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_LIST_KEYS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAP_KEYS = ("properties", "patternProperties", "dependentSchemas")

Schema = dict[str, Any]


def tidy_schema(schema: Schema) -> Schema:
    """A new schema without titles and null defaults, small references inlined, keys in a fixed order.

    Recursive and very large definitions stay in ``$defs``. The argument is not changed.
    """
    definitions = _Definitions(schema)
    tidy = _tidy(schema, definitions)
    kept = {name: _tidy(definitions.by_name[name], definitions) for name in definitions.used_names()}
    if kept:
        tidy["$defs"] = kept
    return tidy


class _Definitions:
    """The ``$defs`` of a schema, wherever in it they were put, and which of them are inlined."""

    def __init__(self, schema: Schema) -> None:
        self.by_name: dict[str, Schema] = {}
        self._collect(schema)
        self._sizes: dict[str, int | None] = {}
        self._referred: dict[str, None] = {}

    def _collect(self, node: Schema) -> None:
        for name, definition in cast("dict[str, Any]", node.get("$defs") or {}).items():
            if name not in self.by_name and is_object(definition):
                self.by_name[name] = definition
                self._collect(definition)
        for child in children(node):
            self._collect(child)

    def refer(self, name: str) -> Schema | None:
        """The definition to put in place of a reference; None when the reference must stay."""
        size = self._size(name)
        if size is not None and size <= _MAX_INLINE:
            return self.by_name[name]
        if name in self.by_name:
            self._referred[name] = None
        return None

    def _size(self, name: str) -> int | None:
        """Nodes after inlining, None for a definition that is recursive or missing."""
        if name not in self._sizes:
            self._sizes[name] = None  # seen again before it is known: recursive
            definition = self.by_name.get(name)
            if definition is not None:
                self._sizes[name] = self._grown(definition)
        return self._sizes[name]

    def _grown(self, node: Schema) -> int | None:
        total = 1
        name = local_name(node)
        if name is not None:
            size = self._size(name)
            if size is None:
                return None
            total += size if size <= _MAX_INLINE else 1
        for child in children(node):
            size = self._grown(child)
            if size is None:
                return None
            total += size
        return total

    def used_names(self) -> list[str]:
        """Names that stay references, directly or from a definition that stays; sorted."""
        done: set[str] = set()
        while waiting := [name for name in self._referred if name not in done]:
            for name in waiting:
                done.add(name)
                _tidy(self.by_name[name], self)
        return sorted(done)


def local_name(node: Schema) -> str | None:
    """The name in ``$defs`` that a node refers to, or None."""
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith(DEFS_PREFIX):
        return reference[len(DEFS_PREFIX) :].replace("~1", "/").replace("~0", "~")
    return None


def children(node: Schema) -> list[Schema]:
    """The schemas directly inside a schema, definitions apart."""
    found: list[Any] = [node.get(key) for key in _SCHEMA_KEYS]
    for key in _LIST_KEYS:
        found.extend(cast("list[Any]", node.get(key) or []))
    for key in _MAP_KEYS:
        found.extend(cast("dict[str, Any]", node.get(key) or {}).values())
    return [child for child in found if is_object(child)]


def _tidy(node: Schema, definitions: _Definitions) -> Schema:
    name = local_name(node)
    definition = definitions.refer(name) if name is not None else None
    if definition is not None:
        beside = {key: value for key, value in node.items() if key not in ("$ref", "$defs")}
        return _tidy({**definition, **beside}, definitions)  # what stands beside a reference says more
    out: Schema = {}
    for key in (*(key for key in _ORDER if key in node), *(key for key in node if key not in _ORDER)):
        value = node[key]
        noise = key in _NOISE or (key == "default" and value is None)
        if not noise:
            out[key] = _tidy_value(key, value, definitions)
    return out


def _tidy_value(key: str, value: Any, definitions: _Definitions) -> Any:
    if key in _SCHEMA_KEYS and is_object(value):
        return _tidy(value, definitions)
    if key in _LIST_KEYS and is_array(value):
        return [_tidy_any(item, definitions) for item in value]
    if key in _MAP_KEYS and is_object(value):
        return {name: _tidy_any(item, definitions) for name, item in value.items()}
    return value


def _tidy_any(item: Any, definitions: _Definitions) -> Any:
    return _tidy(item, definitions) if is_object(item) else item
