"""Checks JSON values against JSON Schemas: for handlers that bring a schema and no types.

A small, honest subset. Checked: ``type enum const properties required additionalProperties items prefixItems
minItems maxItems minimum maximum exclusiveMinimum exclusiveMaximum minLength maxLength pattern allOf anyOf
oneOf $ref`` (local references only; ``oneOf`` is read as ``anyOf``). Every other keyword is ignored, and so
is a pattern that could take a regular expression engine hostage. Nothing is coerced.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from ..errors import ToolArgumentsError
from ..types import ToolSpec
from .faults import Fault, join_path, quote, report, shorten, unknown_name
from .json_kinds import is_array, is_object

__all__ = ["Fitting", "TooCostly", "find_faults", "find_stray_booleans", "resolve", "validate_arguments"]

Schema = dict[str, Any]
Path = tuple[str | int, ...]

_MAX_DEPTH = 64
_MAX_FAULTS = 50
_MAX_STEPS = 100_000
_RISKY = re.compile(r"\)[*+?{]|\(\?|\\[1-9]|\\[kgG]")  # repeated groups, lookarounds, back references
_REPEATS = re.compile(r"[*+]|\{\d*,\d*\}")
_MAX_PATTERN = 200
_MAX_MATCHED = 2_000
_COMBINED = frozenset({"allOf", "anyOf", "oneOf", "$ref", "patternProperties", "if"})
_MEASURES = (
    ("minLength", str, False),
    ("maxLength", str, True),
    ("minItems", list, False),
    ("maxItems", list, True),
)
_BOUNDS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("minimum", "at least", operator.ge),
    ("maximum", "at most", operator.le),
    ("exclusiveMinimum", "more than", operator.gt),
    ("exclusiveMaximum", "less than", operator.lt),
)


def validate_arguments(spec: ToolSpec, args: object) -> None:
    """Check arguments against ``spec.parameters``.

    Keys that are not in ``properties`` are wrong unless ``additionalProperties`` says otherwise (an object
    inside the arguments must say so itself). Raises ToolArgumentsError whose text the model can act on.
    """
    schema = spec.parameters
    properties = _mapping(schema.get("properties"))
    if not is_object(args):
        faults = [Fault("", "should be a JSON object with named arguments", args)]
    else:
        closed = bool(properties) and "additionalProperties" not in schema and not _COMBINED & schema.keys()
        faults = find_faults({**schema, "additionalProperties": False} if closed else schema, args)
    if faults:
        required = [name for name in _sequence(schema.get("required")) if isinstance(name, str)]
        opening = f"The arguments of {quote(spec.name)} are wrong:"
        raise ToolArgumentsError(report(opening, faults, names=list(properties), required=required))


def find_faults(schema: Schema, value: object) -> list[Fault]:
    """Where a value does not fit its schema. Nothing is coerced; a value too costly to check is a fault."""
    try:
        return _first(_Checker(schema).faults(schema, value, (), 0))
    except TooCostly:
        return [_INTRICATE]


class _Walk:
    """Counts steps, so that a schema that branches into itself, or a huge value, ends in a fault."""

    def __init__(self) -> None:
        self._left = _MAX_STEPS

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooCostly


class TooCostly(Exception):
    """A value, or a schema that branches into itself, takes more steps than it is worth."""


_INTRICATE = Fault("", "is too large, or its schema too intricate, to be checked; send less")


def _first(faults: Iterator[Fault]) -> list[Fault]:
    return [fault for fault, _ in zip(faults, range(_MAX_FAULTS), strict=False)]


class _Checker:
    """Walks a value along a schema. ``root`` is where local references point."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._walk = _Walk()

    def faults(self, schema: Any, value: Any, path: Path, depth: int) -> Iterator[Fault]:
        self._walk.step()
        if schema is False:
            yield Fault(join_path(path), "nothing is allowed here", value)
        if not is_object(schema):
            return
        if depth > _MAX_DEPTH:
            yield Fault(join_path(path[:8]), "is nested too deeply")
            return
        node = schema
        if (wrong := _wrong_kind(node, value)) is not None:
            yield Fault(join_path(path), wrong, value)
            return
        yield from (Fault(join_path(path), problem, value) for problem in _wrong_size(node, value))
        if is_object(value):
            yield from self._object(node, value, path, depth)
        elif is_array(value):
            yield from self._array(node, value, path, depth)
        yield from self._combined(node, value, path, depth)

    def _object(self, node: Schema, value: dict[Any, Any], path: Path, depth: int) -> Iterator[Fault]:
        properties = _mapping(node.get("properties"))
        for name in _sequence(node.get("required")):
            if isinstance(name, str) and name not in value:
                yield Fault(join_path((*path, name)), "is required but missing")
        others = node.get("additionalProperties", True)
        matched_elsewhere = "patternProperties" in node
        for key, item in value.items():
            where = (*path, str(key))
            if key in properties:
                yield from self.faults(properties[key], item, where, depth + 1)
            elif others is False and not matched_elsewhere:
                yield Fault(join_path(where), unknown_name(str(key), list(properties)))
            elif is_object(others) and not matched_elsewhere:
                yield from self.faults(others, item, where, depth + 1)

    def _array(self, node: Schema, value: list[Any], path: Path, depth: int) -> Iterator[Fault]:
        first = _sequence(node.get("prefixItems"))
        for index, item in enumerate(value):
            schema = first[index] if index < len(first) else node.get("items")
            yield from self.faults(schema, item, (*path, index), depth + 1)

    def _combined(self, node: Schema, value: Any, path: Path, depth: int) -> Iterator[Fault]:
        if (target := resolve(node, self._root)) is not None:
            yield from self.faults(target, value, path, depth + 1)
        for branch in _sequence(node.get("allOf")):
            yield from self.faults(branch, value, path, depth + 1)
        for key in ("anyOf", "oneOf"):
            branches = _sequence(node.get(key))
            if not branches:
                continue
            best: list[Fault] | None = None
            for branch in branches:
                found = _first(self.faults(branch, value, path, depth + 1))
                if not found:
                    best = []
                    break
                # the branch that got furthest into the value says most about what was meant
                if best is None or len(found[0].path) > len(best[0].path):
                    best = found
            yield from _as_choice(best or [], branches, join_path(path), value)


