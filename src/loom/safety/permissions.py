"""Whether a call may proceed, judged from what is declared: modes, rules, and the tool's own facts.

Pure: a decision is a function of the policy, the spec and the arguments. Nothing here asks or remembers.
"""

from __future__ import annotations

import fnmatch
import math
import unicodedata
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, get_args

from msgspec import Struct

from ..types import ToolSpec
from .declared import instance, mapping, text, word

Action = Literal["allow", "ask", "deny"]


class PermissionMode(StrEnum):
    """How calls that no rule names are treated.

    ``DEFAULT``: destructive tools and those that need approval ask. ``PLAN``: only read-only tools run.
    ``SUPERVISED``: everything that is not read-only asks. ``ACCEPT_EDITS``: as default, but file edits do not
    ask. ``AUTO``: nothing asks unless a rule says so.
    """

    DEFAULT = "default"
    SUPERVISED = "supervised"
    PLAN = "plan"
    ACCEPT_EDITS = "accept_edits"
    AUTO = "auto"


class PermissionRule(Struct, frozen=True):
    """One line of policy: ``action`` for calls of tools matching ``tool`` whose arguments match.

    ``tool`` is a name or a shell-style pattern (``mcp__*``). ``arguments`` maps argument names to patterns;
    all must match. Text is compared case-folded, width-normalised and stripped, so that ``" Production"``
    does not slip past a rule on ``production``. A missing argument matches only the pattern ``*``.

    Raises ConfigError for what can match nothing. Whether there is such a tool is checked when the agent's
    tools are known.
    """

    action: Action
    tool: str = "*"
    arguments: dict[str, str] = {}
    reason: str = ""

    def __post_init__(self) -> None:
        word("the action of a rule", self.action, get_args(Action))
        text("the tool of a rule", self.tool)
        instance("the reason of a rule", self.reason, str)
        for name, pattern in mapping("the arguments of a rule", self.arguments).items():
            instance(f"the pattern for {name}", pattern, str, 'write it as text: "..."')

    @classmethod
    def allow(
        cls,
        tool: str = "*",
        /,
        *,
        reason: str = "",
        arguments: Mapping[str, str] | None = None,
        **patterns: str,
    ) -> PermissionRule:
        """Let matching calls run without asking.

        ``allow("deploy", environment="staging")`` matches by the argument ``environment``. An argument that is
        itself called ``reason`` or ``arguments`` is matched by ``arguments={"reason": "gift*"}``.
        """
        return cls("allow", tool, {**(arguments or {}), **patterns}, reason)

    @classmethod
    def ask(
        cls,
        tool: str = "*",
        /,
        *,
        reason: str = "",
        arguments: Mapping[str, str] | None = None,
        **patterns: str,
    ) -> PermissionRule:
        """Ask a human about matching calls. Arguments as in ``allow``."""
        return cls("ask", tool, {**(arguments or {}), **patterns}, reason)

    @classmethod
    def deny(
        cls,
        tool: str = "*",
        /,
        *,
        reason: str = "",
        arguments: Mapping[str, str] | None = None,
        **patterns: str,
    ) -> PermissionRule:
        """Refuse matching calls. Arguments as in ``allow``."""
        return cls("deny", tool, {**(arguments or {}), **patterns}, reason)

    def matches(self, name: str, arguments: dict[str, Any]) -> bool:
        """Whether this rule speaks about the call."""
        if not name_matches(name, self.tool):
            return False
        return all(value_matches(arguments.get(key, ""), pattern) for key, pattern in self.arguments.items())

    def __str__(self) -> str:
        conditions = "".join(f", {name}={pattern!r}" for name, pattern in self.arguments.items())
        return f"{self.action} {self.tool}{conditions}"


class Ruling(Struct, frozen=True):
    """What permission says about one call, and which line of policy said it."""

    action: Action
    source: str
    reason: str = ""


_ALLOWED = Ruling("allow", "permission")
_STRICTNESS = ("allow", "ask", "deny")


def stricter(one: Ruling, other: Ruling) -> Ruling:
    """Deny beats ask beats allow; of equals the first."""
    return other if _STRICTNESS.index(other.action) > _STRICTNESS.index(one.action) else one


def judge(
    spec: ToolSpec, arguments: dict[str, Any], *, mode: PermissionMode, rules: Sequence[PermissionRule]
) -> Ruling:
    """Rule on one call. A deny rule wins over everything, an ask rule over allow rules, those over the mode."""
    if rules:
        matching = [rule for rule in rules if rule.matches(spec.name, arguments)]
        for action in ("deny", "ask", "allow"):
            for rule in matching:
                if rule.action == action:
                    reason = rule.reason or f"a rule says so: {rule}"
                    return Ruling(rule.action, "permission", reason)
    # guard: tests/kernel/test_governed_path.py
    if mode is PermissionMode.PLAN and not spec.read_only:
        return Ruling(
            "deny", "permission", f"plan mode runs read-only tools only, and {spec.name} is not one"
        )
    if mode is PermissionMode.SUPERVISED and not spec.read_only:
        return Ruling("ask", "permission", f"{spec.name} is not read-only")
    if not spec.asks or mode is PermissionMode.AUTO:
        return _ALLOWED
    if mode is PermissionMode.ACCEPT_EDITS and (spec.meta or {}).get("kind") == "edit":
        return _ALLOWED
    return Ruling("ask", "permission", _why_asked(spec))


def name_matches(name: str, pattern: str) -> bool:
    """Whether a tool of that name is meant by ``pattern``: the one language for names, in rules and in vetoes."""
    return fnmatch.fnmatchcase(name, pattern)


def is_pattern(name: str) -> bool:
    """Whether this is a pattern, which may match any number of names, rather than a name."""
    return any(sign in name for sign in "*?[")


def value_matches(value: Any, pattern: str) -> bool:
    """Whether the value of an argument is meant by ``pattern``. Numbers are one however they are written."""
    if isinstance(value, float | int) and not isinstance(value, bool) and number_in(pattern) == value:
        return True
    return fnmatch.fnmatchcase(normalise(value), normalise(pattern))


def number_in(value: Any) -> float | None:
    """The number that ``value`` is or is the text of; None when there is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return number if abs(number) < math.inf else None


def normalise(value: Any) -> str:
    """Text in the one form rules compare: NFKC, case-folded, stripped of outer space.

    A number without a fraction is written without one: JSON knows no other difference between 1 and 1.0.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return unicodedata.normalize("NFKC", str(value)).casefold().strip()


def _why_asked(spec: ToolSpec) -> str:
    return f"{spec.name} is destructive" if spec.destructive else f"{spec.name} needs approval"
