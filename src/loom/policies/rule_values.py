"""Whether a condition on an argument can be met at all, by what the argument's schema says of its values.

Judged by ``type``, ``enum``, ``const``, unions and references. What a schema does not say is taken as possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..safety.permissions import PermissionRule, is_pattern, number_in, value_matches
from ..safety.veto import SafetyRule, same

_DIGITS = {"integer": frozenset("0123456789-"), "number": frozenset("0123456789-+.e")}
_OPENING = {"array": "[", "object": "{"}
_FEW: dict[str, tuple[Any, ...]] = {"boolean": (True, False), "null": (None,)}
_MOST_TOLD = 8
_DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule: ``holds`` of a value, ``fits`` a type of values that cannot be listed."""

    argument: str
    wanted: str
    holds: Callable[[Any], bool]
    fits: Callable[[str], bool]


def conditions_of(rule: PermissionRule | SafetyRule) -> list[Condition]:
    """What the rule demands of arguments."""
    if isinstance(rule, PermissionRule):
        return [_pattern(name, pattern) for name, pattern in rule.arguments.items()]
    equal = [_equal(name, value) for name, value in rule.arg_equals.items()]
    begun = [_texts(name, [prefix], start=True) for name, prefix in rule.arg_prefixes.items()]
    held = [_texts(name, list(values), start=False) for name, values in rule.arg_contains_any.items()]
    return [*equal, *begun, *held]


def impossible(condition: Condition, parameters: Mapping[str, Any]) -> str:
    """Why no value of the argument can meet the condition; empty when one may."""
    properties = parameters.get("properties")
    schema = (
        cast("dict[str, Any]", properties).get(condition.argument) if isinstance(properties, dict) else None
    )
    if not isinstance(schema, dict):
        return ""
    declared = cast("dict[str, Any]", schema)
    if condition.argument not in parameters.get("required", ()) and condition.holds(""):
        return ""  # left out, it is compared as empty text
    if "default" in declared and condition.holds(declared["default"]):
        return ""
    known = list(_values(declared, parameters, _DEEPEST))
    if any(_possible(condition, one) for one in known):
        return ""
    told = ", ".join(dict.fromkeys(_told(known)))
    return f"{condition.argument} can never be {condition.wanted}: its values are {told}"


@dataclass(frozen=True, slots=True)
class _Listed:
    values: tuple[Any, ...]


def _possible(condition: Condition, one: _Listed | str) -> bool:
    if isinstance(one, _Listed):
        return any(condition.holds(value) for value in one.values)
    return condition.fits(one)


def _values(schema: Mapping[str, Any], root: Mapping[str, Any], deep: int) -> Iterator[_Listed | str]:
    """What a schema allows: values that are listed, or the names of types. An empty name is anything."""
    if deep == 0:
        yield ""
    elif "const" in schema:
        yield _Listed((schema["const"],))
    elif isinstance(listed := schema.get("enum"), list):
        yield _Listed(tuple(listed))  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(there := schema.get("$ref"), str):
        yield from _values(_referred(there, root), root, deep - 1)
    elif isinstance(union := schema.get("anyOf", schema.get("oneOf")), list):
        for one in union:  # pyright: ignore[reportUnknownVariableType]
            yield from _values(cast("dict[str, Any]", one) if isinstance(one, dict) else {}, root, deep - 1)
    else:
        kinds = schema.get("type", "")
        for kind in map(str, kinds if isinstance(kinds, list) else [kinds]):  # pyright: ignore[reportUnknownArgumentType]
            yield _Listed(_FEW[kind]) if kind in _FEW else kind


def _referred(reference: str, root: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _told(known: Iterable[_Listed | str]) -> Iterator[str]:
    for one in known:
        if isinstance(one, str):
            yield f"of type {one}"
        else:
            yield from (repr(value) for value in one.values[:_MOST_TOLD])
            if len(one.values) > _MOST_TOLD:
                yield "..."


def _pattern(name: str, pattern: str) -> Condition:
    return Condition(
        name,
        f"matched by {pattern!r}",
        lambda value: value_matches(value, pattern),
        lambda kind: _pattern_fits(pattern.strip().casefold(), kind),
    )


def _pattern_fits(pattern: str, kind: str) -> bool:
    if "[" in pattern:  # a set of signs, whatever it holds
        return True
    if kind in _DIGITS and not is_pattern(pattern):
        number = number_in(pattern)
        return number is not None and (kind == "number" or number == number // 1)
    return _text_fits(pattern.replace("*", "").replace("?", ""), kind, start=pattern[:1] not in "*?")


def _text_fits(part: str, kind: str, *, start: bool) -> bool:
    """Whether ``part`` can stand in the text of a value of that type, at its start or anywhere."""
    if kind in _DIGITS:
        return _DIGITS[kind].issuperset(part)
    return kind not in _OPENING or not start or part.startswith(_OPENING[kind])


def _texts(name: str, texts: list[str], *, start: bool) -> Condition:
    told = " or ".join(map(repr, texts))
    pieces = [text.strip().casefold() for text in texts]

    veto = SafetyRule(
        name="n",
        reason="",
        arg_prefixes={name: texts[0]} if start else {},
        arg_contains_any={} if start else {name: texts},
    )

    def holds(value: Any) -> bool:
        return veto.matches("", {name: value})

    return Condition(
        name,
        f"text {'beginning with' if start else 'containing'} {told}",
        holds,
        lambda kind: any(_text_fits(piece, kind, start=start) for piece in pieces),
    )


def _equal(name: str, wanted: Any) -> Condition:
    def fits(kind: str) -> bool:
        if kind in _DIGITS:
            number = number_in(wanted)
            return number is not None and (kind == "number" or number == number // 1)
        if kind in _OPENING:
            return isinstance(wanted, list if kind == "array" else dict)
        return kind != "string" or isinstance(wanted, str | int | float)

    return Condition(name, f"equal to {wanted!r:.80}", lambda value: same(value, wanted), fits)
