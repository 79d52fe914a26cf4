"""Vetoes: conditions under which a call is refused whatever else was decided.

A rule states all its conditions; they are ANDed. A rule without any condition is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from .declared import function, instance, mapping, plain, takes, text, texts
from .permissions import name_matches, normalise, number_in

_WRAP = "wrap the predicate: SafetyEvaluator.callable(...)"


@dataclass(frozen=True, slots=True)
class SafetyEvaluator:
    """A predicate of the application: ``handler(tool_name, arguments) -> bool``, True to veto."""

    handler: Callable[[str, dict[str, Any]], bool]

    def __post_init__(self) -> None:
        what = "the predicate of a safety rule"
        handler = takes(what, function(what, self.handler), "tool_name", "arguments")
        if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
            raise ConfigError(
                "the predicate of a safety rule must not be async; use a before_tool hook for that"
            )

    @classmethod
    def callable(cls, handler: Callable[[str, dict[str, Any]], bool]) -> SafetyEvaluator:
        """Wrap a predicate."""
        return cls(handler)

    def evaluate(self, tool_name: str, arguments: dict[str, Any]) -> bool:
        """Ask the predicate."""
        return bool(self.handler(tool_name, arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyRule:
    """One veto. Text arguments are compared case-folded, width-normalised and stripped; text that spells a number
    or a truth value equals it. Values of ``arg_equals`` are plain JSON.

    ``tool_names`` are names or shell-style patterns (``mcp__*``); none means every tool. Raises ConfigError for a
    rule without any condition, which would never match, and for conditions that cannot be met.
    """

    name: str
    reason: str
    tool_names: Sequence[str] = ()
    arg_equals: dict[str, Any] = field(default_factory=dict[str, Any])
    arg_prefixes: dict[str, str] = field(default_factory=dict[str, str])
    arg_contains_any: dict[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    evaluator: SafetyEvaluator | None = None
    extensions: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        what = f"safety rule {text('the name of a safety rule', self.name)!r}"
        instance(f"the reason of {what}", self.reason, str)
        object.__setattr__(self, "tool_names", texts(f"tool_names of {what}", self.tool_names))
        for argument, value in mapping(f"arg_equals of {what}", self.arg_equals).items():
            plain(f"the value for {argument} of {what}", value)
        for argument, prefix in mapping(f"arg_prefixes of {what}", self.arg_prefixes).items():
            text(f"the prefix for {argument} of {what}", prefix)
        for argument, values in mapping(f"arg_contains_any of {what}", self.arg_contains_any).items():
            if not texts(f"the values for {argument} of {what}", values):
                raise ConfigError(
                    f"{what} looks for none of no values in {argument}, so it would never match"
                )
        if self.evaluator is not None:
            instance(f"the evaluator of {what}", self.evaluator, SafetyEvaluator, _WRAP)
        if not (self.tool_names or self.evaluator or self.argument_names):
            raise ConfigError(f"{what} has no condition, so it would never match")

    @property
    def argument_names(self) -> tuple[str, ...]:
        """The arguments whose values the rule looks at."""
        return (*self.arg_equals, *self.arg_prefixes, *self.arg_contains_any)

    @classmethod
    def block_tool(cls, *, name: str, tool_names: Sequence[str], reason: str) -> SafetyRule:
        """Veto every call of the named tools. Raises ConfigError when none is named."""
        if not texts("tool_names", tool_names):
            raise ConfigError(f"safety rule {name!r} blocks no tool: name at least one")
        return cls(name=name, reason=reason, tool_names=tool_names)

    @classmethod
    def when_argument_equals(
        cls, *, name: str, tool_name: str, argument: str, value: Any, reason: str
    ) -> SafetyRule:
        """Veto calls whose argument equals ``value``."""
        return cls(name=name, reason=reason, tool_names=(tool_name,), arg_equals={argument: value})

    @classmethod
    def when_argument_startswith(
        cls, *, name: str, tool_name: str, argument: str, prefix: str, reason: str
    ) -> SafetyRule:
        """Veto calls whose argument begins with ``prefix``."""
        return cls(name=name, reason=reason, tool_names=(tool_name,), arg_prefixes={argument: prefix})

    @classmethod
    def when_argument_contains_any(
        cls, *, name: str, tool_name: str, argument: str, values: Sequence[str], reason: str
    ) -> SafetyRule:
        """Veto calls whose argument contains one of ``values``."""
        return cls(name=name, reason=reason, tool_names=(tool_name,), arg_contains_any={argument: values})

    @classmethod
    def custom(
        cls, *, name: str, reason: str, evaluator: SafetyEvaluator, tool_names: Sequence[str] = ()
    ) -> SafetyRule:
        """Veto calls for which the application's own predicate is true."""
        return cls(name=name, reason=reason, tool_names=tool_names, evaluator=evaluator)

    def matches(self, tool_name: str, arguments: dict[str, Any]) -> bool:
        """Whether this rule vetoes the call. What raises while it is asked counts as a veto: it fails closed."""
        if self.tool_names and not any(name_matches(tool_name, pattern) for pattern in self.tool_names):
            return False
        try:
            return self._vetoes(tool_name, arguments)
        except KeyboardInterrupt:
            raise
        except BaseException:  # the application's code; a veto that cannot decide must not let a call pass
            return True

    def _vetoes(self, tool_name: str, arguments: dict[str, Any]) -> bool:
        conditions = [
            *(same(arguments.get(key), value) for key, value in self.arg_equals.items()),
            *(_text(arguments, key).startswith(normalise(value)) for key, value in self.arg_prefixes.items()),
            *(
                any(normalise(value) in _text(arguments, key) for value in values)
                for key, values in self.arg_contains_any.items()
            ),
        ]
        if not all(conditions):
            return False
        if self.evaluator is not None:
            return bool(self.evaluator.evaluate(tool_name, arguments))
        return bool(conditions or self.tool_names)


def first_veto(rules: Sequence[SafetyRule], tool_name: str, arguments: dict[str, Any]) -> SafetyRule | None:
    """The first rule that vetoes the call, or None."""
    return next((rule for rule in rules if rule.matches(tool_name, arguments)), None)


def same(actual: Any, expected: Any) -> bool:
    """Whether an argument has the value a rule names. Text also equals the number or truth value it spells."""
    if isinstance(actual, str) and isinstance(expected, str):
        return normalise(actual) == normalise(expected)
    if isinstance(actual, str) or isinstance(expected, str):
        spelled, plainly = (actual, expected) if isinstance(actual, str) else (expected, actual)
        if isinstance(plainly, bool):
            return normalise(spelled) == normalise(plainly)
        return isinstance(plainly, int | float) and number_in(spelled) == plainly
    return bool(actual == expected)


def _text(arguments: dict[str, Any], key: str) -> str:
    return normalise(arguments.get(key, ""))