class Fitting:
    """Whether values fit parts of one schema. Raises TooCostly when asking has become too much, all in all."""

    def __init__(self, root: Schema) -> None:
        self._checker = _Checker(root)

    def fits(self, schema: Any, value: Any) -> bool:
        """Whether ``value`` fits ``schema``, a part of the root."""
        return next(self._checker.faults(schema, value, (), 0), None) is None


def _as_choice(faults: list[Fault], branches: Sequence[Any], path: str, value: Any) -> Iterator[Fault]:
    if faults and faults[0].path == path and len(branches) > 1:
        kinds = [_mapping(branch).get("type") or "one of the other forms" for branch in branches]
        wanted = dict.fromkeys(_type_words(kind) for kind in kinds)
        yield Fault(path, f"should be {' or '.join(wanted)}", value)
    else:
        yield from faults


def resolve(node: Schema, root: Schema) -> Schema | None:
    """What the local reference of a node points to; None when there is none or it points nowhere."""
    reference = node.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    target: Any = root
    for step in reference[1:].split("/")[1:]:
        target = _mapping(target).get(step.replace("~1", "/").replace("~0", "~"))
    return target if is_object(target) else None


def _wrong_kind(node: Schema, value: Any) -> str | None:
    kinds: Any = node.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds
    if is_array(names) and not any(_is_kind(value, name) for name in names):
        return f"should be {_type_words(names)}"
    if "const" in node and not _same(value, node["const"]):
        return f"should be {_literal(node['const'])}"
    choices = node.get("enum")
    if is_array(choices) and not any(_same(value, choice) for choice in choices):
        return f"should be one of {shorten(', '.join(_literal(choice) for choice in choices[:40]), 240)}"
    return None


def _wrong_size(node: Schema, value: Any) -> Iterator[str]:
    for key, kind, is_upper in _MEASURES:
        bound = node.get(key)
        if isinstance(bound, int) and isinstance(value, kind):
            size = len(cast("str", value))
            if size > bound if is_upper else size < bound:
                unit = "characters" if kind is str else "items"
                yield f"should have {'at most' if is_upper else 'at least'} {bound} {unit}, not {size}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        for key, words, holds in _BOUNDS:
            bound = node.get(key)
            if isinstance(bound, int | float) and not isinstance(bound, bool) and not holds(value, bound):
                yield f"should be {words} {bound}"
    pattern = node.get("pattern")
    if isinstance(pattern, str) and isinstance(value, str) and len(value) <= _MAX_MATCHED:
        compiled = _safe_pattern(pattern)
        if compiled is not None and not compiled.search(value):
            yield f"should match the pattern {shorten(pattern)}"


