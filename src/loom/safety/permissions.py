"""Whether a call may proceed, judged from what is declared: modes, rules, and the tool's own facts.

Pure: a decision is a function of the policy, the spec and the arguments. Nothing here asks or remembers.
"""

from __future__ import annotations

import fnmatch
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct

from ..types import ToolSpec

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
    """

    action: Action
    tool: str = "*"
    arguments: dict[str, str] = {}
    reason: str = ""

    @classmethod
    def allow(cls, tool: str = "*", reason: str = "", **arguments: str) -> PermissionRule:
        """Let matching calls run without asking."""
        return cls("allow", tool, arguments, reason)

    @classmethod
    def ask(cls, tool: str = "*", reason: str = "", **arguments: str) -> PermissionRule:
        """Ask a human about matching calls."""
        return cls("ask", tool, arguments, reason)

    @classmethod
    def deny(cls, tool: str = "*", reason: str = "", **arguments: str) -> PermissionRule:
        """Refuse matching calls."""
        return cls("deny", tool, arguments, reason)

    def matches(self, name: str, arguments: dict[str, Any]) -> bool:
        """Whether this rule speaks about the call."""
        if not fnmatch.fnmatchcase(name, self.tool):
            return False
        return all(
            fnmatch.fnmatchcase(normalise(arguments.get(key, "")), normalise(pattern))
            for key, pattern in self.arguments.items()
        )


class Ruling(Struct, frozen=True):
    """What permission says about one call, and which line of policy said it."""

    action: Action
    source: str
    reason: str = ""


_ALLOWED = Ruling("allow", "permission")


def judge(
    spec: ToolSpec, arguments: dict[str, Any], *, mode: PermissionMode, rules: Sequence[PermissionRule]
) -> Ruling:
    """Rule on one call. A deny rule wins over everything, an ask rule over allow rules, those over the mode."""
    if rules:
        matching = [rule for rule in rules if rule.matches(spec.name, arguments)]
        for action in ("deny", "ask", "allow"):
            for rule in matching:
                if rule.action == action:
                    reason = rule.reason or f"a rule says {action} for {rule.tool}"
                    return Ruling(rule.action, "permission", reason)
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


def normalise(value: Any) -> str:
    """Text in the one form rules compare: NFKC, case-folded, stripped of outer space."""
    return unicodedata.normalize("NFKC", str(value)).casefold().strip()


def _why_asked(spec: ToolSpec) -> str:
    return f"{spec.name} is destructive" if spec.destructive else f"{spec.name} needs approval"
