"""Near-miss arguments read as they were meant: what weaker models get wrong in form, never in meaning.

A value is changed only where it does not fit its schema and exactly one reading of it does:

- ``"5"`` for a number, ``5`` or ``1.5`` for a string, ``3.0`` for an integer;
- ``"true"``, ``"yes"`` or ``1`` for a boolean;
- JSON text, also with trailing commas, in a code fence or as a Python literal, for an object or an array;
- one item for an array of such items; a word of an enumeration in another case.

Nothing is cut, rounded, split, renamed or left out; null stays null. Pure functions over JSON values; what they
return is validated by the caller.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from .json_kinds import is_array, is_object
from .schema import Fitting, TooCostly, resolve

__all__ = ["loose_json", "mended", "split_fences"]

Schema = dict[str, Any]

_MAX_TEXT = 100_000
"""Characters of JSON text inside of a string that are read: more than a model writes by accident."""
_MAX_DEPTH = 32
_MAX_BITS = 256
"""Of an integer that is read as text: more than any id has, and far below what Python refuses to spell out."""
_FENCE = re.compile(r"```[ \t]*(\w*)")
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[\]}])')
_INTEGER = re.compile(r"[+-]?[0-9][0-9_]{0,40}(?:\.0{0,20})?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_TRUE = frozenset({"true", "yes", "y", "t", "on", "1"})
_FALSE = frozenset({"false", "no", "n", "f", "off", "0"})
_NOTHING: Any = object()


def mended(schema: Schema, arguments: dict[str, Any]) -> dict[str, Any]:
    """``arguments`` as they were meant by the schema; the same object when nothing is to be changed."""
    try:
        fixed = _Mender(schema).mend(schema, arguments, 0)
    except (TooCostly, RecursionError):
        return arguments
    return fixed if is_object(fixed) else arguments


def loose_json(text: str) -> Any:
    """What JSON text says that is not quite JSON. Raises ValueError for text of which that cannot be told."""
    if len(text) > _MAX_TEXT:
        raise ValueError("the text is too long")
    fences, beside = split_fences(text)
    alone = len(fences) == 1 and not beside.strip()
    body = (fences[0][1] if alone else text).strip().removeprefix("\ufeff")
    for candidate in (body, _TRAILING_COMMA.sub(lambda found: found[1] or "", body)):
        try:
            return msgspec.json.decode(candidate)
        except (ValueError, RecursionError):
            continue
    return _python_literal(body)


def split_fences(text: str) -> tuple[list[tuple[str, str]], str]:
    """The code fences in ``text``, each as its language and what it holds, and the text beside them.

    A fence that is not closed is text. Takes time that grows with the text alone.
    """
    fences: list[tuple[str, str]] = []
    beside: list[str] = []
    language: str | None = None
    held: list[str] = []
    for line in text.split("\n"):
        if language is None:
            opening = _FENCE.fullmatch(line.strip())
            if opening is None:
                beside.append(line)
            else:
                language, held = opening[1], []
        elif line.rstrip().endswith("```"):
            fences.append((language, "\n".join([*held, line.rstrip()[:-3]])))
            language = None
        else:
            held.append(line)
    if language is not None:
        beside += ["```" + language, *held]
    return fences, "\n".join(beside)


def _python_literal(text: str) -> Any:
    if text[:1] not in ("{", "["):
        raise ValueError("the text is no object and no array")
    try:
        value = ast.literal_eval(text)
        return msgspec.json.decode(msgspec.json.encode(value)) if _is_plain(value) else _refuse()
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("the text is no JSON") from error


def _is_plain(value: Any) -> bool:
    """Whether a Python literal is one JSON can say without a change: no tuples, sets, bytes or numbers as keys."""
    if is_object(value):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if is_array(value):
        return all(_is_plain(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _refuse() -> Any:
    raise ValueError("the text is no plain data")


class _Mender:
    """Walks a value along a schema and changes what does not fit. One value has one mending, or none."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._fitting = Fitting(root)

    def mend(self, schema: Any, value: Any, depth: int) -> Any:
        """``value`` changed to fit, as far as that can be told; itself when it fits or nothing can be."""
        if not is_object(schema) or depth > _MAX_DEPTH:
            return value
        if isinstance(value, float) and value.is_integer() and schema.get("type") == "integer":
            return int(value)  # it fits as it is, but gates should see the integer that the tool will get
        if self._fitting.fits(schema, value) and not is_object(value) and not is_array(value):
            return value
        target = resolve(schema, self._root)
        if target is not None:
            return self.mend(target, value, depth + 1)
        if (is_object(value) or is_array(value)) and self._fitting.fits(schema, value) and _branches(schema):
            return value
        for key in ("anyOf", "oneOf"):
            if is_array(branches := schema.get(key)):
                return self._only_choice(branches, value, depth)
        if is_array(parts := schema.get("allOf")) and len(parts) == 1:
            return self.mend(parts[0], value, depth + 1)
        return self._by_kind(schema, value, depth)

    def _only_choice(self, branches: list[Any], value: Any, depth: int) -> Any:
        """What the branches make of a value, when all that can make something of it make the same."""
        found: list[Any] = []
        for branch in branches:
            made = self.mend(branch, value, depth + 1)
            if self._fitting.fits(branch, made) and not any(_same(made, other) for other in found):
                found.append(made)
        return found[0] if len(found) == 1 else value

    def _by_kind(self, schema: Schema, value: Any, depth: int) -> Any:
        kinds = schema.get("type")
        for kind in kinds if is_array(kinds) else [kinds]:
            made = self._read(kind, schema, value, depth)
            if made is not _NOTHING:
                return made
        words = schema.get("enum", [schema["const"]] if "const" in schema else None)
        return _word(words, value) if is_array(words) else value

    def _read(self, kind: Any, schema: Schema, value: Any, depth: int) -> Any:
        """``value`` as ``kind``, as far as the kind goes; _NOTHING when it is not that in another form."""
        if kind == "object":
            inner = value if is_object(value) else _parsed(value, dict)
            return _NOTHING if inner is _NOTHING else self._object(schema, inner, depth)
        if kind == "array":
            return self._array(schema, value, depth)
        read = _SCALARS.get(kind) if isinstance(kind, str) else None
        made = read(value) if read else _NOTHING
        return made if made is not _NOTHING and self._fitting.fits(schema, made) else _NOTHING

    def _object(self, schema: Schema, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        properties: Any = schema.get("properties")
        known: dict[Any, Any] = properties if is_object(properties) else {}
        others = schema.get("additionalProperties")
        out = {key: self.mend(known.get(key, others), item, depth + 1) for key, item in value.items()}
        return out if any(out[key] is not value[key] for key in out) else value

    def _array(self, schema: Schema, value: Any, depth: int) -> Any:
        items, first = schema.get("items"), schema.get("prefixItems")
        if not is_array(value):
            parsed = _parsed(value, list)
            if parsed is not _NOTHING:
                return self._array(schema, parsed, depth)
            if not items or first or value is None:
                return _NOTHING  # anything would do as an item, so nothing tells that one was meant
            item = self.mend(items, value, depth + 1)
            return [item] if self._fitting.fits(items, item) else _NOTHING
        before = first if is_array(first) else []
        out = [
            self.mend(before[index] if index < len(before) else items, item, depth + 1)
            for index, item in enumerate(value)
        ]
        return out if any(new is not old for new, old in zip(out, value, strict=True)) else value


def _branches(schema: Schema) -> bool:
    return any(key in schema for key in ("anyOf", "oneOf", "allOf"))


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _parsed(value: Any, kind: type) -> Any:
    if not isinstance(value, str):
        return _NOTHING
    try:
        parsed = loose_json(value)
    except ValueError:
        return _NOTHING
    return parsed if isinstance(parsed, kind) else _NOTHING


def _word(words: list[Any], value: Any) -> Any:
    """The one word that is ``value`` in another case."""
    if not isinstance(value, str):
        return value
    wanted = value.strip().casefold()
    found = [word for word in words if isinstance(word, str) and word.casefold() == wanted]
    return found[0] if len(found) == 1 else value


def _integer(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(text := value.strip()):
        try:
            return int(text.partition(".")[0])
        except ValueError:  # underscores in odd places
            return _NOTHING
    return _NOTHING


def _number(value: Any) -> Any:
    whole = _integer(value) if isinstance(value, str) else _NOTHING
    if whole is not _NOTHING:
        return whole
    if isinstance(value, str) and _NUMBER.fullmatch(text := value.strip()):
        number = float(text)
        return number if math.isfinite(number) else _NOTHING
    return _NOTHING


def _string(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _NOTHING
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _MAX_BITS else _NOTHING
    return str(value) if math.isfinite(value) else _NOTHING


def _boolean(value: Any) -> Any:
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else _NOTHING
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return _NOTHING


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "string": _string,
    "boolean": _boolean,
}