@functools.lru_cache(maxsize=256)
def _safe_pattern(pattern: str) -> re.Pattern[str] | None:
    """The compiled pattern, or None for one that is too costly or not Python's dialect."""
    if len(pattern) > _MAX_PATTERN or _RISKY.search(pattern) or len(_REPEATS.findall(pattern)) > 2:
        return None
    try:
        return re.compile(pattern)
    except re.error:
        return None


def _is_kind(value: Any, name: Any) -> bool:
    if isinstance(value, bool) or value is None:
        return bool(name == ("null" if value is None else "boolean"))
    if isinstance(value, float):
        return math.isfinite(value) and (name == "number" or (name == "integer" and value.is_integer()))
    kinds = {"string": str, "integer": int, "number": int, "array": list, "object": dict}
    if name in ("null", "boolean"):
        return False
    return not isinstance(name, str) or name not in kinds or isinstance(value, kinds[name])


def _same(value: Any, other: Any) -> bool:
    """JSON equality: unlike Python's, true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _type_words(kinds: Any) -> str:
    if is_array(kinds):
        return " or ".join(_type_words(kind) for kind in kinds[:10])
    word = shorten(str(kinds), 40)
    if word == "null":
        return "null"
    return word if " " in word else f"{'an' if word[:1] in 'aio' else 'a'} {word}"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return shorten(str(value))


def _mapping(value: Any) -> dict[str, Any]:
    return value if is_object(value) else {}


def _sequence(value: Any) -> list[Any]:
    return value if is_array(value) else []


# --- booleans where numbers are meant ---------------------------------------------------------------


def find_stray_booleans(schema: Schema, value: Any) -> list[Fault]:
    """Booleans in ``value`` where the schema knows none, which a lax validator would read as 0 and 1."""
    try:
        return _first(_Strays(schema).find(schema, value, (), 0))
    except TooCostly:
        return [_INTRICATE]


class _Strays:
    """Walks along a schema looking at booleans only; every other mismatch is left to the validator."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._walk = _Walk()

    def find(self, schema: Any, value: Any, path: Path, depth: int) -> Iterator[Fault]:
        self._walk.step()
        if not is_object(schema) or depth > _MAX_DEPTH:
            return
        if not (isinstance(value, bool) or is_object(value) or is_array(value)):
            return
        target = resolve(schema, self._root)
        if target is not None:
            yield from self.find(target, value, path, depth + 1)
        choices = (*_sequence(schema.get("anyOf")), *_sequence(schema.get("oneOf")))
        branches = [branch for branch in choices if self._could_be(branch, value, 0)]
        if branches:
            found = [_first(self.find(branch, value, path, depth + 1)) for branch in branches]
            yield from min(found, key=len)
        elif isinstance(value, bool):
            if not self._could_be(schema, value, 0):
                yield Fault(join_path(path), "should not be a boolean", value)
        else:
            for key, inner, item in _inside(schema, value):
                yield from self.find(inner, item, (*path, key), depth + 1)

    def _could_be(self, schema: Any, value: Any, depth: int) -> bool:
        """Whether a schema allows this kind of value at all, its contents apart."""
        self._walk.step()
        if not is_object(schema) or depth > _MAX_DEPTH:
            return schema is not False
        target = resolve(schema, self._root)
        if target is not None and not self._could_be(target, value, depth + 1):
            return False
        for key in ("anyOf", "oneOf"):
            branches = _sequence(schema.get(key))
            if branches and not any(self._could_be(branch, value, depth + 1) for branch in branches):
                return False
        return _wrong_kind(schema, value) is None


def _inside(schema: Schema, value: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """The key, schema and value of everything directly inside an object or array."""
    if is_object(value):
        properties = _mapping(schema.get("properties"))
        for key, item in value.items():
            yield str(key), properties.get(key, schema.get("additionalProperties")), item
    elif is_array(value):
        first = _sequence(schema.get("prefixItems"))
        for index, item in enumerate(value):
            yield index, first[index] if index < len(first) else schema.get("items"), item
